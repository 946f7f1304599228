"""The built-in scene, drawn frame by frame: a camera that everybody has."""
