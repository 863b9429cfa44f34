"""A model that explains itself: the backward pass of a heatmap written into the ONNX file as standard nodes."""

from .export import Exported, check_method, export
from .scores import score_of

__all__ = ["Exported", "check_method", "export", "score_of"]
