"""Cameras: opened, read in a thread, checked, and opened again when they come back."""
