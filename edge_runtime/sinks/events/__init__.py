"""What an alarm leaves: a clip with pre-roll, its oddest frame, its facts."""
