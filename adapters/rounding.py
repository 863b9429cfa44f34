"""How far two right float32 computations of one network may lie apart.

A network with random weights can amplify the last bit of its input ten-thousandfold, and the roundings of two
executors with it. How much it does is measured: by what one bit of noise on the input does to each tensor.

Where values are rounded to 8 bit on the way, a difference in the last bit becomes one of a whole step: the
noise then is half a step, and what it moves is the bound.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto

NOISE = 2.0**-23  # relative, of the input: the last bit of a float32
HALF_STEP = 2.0**-9  # relative, of a range in 256 steps
_LAYERS = 10.0  # every layer rounds, and not the input alone
_ROUNDINGS = 2.0  # there is more than one place where a quantized network rounds
_QUANTIZERS = ("QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "QLinearConv", "QLinearMatMul")
FLOAT8 = (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ)
_MOST = 0.05  # a difference above it is a wrong import, however the network amplifies


def rounding_bound(tolerance: float, moved: float, is_quantized: bool = False) -> float:
    """The largest relative difference that rounding explains.

    Args:
        tolerance: what passes for any network.
        moved: relative change of the same tensor when `NOISE` comes to the input, `HALF_STEP` in a quantized network.
        is_quantized: whether the network rounds to 8 bit.
    """
    if is_quantized:
        return max(tolerance, 2 * HALF_STEP, _ROUNDINGS * moved)
    return max(tolerance, min(_LAYERS * moved, _MOST))


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether a file rounds to 8 bit anywhere on the way."""
    return any(node.op_type in _QUANTIZERS or _makes_float8(node) for node in model.graph.node)


def _makes_float8(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i in FLOAT8 for a in node.attribute)
