"""Why this class, here: heatmaps over the input for a named target, and proof that they are faithful."""

from ..outputs.reading import Question
from ..outputs.target import Target
from .batch import Batch, Executors
from .explain import Attribution, explain, explain_batch
from .registry import METHODS, Method, find_methods, method
from .targets import segmentation_target, unit_target

__all__ = [
    "METHODS",
    "Attribution",
    "Batch",
    "Executors",
    "Method",
    "Question",
    "Target",
    "explain",
    "explain_batch",
    "find_methods",
    "method",
    "segmentation_target",
    "unit_target",
]
