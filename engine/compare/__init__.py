"""Comparing two models: where they part and why, which filters correspond, how alike their layers are."""

from .verdict import Comparison, compare

__all__ = ["Comparison", "compare"]
