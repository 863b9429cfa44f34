"""Comparing two models: where they part and why, which filters correspond, how alike their layers are."""

from .result import Comparison
from .verdict import compare

__all__ = ["Comparison", "compare"]
