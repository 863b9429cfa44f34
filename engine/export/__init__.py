"""A model that explains itself: the backward pass of a heatmap written into the ONNX file as standard nodes."""

from .export import Exported, export

__all__ = ["Exported", "export"]
