"""Matrix products. Constant weights are held in torch's (out, in) layout, so that F.linear is used."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Converted, Converter, Function, Node, parameter, pointwise


class Linear(nn.Module):
    """``x @ weight.T + bias`` with weight (out, in) and bias (out,) or None."""

    bias: nn.Parameter | None

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        super().__init__()
        self.weight = parameter(np.ascontiguousarray(weight))
        self.bias = None if bias is None else parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def _matmul(node: Node) -> Converted:
    weight = node.constant(1)
    if weight is not None and weight.ndim == 2 and weight.dtype.kind == "f" and node.constant(0) is None:
        return Converted(Linear(weight.T, None), node.inputs[:1])
    return Converted(Function(torch.matmul), node.inputs)


def _gemm(node: Node) -> Converted:
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    left, right = bool(node.get("transA", 0)), bool(node.get("transB", 0))
    weight, bias = node.constant(1), node.constant(2)
    if weight is not None and weight.dtype.kind == "f" and not left and not node.is_computed(2):
        matrix = (weight if right else weight.T) * np.float32(alpha)
        vector = None if bias is None else np.broadcast_to(bias * np.float32(beta), _row(bias, matrix.shape[0]))
        if vector is None or vector.ndim == 1:
            return Converted(Linear(matrix, vector), node.inputs[:1])

    def general(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = alpha * torch.matmul(a.T if left else a, b.T if right else b)
        return product if c is None else product + beta * c

    return Converted(Function(general), node.inputs)


def _row(bias: np.ndarray, width: int) -> tuple[int, ...]:
    """(width,) for a bias that is one row or one number; its own shape where it varies by row."""
    if bias.size == 1 or bias.shape == (width,):
        return (width,) if bias.ndim <= 1 else bias.shape
    return bias.shape


def _einsum(node: Node) -> Converted:
    equation = str(node.get("equation")).replace(" ", "")
    return Converted(Function(lambda *inputs: torch.einsum(equation, *inputs)), node.inputs)


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "MatMul"): _matmul,
    ("", "Gemm"): _gemm,
    ("", "Einsum"): _einsum,
    ("", "Det"): pointwise(torch.linalg.det),
}
