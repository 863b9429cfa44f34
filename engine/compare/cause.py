"""Why two paired layers differ: attributes, then weights under hypotheses, then recomputation as proof."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .align import Pair
from .operations import ACTIVATIONS, DENSE, POOLS, Operation

_SAME = 1e-6  # relative; float32 weights that went through a fold of batch-norm agree to this


@dataclass(frozen=True)
class Cause:
    """A diagnosis.

    Attributes:
        kind: one word or two, stable, for programs: "padding", "epsilon", "flatten order", ...
        text: one line with the numbers.
        confirmed: True where recomputing B's layer with A's setting gives A's result, None where not tried.
    """

    kind: str
    text: str
    confirmed: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict for ``--json``."""
        return asdict(self)


def causes(
    pair: Pair,
    skipped_a: Sequence[Operation] = (),
    skipped_b: Sequence[Operation] = (),
    flattened: int | None = None,
) -> list[Cause]:
    """What is known to differ between two paired operations, the most telling first; empty where nothing does.

    Args:
        pair: the operations.
        skipped_a: operations of A without a partner, right in front of the pair.
        skipped_b: the same of B.
        flattened: how many channels the feature map has that a dense layer reads as a vector, where it reads one.
    """
    a, b = pair.a, pair.b
    found: list[Cause] = []
    for operations, one, other in ((skipped_a, "A", "B"), (skipped_b, "B", "A")):
        for operation in operations:
            kind = "activation" if operation.kind in ACTIVATIONS else "missing layer"
            found.append(
                Cause(kind, f"{operation.kind} '{operation.name}' is in {one} and has no counterpart in {other}")
            )
    if a.kind != b.kind:
        kind = "activation" if a.kind in ACTIVATIONS else "pool type" if a.kind in POOLS else "operator"
        return [*found, Cause(kind, f"{kind}: {a.kind} in A, {b.kind} in B")]
    found += _attribute_causes(a, b)
    if a.weight is not None and b.weight is not None:
        found += _weight_causes(a, b, flattened)
    found += [
        Cause("quantization", f"what '{own.name}' reads is rounded to {own.reads} in {where}")
        for own, other, where in ((a, b, "A"), (b, a, "B"))
        if own.reads and not other.reads
    ]
    return found


_NAMES = {"pads": "padding", "auto_pad": "padding", "ceil_mode": "pool ceil mode", "kernel_shape": "kernel size"}


_COORDINATES = {"align_corners": "align corners", "half_pixel": "half pixel", "asymmetric": "asymmetric"}
_COORDINATES["pytorch_half_pixel"] = "half pixel, as torch has it"
_GELU = {"none": "exact (erf)", "tanh": "approximated by tanh"}


def _attribute_causes(a: Operation, b: Operation) -> list[Cause]:
    if a.kind == "Resize":
        return _resize_causes(a, b)
    if a.kind == "Gelu":
        ours, theirs = (_GELU.get(str(s.attributes["approximate"]), "unknown") for s in (a, b))
        return [] if ours == theirs else [Cause("activation", f"activation: GELU is {ours} in A, {theirs} in B")]
    found: list[Cause] = []
    for key in sorted({*a.attributes, *b.attributes}):
        one, two = a.attributes.get(key), b.attributes.get(key)
        if one == two:
            continue
        kind = _NAMES.get(key, key)
        if key == "epsilon":
            kind = "epsilon"
        elif a.kind in ACTIVATIONS:
            kind = "activation"
        elif a.kind == "Pad" or (key.startswith("input") and a.kind == "Pad"):
            kind = "padding"
        found.append(Cause(kind, f"{kind}: {key} {_shown(one, key)} in A, {_shown(two, key)} in B"))
    return found


def _resize_causes(a: Operation, b: Operation) -> list[Cause]:
    """Scales against sizes are no difference by themselves: exporters write either."""
    found = []
    for key in ("mode", "coordinates", "rounding", "antialias", "cubic coefficient", "scales", "sizes"):
        one, two = a.attributes.get(key), b.attributes.get(key)
        if one == two or one is None or two is None:
            continue
        if key == "coordinates":
            one, two = _COORDINATES.get(str(one), one), _COORDINATES.get(str(two), two)
        kind = "resize size" if key in ("scales", "sizes") else "resize mode"
        found.append(Cause(kind, f"{kind}: {key} {_shown(one, key)} in A, {_shown(two, key)} in B"))
    return found


def _shown(value: object, key: str) -> str:
    text = "absent" if value is None else ",".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text if len(text) < 60 else text[:57] + "..."
    if key == "pads" and isinstance(value, list) and len(value) == 4 and any(value):
        symmetric = value[:2] == value[2:]
        text += " (symmetric)" if symmetric else " (asymmetric, as SAME pads)"
    return text


def _weight_causes(a: Operation, b: Operation, flattened: int | None) -> list[Cause]:
    assert a.weight is not None and b.weight is not None and a.bias is not None and b.bias is not None
    if a.weight.shape != b.weight.shape:
        return [Cause("weight shape", f"weights of shape {a.weight.shape} in A, {b.weight.shape} in B")]
    if a.norm is not None and b.norm is not None and _close(a.raw, b.raw):
        if _close(a.weight, b.weight) and _close(a.bias, b.bias, np.abs(a.weight).max()):
            return []  # one mean holds the bias that the other adds
        found = _norm_causes(a, b)
        if found:
            return found
    if missing := _bias_before_norm(a, b):
        return [missing]
    if _close(a.weight, b.weight):
        return [] if _close(a.bias, b.bias, np.abs(a.weight).max()) else [_bias_cause(a, b)]
    if a.kind == DENSE and flattened and (cause := _flatten_order(a.weight, b.weight, flattened)):
        return [cause]
    for hypothesis in (_folded_epsilon, _quantized, _rounded, _reordered):
        cause = next(hypothesis(a, b), None)
        if cause is not None:
            return [cause]
    return [_perturbed(a, b)]


def _norm_causes(a: Operation, b: Operation) -> list[Cause]:
    one, two = a.norm, b.norm
    assert one is not None and two is not None
    if not np.isclose(one.epsilon, two.epsilon, rtol=1e-5, atol=0):
        return [Cause("epsilon", f"epsilon of the batch-norm is {one.epsilon:.3g} in A, {two.epsilon:.3g} in B")]
    return [
        Cause("batch-norm", f"the batch-norm's {what} differs, {_relative(x, y):.2g} relative")
        for what, x, y in (
            ("scale", one.scale, two.scale),
            ("bias", one.bias, two.bias),
            ("mean", one.mean, two.mean),
            ("variance", one.var, two.var),
        )
        if not _close(x, y)
    ]


def _bias_before_norm(a: Operation, b: Operation) -> Cause | None:
    """One side adds a bias in front of the batch-norm, the other, folded or not, has the same without it."""
    assert a.weight is not None and a.bias is not None
    for own, other, where in ((a, b, "B"), (b, a, "A")):
        if own.norm is None or own.raw_bias is None or not np.any(own.raw_bias) or not _close(own.weight, other.weight):
            continue
        if other.norm is not None and other.raw_bias is not None and np.any(other.raw_bias):
            continue
        without = own.norm.bias - own.norm.mean * own.norm.factor
        if not _close(own.bias, other.bias) and _close(without, other.bias, float(np.abs(np.asarray(own.bias)).max())):
            return Cause("bias", f"the bias in front of the batch-norm is missing in {where}")
    return None


def _bias_cause(a: Operation, b: Operation) -> Cause:
    assert a.bias is not None and b.bias is not None
    for one, two, where in ((a, b, "B"), (b, a, "A")):
        if np.any(one.bias) and not np.any(two.bias):
            return Cause("bias", f"the bias is missing in {where}")
    changed = int((np.abs(a.bias - b.bias) > _SAME * np.abs(a.bias).max()).sum())
    return Cause(
        "bias", f"the bias differs in {changed} of {len(a.bias)} units, {_relative(a.bias, b.bias):.2g} relative"
    )


def _folded_epsilon(a: Operation, b: Operation) -> Iterator[Cause]:
    """One side holds the batch-norm, the other is folded: does one other epsilon explain every channel?"""
    for one, two, where in ((a, b, "B"), (b, a, "A")):
        if one.norm is None or two.norm is not None or one.raw is None or two.weight is None:
            continue
        axes = tuple(range(1, one.raw.ndim))
        size = (one.raw**2).sum(axis=axes)
        ratio = np.divide((two.weight * one.raw).sum(axis=axes), size, out=np.zeros(len(size)), where=size > 0)
        used = np.abs(ratio) > 1e-9
        if not used.any() or not _close(one.raw * ratio.reshape(-1, *[1] * len(axes)), two.weight):
            continue
        solved = (one.norm.scale[used] / ratio[used]) ** 2 - one.norm.var[used]
        epsilon = float(np.median(solved))
        if epsilon > 0 and np.allclose(solved, epsilon, rtol=0.05, atol=2e-6 * one.norm.var[used].max()):
            text = (
                f"epsilon of the batch-norm is {one.norm.epsilon:.3g}, but {where} was folded with about {epsilon:.3g}"
            )
            yield Cause("epsilon", text)


def _quantized(a: Operation, b: Operation) -> Iterator[Cause]:
    """One side's weights are stored in whole numbers: are they the other's, rounded?"""
    for own, other, where in ((a, b, "A"), (b, a, "B")):
        whole, floats = own.quantized, other.weight if own.norm is None else other.raw
        if whole is None or floats is None or other.quantized is not None or (own.norm and not other.norm):
            continue
        far = int((np.abs(whole.values - floats) > 0.51 * whole.step).sum())
        if far == 0:
            yield Cause("quantization", f"the weights of {where} are the other's rounded to {whole.kind}")
        elif far < whole.values.size / 2:
            yield Cause(
                "quantization",
                f"the weights of {where} are the other's rounded to {whole.kind}, but for {far} of {whole.values.size} "
                "that are further away than rounding takes them",
            )


def _rounded(a: Operation, b: Operation) -> Iterator[Cause]:
    for one, two, where in (
        (a.raw, b.raw, "B"),
        (b.raw, a.raw, "A"),
        (a.weight, b.weight, "B"),
        (b.weight, a.weight, "A"),
    ):
        assert one is not None and two is not None
        with np.errstate(over="ignore"):
            if one.shape == two.shape and np.allclose(one.astype(np.float16), two, rtol=1e-7, atol=0):
                yield Cause("float16", f"the weights of {where} are the other's rounded to float16")
            elif one.shape == two.shape and np.allclose(_bfloat16(one), two, rtol=1e-7, atol=0):
                yield Cause("bfloat16", f"the weights of {where} are the other's rounded to bfloat16")
    for values, other, where in ((a.raw, b.raw, "A"), (b.raw, a.raw, "B")):
        assert values is not None and other is not None
        if values.size > 2048 and len(np.unique(values)) <= 256 * len(values) // 8 and _relative(other, values) < 0.02:
            levels = max(len(np.unique(row)) for row in values)
            if levels <= 256:
                yield Cause("quantization", f"the weights of {where} take at most {levels} values per filter")


def _bfloat16(values: np.ndarray) -> np.ndarray:
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32)


def _reordered(a: Operation, b: Operation) -> Iterator[Cause]:
    """The same numbers in another order: input channels, output channels, rows and columns, flipped kernel."""
    x, y = a.weight, b.weight
    assert x is not None and y is not None
    if x.ndim == 4:
        if x.shape[1] == 3 and _close(x[:, ::-1], y):
            yield Cause("channel order", "the input channels are reversed: one model expects RGB, the other BGR")
        if _close(x[:, :, ::-1, ::-1], y):
            yield Cause("flipped kernel", "the kernels are turned by 180 degrees: convolution against correlation")
        if x.shape[2] == x.shape[3] and _close(x.swapaxes(2, 3), y):
            yield Cause("transposed kernel", "the kernels' rows and columns are exchanged")
    if a.kind == DENSE and (_close(x.T.reshape(x.shape), y) or _close(x, y.T.reshape(x.shape))):
        yield Cause("transposed dense", f"the dense weights {x.shape} are transposed: rows are read as columns")
    stored = a.raw  # a batch-norm's factors belong to the outputs of either
    if stored is not None and stored.ndim == 4 and _close(stored.swapaxes(0, 1), b.raw):
        yield Cause("transposed kernel", "the kernels' input and output channels are exchanged")
    for axis, what in ((0, "output"), (1, "input")):
        order = same_order(np.moveaxis(x, axis, 0), np.moveaxis(y, axis, 0))
        if order is not None:
            moved = np.flatnonzero(order != np.arange(len(order)))
            listed = ", ".join(f"{i}->{order[i]}" for i in moved[:6]) + (", ..." if len(moved) > 6 else "")
            yield Cause("swapped channels", f"{len(moved)} {what} channels are swapped ({listed})")


def _flatten_order(x: np.ndarray, y: np.ndarray, channels: int) -> Cause | None:
    """Are the columns of one those of the other, written for a map that is flattened as (H, W, C)?"""
    if x.shape[1] % channels:
        return None
    order, size = same_order(x.T, y.T), x.shape[1] // channels
    nhwc = np.arange(x.shape[1]).reshape(channels, size).T.reshape(-1)
    for one, other, there in (("B", "A", np.argsort(nhwc)), ("A", "B", nhwc)):
        if order is not None and size > 1 < channels and np.array_equal(order, there):
            text = f"the columns of {one} are those of {other} in the order of NHWC ({channels} channels of {size})"
            return Cause("flatten order", f"flatten order: {text}")
    return None


def same_order(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """(n,) with ``x[i] == y[order[i]]`` for the rows of two arrays, or None where they are not the same rows.

    Rows are brought into the order of a random projection; equal rows are told apart by their place.
    """
    p, q = x.reshape(len(x), -1), y.reshape(len(y), -1)
    if p.shape != q.shape:
        return None
    line = np.random.default_rng(0).normal(size=p.shape[1])
    first, second = np.argsort(p @ line, kind="stable"), np.argsort(q @ line, kind="stable")
    if not _close(p[first], q[second]):
        return None
    order = np.empty(len(p), dtype=np.int64)
    order[first] = second
    return order


def _perturbed(a: Operation, b: Operation) -> Cause:
    assert a.weight is not None and b.weight is not None
    changed = np.abs(a.weight - b.weight).reshape(len(a.weight), -1).max(axis=1) > _SAME * np.abs(a.weight).max()
    units = np.flatnonzero(changed)
    listed = f" ({', '.join(map(str, units[:6]))})" if len(units) <= 6 else ""
    size = _relative(a.weight, b.weight)
    return Cause("weights", f"the weights differ in {len(units)} of {len(changed)} units{listed}, {size:.2g} relative")


def _relative(x: np.ndarray, y: np.ndarray) -> float:
    size = np.linalg.norm(x)
    return float(np.linalg.norm(x - y) / size) if size > 0 else float(np.linalg.norm(y))


def _close(x: np.ndarray | None, y: np.ndarray | None, scale: float = 0.0) -> bool:
    if x is None or y is None or x.shape != y.shape:
        return False
    size = max(float(np.abs(x).max()), scale) if x.size else 0.0
    return bool(np.abs(x - y).max() <= _SAME * size) if x.size else True
