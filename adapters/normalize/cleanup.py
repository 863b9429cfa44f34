"""Nodes that do nothing at inference time are removed; their tensors become aliases."""

from __future__ import annotations

import numpy as np
import onnx

from .draft import Draft, attribute


def remove_idle_nodes(draft: Draft) -> None:
    """Identity, inference Dropout, Cast to the same type, Pad by nothing, and Transpose in order."""
    reads = draft.consumers()
    outputs = {o.name for o in draft.outputs}
    inputs = {i.name for i in draft.inputs} | set(draft.tensors)
    forward: dict[str, str] = {}
    renamed: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in draft.nodes:
        if not _is_idle(draft, node) or any(reads[name] for name in node.output[1:]):
            kept.append(node)
            continue
        source, result = node.input[0], node.output[0]
        while source in forward:
            source = forward[source]
        source = renamed.get(source, source)
        if result not in outputs:
            forward[result] = source
        elif source in inputs or source in outputs:
            kept.append(node)  # an output that is an input, or another output, needs the node
        else:
            renamed[source] = result  # the graph output keeps its name
    _rename_outputs(kept, renamed)
    draft.nodes = kept
    draft.replace_uses({**forward, **renamed})


def _rename_outputs(nodes: list[onnx.NodeProto], renamed: dict[str, str]) -> None:
    for node in nodes:
        for i, name in enumerate(node.output):
            node.output[i] = renamed.get(name, name)


def _is_idle(draft: Draft, node: onnx.NodeProto) -> bool:
    if node.domain:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":
        if len(node.input) < 3 or not node.input[2]:
            return True
        training = draft.constant(node.input[2])
        return training is not None and not np.any(training)
    if node.op_type == "Cast":
        return draft.types.get(node.input[0], -1) == attribute(node, "to")
    if node.op_type == "Pad":
        pads = attribute(node, "pads") or attribute(node, "paddings")
        if pads is None and len(node.input) > 1:
            pads = draft.constant(node.input[1])
        return pads is not None and not np.any(pads)
    if node.op_type == "Transpose":
        perm = attribute(node, "perm")
        return perm is not None and list(perm) == list(range(len(perm)))
    return False
