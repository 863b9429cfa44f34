"""SplitToSequence and SequenceAt become Split: a sequence of tensors is no tensor, and nobody can look at it.

The torch.export exporter writes ``torch.split``, ``chunk`` and ``unbind`` so, with the pieces taken out by number.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from ...engine.graph.index import reads
from .draft import Draft, attribute, set_attribute


def split_sequences(draft: Draft) -> bool:
    """Rewrites every SplitToSequence whose pieces have known sizes and are taken out by constant numbers.

    Args:
        draft: with constants folded and ``shapes`` filled.

    Returns:
        Whether something changed: shapes are then to be inferred anew.
    """
    kept = {o.name for o in draft.outputs}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in draft.nodes:
        for name in reads(node):
            readers.setdefault(name, []).append(node)
    nodes: list[onnx.NodeProto] = []
    gone: set[int] = set()
    repeated: dict[str, str] = {}
    for node in draft.nodes:
        if id(node) in gone:
            continue
        taken = readers.get(node.output[0], []) if node.op_type == "SplitToSequence" and not node.domain else []
        sizes = _sizes(draft, node) if taken and node.output[0] not in kept else None
        if sizes is None or not all(_place(draft, reader, len(sizes)) is not None for reader in taken):
            nodes.append(node)
            continue
        pieces: dict[int, str] = {}
        for reader in taken:
            place = _place(draft, reader, len(sizes)) or 0
            if pieces.setdefault(place, reader.output[0]) != reader.output[0]:
                if reader.output[0] in kept:
                    nodes.append(helper.make_node("Identity", [pieces[place]], [reader.output[0]], name=reader.name))
                else:
                    repeated[reader.output[0]] = pieces[place]
        nodes.extend(_split(draft, node, sizes, pieces))
        gone.update(id(reader) for reader in taken)
    changed = len(gone) > 0
    draft.nodes = nodes
    draft.replace_uses(repeated)
    draft.sort()
    return changed


def _sizes(draft: Draft, node: onnx.NodeProto) -> list[int] | None:
    """The pieces' sizes along the axis, or None where they are not known."""
    shape = draft.shapes.get(node.input[0], ())
    axis = int(attribute(node, "axis", 0))
    total = shape[axis] if -len(shape) <= axis < len(shape) else None
    if len(node.input) < 2 or not node.input[1]:
        return [1] * total if total else None
    given = draft.constant(node.input[1])
    if given is None:
        return None
    if given.ndim == 1:
        return [int(v) for v in given]
    if given.ndim:
        return None
    chunk = int(given)
    if not total or chunk < 1:
        return None
    return [min(chunk, total - start) for start in range(0, total, chunk)]


def _place(draft: Draft, reader: onnx.NodeProto, count: int) -> int | None:
    """Which piece a SequenceAt takes; None for other readers and computed numbers."""
    if reader.op_type != "SequenceAt" or reader.domain:
        return None
    place = draft.constant(reader.input[1])
    if place is None or not -count <= int(place.reshape(-1)[0]) < count:
        return None
    return int(place.reshape(-1)[0]) % count


def _split(draft: Draft, node: onnx.NodeProto, sizes: list[int], pieces: dict[int, str]) -> list[onnx.NodeProto]:
    """A Split that writes the pieces under the names by which they were taken out."""
    axis = int(attribute(node, "axis", 0))
    whole = len(node.input) > 1 and bool(node.input[1])
    squeezed = not whole and not attribute(node, "keepdims", 1)
    names = [pieces.get(i) or draft.fresh(f"{node.output[0]}/piece") for i in range(len(sizes))]
    written = [draft.fresh(f"{n}/kept") if squeezed and i in pieces else n for i, n in enumerate(names)]
    split = helper.make_node("Split", [node.input[0]], written, name=node.name, axis=axis)
    split.metadata_props.extend(node.metadata_props)
    if draft.opset >= 13:
        split.input.append(_vector(draft, f"{node.output[0]}/sizes", sizes))
    else:
        set_attribute(split, "split", sizes)
    if not squeezed:
        return [split]
    result = [split]
    for i, name in pieces.items():
        squeeze = helper.make_node("Squeeze", [written[i]], [name], name=name)
        if draft.opset >= 13:
            squeeze.input.append(_vector(draft, f"{name}/axes", [axis]))
        else:
            set_attribute(squeeze, "axes", [axis])
        result.append(squeeze)
    return result


def _vector(draft: Draft, stem: str, values: list[int]) -> str:
    name = draft.fresh(stem)
    draft.set_constant(name, np.array(values, dtype=np.int64))
    return name
