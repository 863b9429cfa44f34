"""Why this class, here: heatmaps over the input for a named target, and proof that they are faithful."""

from ..outputs.target import Target
from .batch import Batch, Executors
from .explain import Attribution, explain, explain_batch
from .registry import METHODS, Method, find_methods
from .targets import segmentation_target, unit_target

__all__ = [
    "METHODS",
    "Attribution",
    "Batch",
    "Executors",
    "Method",
    "Target",
    "explain",
    "explain_batch",
    "find_methods",
    "segmentation_target",
    "unit_target",
]
