"""What grows, by name, each with its harmless twin."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from . import hostile_growth as g
from . import hostile_onnx as o
from .hostile_pairs import Pair, Pairs

_INT64, _DOUBLE, _COMPLEX = TensorProto.INT64, TensorProto.DOUBLE, TensorProto.COMPLEX128


def _range(end: int) -> tuple[np.ndarray, ...]:
    return np.array(0), np.array(end), np.array(1)


_PAIRS: dict[str, tuple[o.Build, o.Build]] = {
    "40 functions around an empty one": (o.model(g.empty_functions(40)), o.model(g.empty_functions(4))),
    "a function of 120,000 nodes": (o.model(g.uncalled(120_000)), o.model(g.uncalled(3))),
    "a sum of 200,000": (o.model(g.long_sum(200_000)), o.model(g.long_sum(3))),
    "two ellipses": (o.model(g.equation("a...b..->a")), o.model(g.equation("abcd->abcd"))),
    "100,000 axes": (o.model(g.axes(100_000)), o.model(g.axes(5))),
    "31 overloads of one function": (o.model(g.overloads(31)), o.model(g.overloads(3))),
    "100 tensors on one data file": (g.one_data_file(100, 64), g.one_data_file(2, 1)),
    "a branch with Range 2^40": (o.model(g.branch("Range", *_range(2**40))), o.model(g.branch("Range", *_range(4)))),
    "an outer product of 28,000^2": (o.model(g.outer(28_000)), o.model(g.outer(8))),
    "an einsum of 28,000^2": (o.model(g.einsum(28_000)), o.model(g.einsum(8))),
    "two products of 8192^2": (o.model(g.product(8192, 2)), o.model(g.product(8, 2))),
    "a batch of 8e8": (o.model(g.grown_batch(8 * 10**8)), o.model(g.grown_batch(8))),
    "OneHot of 10^8": (o.model(g.one_hot(10**8)), o.model(g.one_hot(4))),
    **{
        f"{op} by a pixel's value": (o.model(g.size_from_pixels(op, True)), o.model(g.size_from_pixels(op, False)))
        for op in ("ConstantOfShape", "Expand", "Tile", "Range", "Pad")
    },
    "200,000 dimensions of 2^62": (o.model(g.many_dims(200_000, 2**62)), o.model(o.dims(12, 8, 3, 3))),
    "65 dimensions of 1": (o.model(g.many_dims(65, 1)), o.model(o.dims(12, 8, 3, 3))),
    "3 million empty nodes": (g.amplified(1, 3_000_000), o.model(o.unchanged)),
    "3 million empty functions": (g.amplified(25, 3_000_000), o.model(o.unchanged)),
    "3 million empty shapes": (g.amplified(13, 3_000_000), o.model(o.unchanged)),
    "3 million empty weights": (g.amplified(5, 3_000_000), o.model(o.unchanged)),
    "120,000 inputs": (o.model(g.many_inputs(120_000)), o.model(g.many_inputs(3))),
    "120,000 operator sets": (o.model(g.many_opsets(120_000)), o.model(g.many_opsets(3))),
    "120,000 metadata": (o.model(g.much_metadata(120_000)), o.model(g.much_metadata(3))),
    "2^26 int64 out of nothing": (o.model(g.folded(_INT64, 2**26)), o.model(g.folded(_INT64, 8))),
    "2^26 doubles out of nothing": (o.model(g.folded(_DOUBLE, 2**26)), o.model(g.folded(_DOUBLE, 8))),
    "2^36 floats in a sparse constant": (o.model(g.sparse_constant(2**18, 2**18)), o.model(o.unchanged)),
    "-2^31 Div -1": (o.model(g.divided("Div", -1)), o.model(g.divided("Div", 2))),
    "-2^31 Mod -1": (o.model(g.divided("Mod", -1)), o.model(g.divided("Mod", 2))),
    "DepthToSpace 2^40": (o.model(g.blocks(2**40)), o.model(g.blocks(2))),
    "a shape doubled 40 times": (o.model(g.doubled_shape(40)), o.model(g.doubled_shape(2))),
    "an operator of 10 MB": (o.model(g.long_operator(10**7)), o.model(g.long_operator(0))),
    **{
        f"a {where} of 1 MB": (o.model(g.long_names(where, 10**6)), o.model(g.long_names(where, 5)))
        for where in ("node", "weight", "domain")
    },
}
# Seconds to build or to count: the benchmark has them all, the tests one of each kind.
_LONG = {
    "120,000 inputs",
    "120,000 metadata",
    "a function of 120,000 nodes",
    "3 million empty functions",
    "3 million empty shapes",
    "3 million empty weights",
}
PAIRS: Pairs = {name: Pair(hostile, harmless, is_long=name in _LONG) for name, (hostile, harmless) in _PAIRS.items()}
