"""The CUDA device: windows and memory banks on an NVIDIA GPU, in the same stream of work as the engines."""
