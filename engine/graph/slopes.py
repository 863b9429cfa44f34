"""Where gradients end: operators that pass none on, like comparisons, rounding, counting and choosing indices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from .index import Index, attributes, reads
from .operators import operator

_FLOATS = {
    onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE,
}  # fmt: skip


def stopper(index: Index, sources: Iterable[str], outputs: Sequence[str]) -> onnx.NodeProto | None:
    """The first node that stops the gradient where every way from ``sources`` to ``outputs`` has one, else None.

    What the operator table does not know passes; None too where there is no way at all.
    """
    dependent, sloped = set(sources), set(sources)
    found: onnx.NodeProto | None = None
    for node in index.nodes:
        if dependent.isdisjoint(reads(node)):
            continue
        dependent.update(name for name in node.output if name)
        if _passes(node, sloped):
            sloped.update(name for name in node.output if name)
    if not sloped.isdisjoint(outputs) or dependent.isdisjoint(outputs):
        return None
    needed = index.ancestors(outputs)
    for node in index.nodes:
        if found is None and not needed.isdisjoint(node.output) and not sloped.isdisjoint(reads(node)):
            found = None if _passes(node, sloped) else node
    return found


def _passes(node: onnx.NodeProto, sloped: set[str]) -> bool:
    row = operator(node)
    if row.gradient is False or (node.op_type == "Cast" and attributes(node).get("to") not in _FLOATS):
        return False
    closed = {*(row.unguided or ()), *(row.numbers or ())}
    return any(name in sloped for place, name in enumerate(node.input) if place not in closed)
