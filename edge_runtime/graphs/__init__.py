"""Running one graph of a bundle. Each engine library is imported in its own module, and only when it is used."""
