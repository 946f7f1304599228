"""Video files: frames under their heat map, and H.264 in general."""
