"""Random forms of the operators that slide windows, index, cut, reduce and resize, in both executors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.single_node import difference

Form = tuple[str, list[np.ndarray | None], dict[str, Any], int, int]  # operator, inputs, attributes, outputs, opset
Rng = np.random.Generator


def normal(rng: Rng, *shape: int) -> np.ndarray:
    return np.asarray(rng.normal(0, 1, shape), np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def some_shape(rng: Rng, rank: int, most: int = 4) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(1, most + 1, rank))


def slices(rng: Rng) -> Iterator[Form]:
    rank = int(rng.integers(1, 4))
    x = normal(rng, *some_shape(rng, rank, 6))
    axes = [int(a) for a in rng.permutation(rank)[: rng.integers(1, rank + 1)]]
    far = (-(2**63), 2**63 - 1, -(2**31), 2**31 - 1)
    starts, ends = ([int(rng.choice(far) if rng.random() < 0.2 else rng.integers(-8, 8)) for _ in axes] for _ in "se")
    steps = [int(rng.choice([1, 2, 3, -1, -2])) for _ in axes]
    signed = [a - rank if rng.random() < 0.5 else a for a in axes]
    yield "Slice", [x, whole(*starts), whole(*ends), whole(*signed), whole(*steps)], {}, 1, 13
    yield "Slice", [x], {"starts": starts, "ends": ends, "axes": axes}, 1, 9


def gathers(rng: Rng) -> Iterator[Form]:
    rank = int(rng.integers(1, 4))
    x = normal(rng, *some_shape(rng, rank))
    axis = int(rng.integers(-rank, rank))
    size = x.shape[axis]
    yield "Gather", [x, rng.integers(-size, size, some_shape(rng, int(rng.integers(0, 3))))], {"axis": axis}, 1, 13
    along = [int(rng.integers(1, n + 1)) for n in x.shape]
    along[axis] = int(rng.integers(1, 6))
    places = rng.integers(-size, size, along)
    yield "GatherElements", [x, places], {"axis": axis}, 1, 13
    how = str(rng.choice(["add", "mul", "max", "min"]))
    yield "ScatterElements", [x, places, normal(rng, *along)], {"axis": axis, "reduction": how}, 1, 18
    depth = int(rng.integers(1, rank + 1))
    points = np.stack([rng.integers(-n, n, int(rng.integers(1, 2)) * 3) for n in x.shape[:depth]], -1)
    yield "GatherND", [x, points], {}, 1, 13
    yield "GatherND", [x, points[0]], {}, 1, 13
    yield "ScatterND", [x, points, normal(rng, 3, *x.shape[depth:])], {"reduction": how}, 1, 18
    yield "ScatterND", [x, points[:1], normal(rng, 1, *x.shape[depth:])], {}, 1, 18


def reductions(rng: Rng) -> Iterator[Form]:
    rank = int(rng.integers(1, 5))
    x = normal(rng, *some_shape(rng, rank))
    axes = [int(a) - rank * int(rng.integers(0, 2)) for a in rng.permutation(rank)[: rng.integers(0, rank + 1)]]
    keep = int(rng.integers(0, 2))
    for op in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"):
        idle = int(rng.integers(0, 2))
        yield f"Reduce{op}", [x, whole(*axes)], {"keepdims": keep, "noop_with_empty_axes": idle}, 1, 18
        yield f"Reduce{op}", [x], {"keepdims": keep} | ({"axes": axes} if axes else {}), 1, 11
    axis, last = int(rng.integers(-rank, rank)), int(rng.integers(0, 2))
    for op in ("ArgMax", "ArgMin"):
        yield op, [np.round(x)], {"axis": axis, "keepdims": keep, "select_last_index": last}, 1, 13
    yield "CumSum", [x, np.array(axis)], {"exclusive": last, "reverse": keep}, 1, 14
    yield "TopK", [np.round(x), whole(int(rng.integers(1, x.shape[axis] + 1)))], {"axis": axis, "largest": last}, 2, 11


def resizes(rng: Rng) -> Iterator[Form]:
    x = normal(rng, 1, 2, *some_shape(rng, 2, 8))
    transforms = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    attributes = {"coordinate_transformation_mode": str(rng.choice(transforms))}
    if rng.random() < 0.4:
        roundings = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        attributes |= {"mode": "nearest", "nearest_mode": str(rng.choice(roundings))}
    else:
        attributes |= {"mode": str(rng.choice(["linear", "cubic"])), "antialias": int(rng.integers(0, 2))}  # type: ignore[dict-item]
    scales = np.array([1, 1, *rng.choice([0.5, 0.6, 0.7, 0.8, 1, 1.1, 1.5, 2, 2.7, 3], 2)], np.float32)
    yield "Resize", [x, None, scales], attributes, 1, 18
    yield "Resize", [x, None, None, whole(1, 2, *some_shape(rng, 2, 12))], attributes, 1, 18
    yield "Resize", [x, scales], {"mode": str(rng.choice(["nearest", "linear"]))}, 1, 10
    yield "Upsample", [x, np.maximum(scales, 1)], {"mode": str(rng.choice(["nearest", "linear"]))}, 1, 9


def paddings(rng: Rng) -> Iterator[Form]:
    rank = int(rng.integers(1, 5))
    x = normal(rng, *(int(n) for n in rng.integers(2, 5, rank)))
    for mode, opset in (("constant", 13), ("reflect", 11), ("edge", 18), ("wrap", 19)):
        least = -1 if mode == "constant" and min(x.shape) > 2 else 0
        most = [n if mode == "reflect" else 3 for n in x.shape]
        begins, ends = ([int(rng.integers(least, m)) for m in most] for _ in "be")
        fill = [np.array(2.5, np.float32)] if mode == "constant" else []
        yield "Pad", [x, whole(*begins, *ends), *fill], {"mode": mode}, 1, opset
        axes = [int(a) for a in rng.permutation(rank)[: rng.integers(1, rank + 1)]]
        some = whole(*(begins[a] for a in axes), *(ends[a] for a in axes))
        signed = whole(*(a - rank if rng.random() < 0.5 else a for a in axes))
        yield "Pad", [x, some, None, signed], {"mode": mode}, 1, max(opset, 18)


def _positions(image: tuple[int, ...], kernel: list[int], common: dict[str, list[int]], pads: list[int]) -> int:
    """How many places a window has on an image."""
    ends = pads[len(image) :]
    lines = zip(image, kernel, common["strides"], common["dilations"], pads, ends, strict=False)
    return int(np.prod([(n + b + e - (k - 1) * d - 1) // s + 1 for n, k, s, d, b, e in lines]))


def windows(rng: Rng) -> Iterator[Form]:
    rank, groups = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    kernel, strides, dilations = ([int(n) for n in rng.integers(1, most, rank)] for most in (4, 4, 3))
    x = normal(rng, 2, 2 * groups, *(int(n) for n in rng.integers(7, 11, rank)))
    common: dict[str, Any] = {"strides": strides, "dilations": dilations}
    pads = [int(rng.integers(0, n)) for n in (*kernel, *kernel)]
    same = str(rng.choice(["SAME_UPPER", "SAME_LOWER"]))
    weight, turned = normal(rng, 3 * groups, 2, *kernel), normal(rng, 2 * groups, 3, *kernel)
    yield "Conv", [x, weight], {**common, "group": groups, "pads": pads}, 1, 11
    yield "Conv", [x, weight, normal(rng, 3 * groups)], {"strides": strides, "group": groups, "auto_pad": same}, 1, 22
    yield "ConvTranspose", [x, turned], {**common, "group": groups, "pads": pads}, 1, 11
    sizes = {"output_shape": [n * stride for n, stride in zip(x.shape[2:], strides, strict=True)]}
    how = sizes if rng.random() < 0.5 else {"auto_pad": same}
    yield "ConvTranspose", [x, turned, normal(rng, 3 * groups)], {**common, "group": groups, **how}, 1, 22
    if rank == 2:
        blocks = normal(rng, 2, 3 * kernel[0] * kernel[1], _positions(x.shape[2:], kernel, common, pads))
        yield "Col2Im", [blocks, whole(*x.shape[2:]), whole(*kernel)], {**common, "pads": pads}, 1, 18
    pool = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": int(rng.integers(0, 2))}
    yield "MaxPool", [x], {**pool, "dilations": dilations}, 2, 12
    yield "AveragePool", [x], {**pool, "count_include_pad": int(rng.integers(0, 2)), "dilations": dilations}, 1, 19
    yield "LpPool", [x], {"kernel_shape": kernel, "strides": strides, "pads": pads, "p": int(rng.integers(1, 4))}, 1, 11
    close = {**pool, "strides": [min(s, k) for s, k in zip(strides, kernel, strict=True)], "auto_pad": same}
    del close["pads"]
    yield "MaxPool", [x], {**close, "dilations": dilations}, 2, 12
    yield "AveragePool", [x], {**close, "dilations": dilations, "count_include_pad": int(rng.integers(0, 2))}, 1, 19
    yield "LpPool", [x], {**close, "dilations": dilations, "p": 2}, 1, 18


FAMILIES = (slices, gathers, reductions, resizes, paddings, windows)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("computed", [False, True], ids=["weights", "computed"])
def test_random_forms_equal_onnx_runtime(family: Callable[[Rng], Iterator[Form]], computed: bool) -> None:
    rng = np.random.default_rng(11)
    forms = [form for _ in range(60) for form in family(rng)]
    found = [difference(op, inputs, attributes, n, opset, computed) for op, inputs, attributes, n, opset in forms]
    assert [text for text in found if text] == []
