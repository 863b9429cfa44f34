"""What a file leaves to the runtime, stated: the padding "same" beside dilation, and the order of a TopK.

Of pools ONNX Runtime works out the padding "same" without the dilation, so that the map shrinks although the
specification says ceil(size / stride); of convolutions it refuses the two together. A pool is what its users run, ONNX
Runtime's; a convolution, which it never ran, is what the specification says.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ...engine.graph.index import attributes
from ..twin.geometry import Window
from .draft import Draft
from .shapes import image_shape

_POOLS = {"MaxPool", "AveragePool", "LpPool"}
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}  # the weight's place


def state_padding(draft: Draft) -> bool:
    """Writes the padding that auto_pad SAME means beside dilation: as numbers, or as nodes where the size decides.

    A pool of an open size with strides stays as it is: ONNX Runtime takes it.

    Returns:
        Whether anything was changed.
    """
    is_open = any(None in (image_shape(i) or (None,))[1:] for i in draft.inputs)
    changed = False
    for node in list(draft.nodes):
        window = _dilated(draft, node)
        if window is None:
            continue
        if is_open and prod(window.strides) > 1:
            changed |= _padded_by_size(draft, node, window)
            continue
        sizes = [1] * len(window.kernel) if prod(window.strides) == 1 else draft.shapes.get(node.input[0], ())[2:]
        if len(sizes) != len(window.kernel) or None in sizes:
            continue
        begins, ends = window.pads([int(size or 0) for size in sizes])
        _state(node, [*begins, *ends])
        changed = True
    return changed


def _state(node: onnx.NodeProto, pads: list[int]) -> None:
    kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", pads)])


def _padded_by_size(draft: Draft, node: onnx.NodeProto, window: Window) -> bool:
    """Puts a Pad in front of a convolution whose padding is told from the map's size while the network runs.

    By the specification the map has ceil(size / stride) places, so that (places - 1) * stride + reach - size are
    added, half of them in front; of an odd number SAME_UPPER has the rest at the end.
    """
    if node.op_type != "Conv":
        return False
    rank, made = len(window.kernel), node.output[0]

    def constant(what: str, values: list[int]) -> str:
        name = draft.fresh(f"{made}_{what}")
        draft.set_constant(name, np.array(values, dtype=np.int64))
        return name

    nodes: list[onnx.NodeProto] = []

    def add(op: str, what: str, *inputs: str, **options: Any) -> str:
        name = draft.fresh(f"{made}_{what}")
        nodes.append(helper.make_node(op, list(inputs), [name], name=name, **options))
        return name

    one, two, none = constant("one", [1]), constant("two", [2]), constant("none", [0])
    strides, reach = constant("strides", window.strides), constant("reach", window.reach)
    first, last = constant("first", [2]), constant("last", [2 + rank])
    sizes = add("Slice", "sizes", add("Shape", "shape", node.input[0]), first, last)
    before = add("Div", "before", add("Sub", "less", sizes, one), strides)  # places - 1
    spanned = add("Add", "spanned", add("Mul", "strode", before, strides), reach)
    total = add("Max", "total", add("Sub", "missing", spanned, sizes), none)
    half = add("Div", "half", total, two)
    rest = add("Sub", "rest", total, half)
    begin, end = (half, rest) if window.auto == "SAME_UPPER" else (rest, half)
    others = constant("others", [0, 0])
    pads = add("Concat", "pads", others, begin, others, end, axis=0)
    node.input[0] = add("Pad", "padded", node.input[0], pads)
    _state(node, [0] * 2 * rank)
    at = next(i for i, other in enumerate(draft.nodes) if other is node)
    draft.nodes[at:at] = nodes
    return True


def _dilated(draft: Draft, node: onnx.NodeProto) -> Window | None:
    """The window of a node that has dilation and the padding "same"."""
    options = attributes(node)
    weight = _CONVOLUTIONS.get(node.op_type)
    if node.domain or (weight is None and node.op_type not in _POOLS):
        return None
    stated = options.get("kernel_shape") or (draft.shapes.get(node.input[weight], ())[2:] if weight is not None else ())
    kernel = [int(size) for size in stated if size]
    if not kernel or len(kernel) < len(stated):
        return None
    window = Window(options, kernel, pools=weight is None)
    return window if window.auto.startswith("SAME") and max(window.dilations) > 1 else None


def state_order(nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Lets every TopK put the first first, also those that leave the order open (sorted=0), in subgraphs too.

    Returns:
        The names of the nodes that had left it open.
    """
    found = []
    for node in nodes:
        for inner in (g for a in node.attribute for g in (a.g, *a.graphs)):
            found += state_order(inner.node)
        if node.op_type != "TopK" or node.domain:
            continue
        for entry in node.attribute:
            if entry.name == "sorted" and not entry.i:
                entry.i = 1
                found.append(node.name or node.output[0])
    return found
