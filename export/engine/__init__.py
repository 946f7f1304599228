"""Engines from a bundle's graphs, on the device that runs them; knows no PyTorch."""
