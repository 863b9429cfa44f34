"""Batch-norm folded into the convolution before it, in float64.

y = (conv(x) - mean) / sqrt(var + epsilon) * scale + shift
  = conv'(x)   with weight' = weight * a, bias' = (bias - mean) * a + shift, a = scale / sqrt(var + epsilon)
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import onnx
from torch import nn

from .converters.base import Node, parameter


def is_foldable(node: onnx.NodeProto, norm: onnx.NodeProto, constants: Set[str]) -> bool:
    """Whether all weights of the convolution and the batch-norm are constants."""
    if node.op_type not in ("Conv", "ConvTranspose") or node.domain or norm.input[0] != node.output[0]:
        return False
    return all(name in constants for name in [*node.input[1:], *norm.input[1:]] if name) and len(norm.output) == 1


def fold_into(module: nn.Module, node: onnx.NodeProto, norm: Node) -> None:
    """Replaces the module's ``weight`` and ``bias`` by those that do the batch-norm too."""
    scale, shift, mean, variance = (np.asarray(norm.constant(i), dtype=np.float64) for i in range(1, 5))
    factor = scale / np.sqrt(variance + float(norm.get("epsilon", 1e-5)))
    weight = module.weight.detach().numpy().astype(np.float64)  # type: ignore[operator]
    bias = 0.0 if module.bias is None else module.bias.detach().numpy().astype(np.float64)  # type: ignore[operator]
    if node.op_type == "Conv":
        folded = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    else:  # (in, out / groups, ...): output channel = group * (out / groups) + position
        groups = factor.size // weight.shape[1]
        by_input = np.repeat(factor.reshape(groups, -1), weight.shape[0] // groups, axis=0)
        folded = weight * by_input.reshape(*by_input.shape, *(1,) * (weight.ndim - 2))
    module.weight = parameter(folded.astype(np.float32))
    module.bias = parameter(((bias - mean) * factor + shift).astype(np.float32))
