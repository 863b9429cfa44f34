"""GELU written out in elementary operators, as exports up to opset 19 hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from scipy.special import erf

_POINTS = np.linspace(-3, 3, 13)
_DEPTH = 6  # operators from the input to the erf or tanh, and from there to the result
_OPERATORS: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Erf": erf,
    "Tanh": np.tanh,
}
_CURVES = {
    "none": _POINTS * (1 + erf(_POINTS / 2**0.5)) / 2,
    "tanh": _POINTS * (1 + np.tanh((2 / np.pi) ** 0.5 * (_POINTS + 0.044715 * _POINTS**3))) / 2,
}  # Hendrycks and Gimpel 2016, arXiv:1606.08415


@dataclass(frozen=True)
class WrittenGelu:
    """Where one is.

    Attributes:
        source: the tensor that it reads.
        end: the node that makes its result.
        inner: the tensors in between.
        approximate: "none" or "tanh", as of the operator Gelu.
    """

    source: str
    end: onnx.NodeProto
    inner: frozenset[str]
    approximate: str


def written_gelu(
    node: onnx.NodeProto,
    producer: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, Sequence[onnx.NodeProto]],
    constant: Callable[[str], np.ndarray | None],
) -> WrittenGelu | None:
    """The GELU that an Erf or Tanh belongs to, told by its values at 13 points, however it is written; or None.

    Args:
        node: the Erf or Tanh.
        producer: tensor -> the node that makes it.
        readers: tensor -> the nodes that read it.
        constant: a weight's values, or None.
    """
    if node.op_type not in ("Erf", "Tanh"):
        return None
    for end in _forward(node, readers):
        for source in _backward(node, producer):
            seen: set[str] = set()
            try:
                values = _value(end.output[0], source, producer, constant, seen, 3 * _DEPTH)
            except _Unknown:
                continue
            inner = seen - {end.output[0]}
            closed = all(set(reader.output) <= seen for name in inner for reader in readers.get(name, ()))
            for approximate, curve in _CURVES.items():
                if closed and np.allclose(values, curve, rtol=0, atol=1e-6):
                    return WrittenGelu(source, end, frozenset(inner), approximate)
    return None


class _Unknown(Exception):
    """Something else than elementary operators of one tensor and single numbers."""


def _forward(node: onnx.NodeProto, readers: Mapping[str, Sequence[onnx.NodeProto]]) -> list[onnx.NodeProto]:
    found: list[onnx.NodeProto] = []
    while len(found) < _DEPTH and len(behind := readers.get(node.output[0], ())) == 1:
        node = behind[0]
        if node.op_type not in _OPERATORS:
            break
        found.append(node)
    return found


def _backward(node: onnx.NodeProto, producer: Mapping[str, onnx.NodeProto]) -> list[str]:
    found: list[str] = []
    front = [node.input[0]]
    for _ in range(_DEPTH):
        found += [name for name in front if name not in found]
        made = [producer[name] for name in front if name in producer]
        front = [name for one in made if one.op_type in _OPERATORS for name in one.input]
    return found


def _value(
    name: str,
    source: str,
    producer: Mapping[str, onnx.NodeProto],
    constant: Callable[[str], np.ndarray | None],
    seen: set[str],
    depth: int,
) -> np.ndarray:
    if name == source:
        return _POINTS
    number = constant(name)
    if number is not None and number.size == 1:
        return number.reshape(())
    node = producer.get(name)
    if node is None or number is not None or node.op_type not in _OPERATORS or not depth:
        raise _Unknown
    seen.add(name)
    inputs = [_value(n, source, producer, constant, seen, depth - 1) for n in node.input]
    with np.errstate(all="ignore"):
        return np.asarray(_OPERATORS[node.op_type](*inputs))
