"""A model that explains itself: the backward pass of a heatmap written into the ONNX file as standard nodes."""

from .export import Exported, check_request, export
from .scores import score_of

__all__ = ["Exported", "check_request", "export", "score_of"]
