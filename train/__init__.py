"""Training on normal footage, in PyTorch."""
