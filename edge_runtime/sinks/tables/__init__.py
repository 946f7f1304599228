"""Scores and events as lines of a file, and the picture of them."""
