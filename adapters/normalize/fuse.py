"""Exporters that take layers apart: the pieces are put together again.

Keras on the torch backend writes a convolution as Conv and Add, batch-norm as Sub, Mul and Add, and a dense
layer as MatMul and Add. Chains of per-channel constants become one BatchNormalization (or the convolution's
bias), MatMul and Add become Gemm: the same chain as from torch. A tensor that the source names is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Set

import numpy as np
import onnx
from onnx import helper

from .draft import Draft

_AFFINE = ("Add", "Sub", "Mul", "Div")


def fuse(draft: Draft, keep: Set[str]) -> None:
    """Rewrites the draft in place; ``draft.shapes`` must be filled.

    Args:
        draft: the model.
        keep: tensors that must stay, since the source names them.
    """
    _dense(draft, keep)
    _affine_chains(draft, keep)


def _dense(draft: Draft, keep: Set[str]) -> None:
    """MatMul (N, K) x (K, M) and Add (M,) become Gemm."""
    reads = draft.consumers()
    producer = {n.output[0]: n for n in draft.nodes if n.op_type == "MatMul" and not n.domain}
    gone: set[int] = set()
    for index, node in enumerate(draft.nodes):
        if node.op_type != "Add" or node.domain:
            continue
        for product, bias in (tuple(node.input), tuple(node.input)[::-1]):
            matmul, value = producer.get(product), draft.constant(bias)
            if matmul is None or value is None or reads[product] != 1 or product in keep:
                continue
            if draft.types.get(node.output[0]) != onnx.TensorProto.FLOAT:  # of whole numbers there is no Gemm
                continue
            weight = draft.constant(matmul.input[1])
            source = draft.shapes.get(matmul.input[0], ())
            if weight is None or weight.ndim != 2 or len(source) != 2 or value.size != weight.shape[1]:
                continue
            if value.ndim > 2 or value.shape[-1:] != weight.shape[1:]:  # another rank, or one number for each row
                continue
            if value.ndim != 1:
                bias = draft.fresh(f"{bias}/vector")
                draft.set_constant(bias, value.reshape(-1))
            gone.add(id(matmul))
            draft.nodes[index] = helper.make_node(
                "Gemm", [matmul.input[0], matmul.input[1], bias], [node.output[0]], name=matmul.name or node.name
            )
            draft.nodes[index].metadata_props.extend(matmul.metadata_props)
            break
    draft.nodes = [n for n in draft.nodes if id(n) not in gone]


def _affine_chains(draft: Draft, keep: Set[str]) -> None:
    reads = draft.consumers()
    producer = {o: n for n in draft.nodes for o in n.output}
    used: set[int] = set()
    replaced: dict[int, onnx.NodeProto] = {}
    for node in reversed(draft.nodes):
        if id(node) in used or (chain := _chain_ending_at(draft, node, producer, reads, keep)) is None:
            continue
        source, scale, shift, links = chain
        before = producer.get(source)
        free = reads[source] == 1 and source not in keep
        fused = None
        if before is not None and free and np.all(scale == 1):
            fused = _into_bias(draft, before, shift, node.output[0])
        if fused is not None and before is not None:
            used.add(id(before))
        elif len(links) > 1 and before is not None:
            fused = _batch_norm(draft, source, scale, shift, node)
        if fused is not None:
            used.update(id(link) for link in links)
            replaced[id(node)] = fused
    draft.nodes = [replaced.get(id(n), n) for n in draft.nodes if id(n) in replaced or id(n) not in used]
    draft.sort()


def _chain_ending_at(
    draft: Draft,
    node: onnx.NodeProto,
    producer: dict[str, onnx.NodeProto],
    reads: dict[str, int],
    keep: Set[str],
) -> tuple[str, np.ndarray, np.ndarray, list[onnx.NodeProto]] | None:
    """(source, scale, shift, nodes) of the longest chain of per-channel constants that ends at the node.

    Scale and shift are vectors of a value for each channel, or single numbers for all.
    """
    links: list[onnx.NodeProto] = []
    scale: np.ndarray = np.ones(())
    shift: np.ndarray = np.zeros(())
    current, name = node, node.output[0]
    while (step := _affine(draft, current)) is not None:
        source, a, b = step
        with np.errstate(all="ignore"):
            scale, shift = scale * a, scale * b + shift  # what comes later acts on what comes before
        links.append(current)
        name = source
        following = producer.get(source)
        if following is None or reads[source] != 1 or source in keep:
            break
        current = following
    with np.errstate(over="ignore"):
        is_finite = all(np.isfinite(np.float32(value)).all() for value in (scale, shift))
    return (name, scale, shift, links) if links and is_finite else None  # x / 0 * 0 is no multiple of x


def _affine(draft: Draft, node: onnx.NodeProto) -> tuple[str, np.ndarray, np.ndarray] | None:
    """(source, a, b) with output = a * source + b per channel (axis 1), or None."""
    if node.op_type not in _AFFINE or node.domain:
        return None
    shape = draft.shapes.get(node.output[0], ())
    if len(shape) < 2 or not shape[1] or draft.types.get(node.output[0]) != onnx.TensorProto.FLOAT:
        return None
    for position in (1, 0):
        value = draft.constant(node.input[position])
        source = node.input[1 - position]
        if value is None or draft.shapes.get(source) != shape:
            continue
        vector = _per_channel(value, len(shape), shape[1])
        if vector is None or (position == 0 and node.op_type in ("Sub", "Div")):
            return None
        with np.errstate(divide="ignore"):
            return (source, *_AS_AFFINE[node.op_type](vector))
    return None


_Pair = tuple[np.ndarray, np.ndarray]
_AS_AFFINE: dict[str, Callable[[np.ndarray], _Pair]] = {
    "Add": lambda v: (np.ones_like(v), v),
    "Sub": lambda v: (np.ones_like(v), -v),
    "Mul": lambda v: (v, np.zeros_like(v)),
    "Div": lambda v: (1 / v, np.zeros_like(v)),
}


def _per_channel(value: np.ndarray, rank: int, channels: int) -> np.ndarray | None:
    """The constant in float64: a vector along axis 1, or a single number; None where it varies along another axis."""
    if value.size == 1:
        return value.reshape((1,) if value.ndim and channels == 1 else ()).astype(np.float64)
    full = (1,) * (rank - value.ndim) + value.shape
    if len(full) != rank or full[1] != channels or value.size != channels:
        return None
    return value.reshape(-1).astype(np.float64)


def _into_bias(draft: Draft, before: onnx.NodeProto, shift: np.ndarray, result: str) -> onnx.NodeProto | None:
    """The convolution with the shift in its bias, writing ``result``; None for other operators."""
    if before.op_type not in ("Conv", "ConvTranspose") or before.domain or draft.constant(before.input[1]) is None:
        return None
    old = draft.constant(before.input[2]) if len(before.input) > 2 and before.input[2] else None
    if len(before.input) > 2 and before.input[2] and old is None:
        return None
    bias = draft.fresh(f"{result}/bias")
    channels = int(draft.shapes[result][1] or 1)
    whole = np.broadcast_to((0 if old is None else old) + shift, (channels,))
    draft.set_constant(bias, whole.astype(np.float32))
    if old is None and not shift.ndim:
        draft.untrained.add(bias)
    fused = onnx.NodeProto()
    fused.CopyFrom(before)
    del fused.input[:], fused.output[:]
    fused.input.extend([before.input[0], before.input[1], bias])
    fused.output.append(result)
    return fused


def _batch_norm(
    draft: Draft, source: str, scale: np.ndarray, shift: np.ndarray, node: onnx.NodeProto
) -> onnx.NodeProto | None:
    channels = int(draft.shapes[node.output[0]][1] or 1)
    values = {"scale": scale, "bias": shift, "mean": np.zeros(scale.shape), "var": np.ones(scale.shape)}
    names = []
    for key, value in values.items():
        names.append(draft.fresh(f"{node.output[0]}/{key}"))
        draft.set_constant(names[-1], np.broadcast_to(value, (channels,)).astype(np.float32))
        if not value.ndim:
            draft.untrained.add(names[-1])
    fused = helper.make_node(
        "BatchNormalization", [source, *names], [node.output[0]], name=node.name or node.output[0], epsilon=0.0
    )
    fused.metadata_props.extend(node.metadata_props)
    return fused
