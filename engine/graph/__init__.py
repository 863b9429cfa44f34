"""The normalized model: the canonical ONNX graph, its layers, its preprocessing and labels."""
