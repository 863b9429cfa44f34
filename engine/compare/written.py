"""Activations written out in elementary operators, as exports to older operator sets and of older tools hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from scipy.special import erf, expit

from ..graph.index import attributes

_POINTS = np.linspace(-6, 6, 25)
_DEPTH = 6  # operators from the input to the one that tells, and from there to the result
_TELLING = frozenset({"Erf", "Tanh", "Sigmoid", "HardSigmoid", "Clip", "Exp", "Softplus", "Abs", "Max"})
_ELEMENTARY: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Max": np.maximum,
    "Min": np.minimum,
    "Neg": np.negative,
    "Abs": np.abs,
    "Exp": np.exp,
    "Log": np.log,
    "Reciprocal": np.reciprocal,
    "Erf": erf,
    "Tanh": np.tanh,
    "Sigmoid": expit,
    "Softplus": lambda x: np.logaddexp(x, 0),
    "Relu": lambda x: np.maximum(x, 0),
}
_SOFTPLUS = np.logaddexp(_POINTS, 0)
_SIXTH = round(1 / 6, 6)
_CURVES: tuple[tuple[str, dict[str, object], np.ndarray], ...] = (
    ("Gelu", {"approximate": "none"}, _POINTS * (1 + erf(_POINTS / 2**0.5)) / 2),
    (
        "Gelu", {"approximate": "tanh"},
        _POINTS * (1 + np.tanh((2 / np.pi) ** 0.5 * (_POINTS + 0.044715 * _POINTS**3))) / 2,
    ),
    ("Swish", {"alpha": 1.0}, _POINTS * expit(_POINTS)),
    ("Swish", {"alpha": 1.702}, _POINTS * expit(1.702 * _POINTS)),
    ("HardSwish", {}, _POINTS * np.clip(_POINTS / 6 + 0.5, 0, 1)),
    ("Mish", {}, _POINTS * np.tanh(_SOFTPLUS)),
    ("HardSigmoid", {"alpha": _SIXTH, "beta": 0.5}, np.clip(_POINTS / 6 + 0.5, 0, 1)),
    ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}, np.clip(_POINTS / 5 + 0.5, 0, 1)),
    ("Sigmoid", {}, expit(_POINTS)),
    ("Softplus", {}, _SOFTPLUS),
    ("Softsign", {}, _POINTS / (1 + np.abs(_POINTS))),
)  # fmt: skip
"""Kind and attributes as the ONNX operator's, and values. GELU: Hendrycks and Gimpel 2016, arXiv:1606.08415 (1.702 is
its sigmoid approximation); Swish: Ramachandran et al. 2017, arXiv:1710.05941; hard swish: Howard et al. 2019,
arXiv:1905.02244; Mish: Misra 2019, arXiv:1908.08681."""
KINDS = frozenset({"LeakyRelu", *(kind for kind, _, _ in _CURVES)})


@dataclass(frozen=True)
class Written:
    """An activation that several nodes make.

    Attributes:
        kind, attributes: of the one operator that it stands for.
        source: the tensor that it reads.
        end: the node that makes its result.
        inner: the tensors in between.
    """

    kind: str
    attributes: dict[str, object]
    source: str
    end: onnx.NodeProto
    inner: frozenset[str]


def written_activation(
    node: onnx.NodeProto,
    producer: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, Sequence[onnx.NodeProto]],
    constant: Callable[[str], np.ndarray | None],
) -> Written | None:
    """The largest activation that a node is part of, told by its values at 25 points, however it is written; or None.

    Args:
        node: one that such formulas hold: an Erf, Tanh, Sigmoid, HardSigmoid, Clip, Exp, Softplus, Abs or Max.
        producer: tensor -> the node that makes it.
        readers: tensor -> the nodes that read it.
        constant: a weight's values, or None.
    """
    if node.op_type not in _TELLING:
        return None
    for end in reversed(_forward(node, readers)):
        for source in _backward(node, producer, constant):
            seen: set[str] = set()
            try:
                values = _value(end.output[0], source, producer, constant, seen, 3 * _DEPTH)
            except _Unknown:
                continue
            inner = frozenset(seen - {end.output[0]})
            if not inner or node.output[0] not in seen or np.shape(values) != _POINTS.shape:
                continue
            closed = all(set(reader.output) <= seen for name in inner for reader in readers.get(name, ()))
            if closed and (known := _known(values)) is not None:
                return Written(*known, source, end, inner)
    return None


def _known(values: np.ndarray) -> tuple[str, dict[str, object]] | None:
    for kind, settings, curve in _CURVES:
        if np.allclose(values, curve, rtol=0, atol=2e-6):
            return kind, settings
    slope = float(values[0] / _POINTS[0])
    if 0 < slope < 1 and np.allclose(values, np.where(_POINTS > 0, _POINTS, slope * _POINTS), rtol=0, atol=2e-6):
        return "LeakyRelu", {"alpha": round(slope, 6)}
    return None


class _Unknown(Exception):
    """Something else than elementary operators of one tensor and single numbers."""


def _forward(node: onnx.NodeProto, readers: Mapping[str, Sequence[onnx.NodeProto]]) -> list[onnx.NodeProto]:
    """The node and those behind it, as long as each has one reader that is elementary."""
    found = [node]
    while len(found) <= _DEPTH and len(behind := readers.get(node.output[0], ())) == 1:
        node = behind[0]
        if not _is_elementary(node):
            break
        found.append(node)
    return found


def _backward(
    node: onnx.NodeProto, producer: Mapping[str, onnx.NodeProto], constant: Callable[[str], np.ndarray | None]
) -> list[str]:
    """What the node is computed from, the farthest last."""
    found: list[str] = []
    front = list(node.input)
    for _ in range(_DEPTH):
        found += [name for name in dict.fromkeys(front) if name and name not in found and constant(name) is None]
        made = [producer[name] for name in front if name in producer]
        front = [name for one in made if _is_elementary(one) for name in one.input]
    return found


def _is_elementary(node: onnx.NodeProto) -> bool:
    others = ("Clip", "HardSigmoid", "BatchNormalization")
    return not node.domain and (node.op_type in _ELEMENTARY or node.op_type in others)


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
    if node is None or number is not None or not _is_elementary(node) or not depth:
        raise _Unknown
    seen.add(name)
    if node.op_type == "BatchNormalization":
        scale, shift = _single(node, constant)
        return scale * _value(node.input[0], source, producer, constant, seen, depth - 1) + shift
    inputs = [_value(n, source, producer, constant, seen, depth - 1) if n else None for n in node.input]
    with np.errstate(all="ignore"):
        return _applied(node, inputs)


def _single(node: onnx.NodeProto, constant: Callable[[str], np.ndarray | None]) -> tuple[float, float]:
    """Factor and summand of a batch-norm that is the same for all channels, as imported scalings are."""
    parts = [constant(name) for name in node.input[1:5]]
    if len(parts) < 4 or any(part is None or part.size == 0 or np.ptp(part) != 0 for part in parts):
        raise _Unknown
    scale, bias, mean, variance = (float(np.ravel(part)[0]) for part in parts if part is not None)
    factor = scale / np.sqrt(variance + float(attributes(node).get("epsilon", 1e-5)))
    return factor, bias - mean * factor


def _applied(node: onnx.NodeProto, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
    options, (x, *rest) = attributes(node), inputs
    if x is None:
        raise _Unknown
    if node.op_type == "HardSigmoid":
        return np.clip(float(options.get("alpha", 0.2)) * x + float(options.get("beta", 0.5)), 0, 1)
    if node.op_type == "Clip":  # its bounds are attributes before opset 11
        low, high = [*rest, None, None][:2]
        low = options.get("min", -np.inf) if low is None else low
        high = options.get("max", np.inf) if high is None else high
        return np.clip(x, low, high)
    if node.op_type in ("Max", "Min") and len(rest) != 1:
        raise _Unknown
    return np.asarray(_ELEMENTARY[node.op_type](x, *rest))
