"""Our converters: (domain, operator) -> a function that handles every opset of it.

One file per family. They win over onnx2torch's own, 27 of which are silently wrong on ONNX's node tests.
"""

from __future__ import annotations

from . import (
    activation,
    attention,
    conv,
    deform,
    detection,
    elementwise,
    gather,
    matmul,
    norm,
    pool,
    quantize,
    quantize_microsoft,
    recurrent,
    reduce,
    resize,
    shape,
    signal,
)
from .base import Converter

CONVERTERS: dict[tuple[str, str], Converter] = {
    **elementwise.CONVERTERS,
    **activation.CONVERTERS,
    **conv.CONVERTERS,
    **deform.CONVERTERS,
    **pool.CONVERTERS,
    **norm.CONVERTERS,
    **matmul.CONVERTERS,
    **reduce.CONVERTERS,
    **shape.CONVERTERS,
    **gather.CONVERTERS,
    **resize.CONVERTERS,
    **quantize.CONVERTERS,
    **quantize_microsoft.CONVERTERS,
    **recurrent.CONVERTERS,
    **detection.CONVERTERS,
    **signal.CONVERTERS,
    **attention.CONVERTERS,
}

__all__ = ["CONVERTERS"]
