"""ONNX files that nobody has vouched for."""
