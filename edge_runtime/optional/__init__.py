"""Libraries that are somebody's choice, each imported in one place; a missing one names what to install."""
