"""The table: operator -> the function that writes its gradient, one file a family."""

from __future__ import annotations

from .arithmetic import ARITHMETIC
from .base import Gradient, Gradients, Visit
from .matrices import MATRICES
from .normalizations import NORMALIZATIONS
from .pointwise import POINTWISE
from .quantization import QUANTIZATION
from .recurrent import RECURRENT
from .reductions import CONSTANT, REDUCTIONS
from .sampling import SAMPLING
from .shapes import SHAPES
from .spectra import SPECTRA
from .windows import WINDOWS

GRADIENTS: dict[str, Gradient] = {
    **POINTWISE,
    **ARITHMETIC,
    **MATRICES,
    **WINDOWS,
    **REDUCTIONS,
    **NORMALIZATIONS,
    **SHAPES,
    **QUANTIZATION,
    **RECURRENT,
    **SAMPLING,
    **SPECTRA,
}

__all__ = ["CONSTANT", "GRADIENTS", "Gradient", "Gradients", "Visit"]
