"""One run: from a source through the detector into the sinks, with what it keeps, counts and raises."""
