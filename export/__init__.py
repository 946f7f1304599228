"""From a training run to a bundle: the model split at its memory, in ONNX, checked and calibrated."""
