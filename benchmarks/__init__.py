"""What the project claims about speed, size and accuracy, measured: `make bench` writes results/<name>.json."""
