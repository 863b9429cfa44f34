"""The comparison with the source: the file itself, run by the framework that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from ..engine.graph.cut import extract
from ..engine.graph.graph import Graph
from ..errors import RefusedInput
from .check import least_scale, noisy, relative_difference
from .guard import MAX_CHECKED, check_values
from .normalize.stated import state_order
from .onnx.precheck import every_tensor
from .rounding import HALF_STEP, NOISE, is_quantized, rounding_bound
from .wall import stands

MAX_REL = 1e-3  # forward, float32, hundreds of layers
_LAST_BITS: dict[int, float] = {onnx.TensorProto.FLOAT16: 2.0**-10, onnx.TensorProto.BFLOAT16: 2.0**-7}
# what ONNX Runtime says where it lacks an operator in a type, and of the padding "same" of a dilated convolution
_CANNOT = ("NOT_IMPLEMENTED", "Dilation not supported")
_BYTES = 8  # per value of one picture, while the file is run


class Compared(NamedTuple):
    """How far a graph is from its file.

    Attributes:
        rel: the worst relative difference; None where nothing was compared.
        tensors: that were compared.
        bound: of ``rel``.
        reason: why nothing was compared.
        by: what ran the source, for people.
    """

    rel: float | None
    tensors: int
    bound: float
    reason: str | None = None
    by: str | None = None


def source_difference(graph: Graph, feeds: dict[str, np.ndarray]) -> Compared:
    """The worst difference from the source file in ONNX Runtime, Keras or Torch.

    A file that computes in float16 or bfloat16 rounds where the graph does not, and one of 8-bit numbers rounds with
    the last bit of what its runtime fuses: each tensor's bound is what one such rounding of the picture does to it, by
    the measure of `adapters.rounding`. The worst is the nearest to its bound.
    """
    if graph.source.path is None:
        return Compared(None, 0, MAX_REL, "there is no file")
    path = Path(graph.source.path)
    one = {k: v[:1] for k, v in feeds.items()}
    if graph.source.format == "onnx":
        return _against_onnx(graph, path, one)
    return _against_framework(graph, path, one)


def run_here(
    path: Path, feeds: Mapping[str, np.ndarray], arch: str | None = None, trust: bool = False
) -> list[np.ndarray]:
    """What the file's own framework makes of its inputs, in this process; ``arch`` and ``trust`` as it was read with.

    Raises:
        RefusedInput: it cannot be run.
    """
    from .formats import Asked, format_of

    found = format_of(path)
    if found.run is None:
        raise RefusedInput(f"nothing here runs a file of the format {found.name} but by what it was imported as")
    return found.run(path, feeds, Asked(arch, trust))


def _against_framework(graph: Graph, path: Path, feeds: dict[str, np.ndarray]) -> Compared:
    """Output by output; a file that its framework does not run is not compared."""
    from .formats import named

    given = _framework_inputs(graph, feeds)
    try:
        arch, trusted = graph.source.arch, graph.source.trusted
        if stands(arch) and not trusted:
            from .wall.parent import run_behind

            values = run_behind(path, given, _BYTES * min(check_values(graph), MAX_CHECKED), arch)
        else:
            values = run_here(path, given, arch, trusted)
    except RefusedInput as error:
        return Compared(None, 0, MAX_REL, str(error))
    found = graph.session([o.name for o in graph.outputs], device="cpu").run(feeds)
    worst = 0.0
    for name, expected in zip(found, values, strict=True):
        axes = graph.permuted.get(name)
        expected = expected.transpose(axes) if axes is not None and expected.ndim == len(axes) else expected
        worst = max(worst, relative_difference(found[name], expected, least_scale(graph, name)))
    return Compared(worst, len(found), MAX_REL, by=arch or named(graph.source.format).runtime)


def _framework_inputs(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every input of the file by its own name, in its own layout."""
    picture = graph.inputs[0].name
    given = {name: value for name, value in (feeds | graph.given).items() if name != picture}
    x, own = feeds[picture], picture
    if graph.own_input is not None:
        own = graph.own_input[0]
        x = x.reshape([len(x), *(side or -1 for side in graph.own_input[1][1:])])
    axes = graph.permuted.get(picture)
    return {own: x.transpose(np.argsort(axes)) if axes is not None else x} | given


def _against_onnx(graph: Graph, path: Path, feeds: dict[str, np.ndarray]) -> Compared:
    from ..engine.executors.session import Session
    from .onnx.read import read_onnx

    original = read_onnx(path)
    for number, node in enumerate(original.graph.node):
        node.name = f"{node.name}/{number}"  # the runtime refuses two of one name, which change nothing
    state_order(original.graph.node)  # no order of a TopK that leaves it open is wrong
    weights = {t.name for t in original.graph.initializer}
    inputs = [i for i in original.graph.input if i.name not in weights]
    theirs = {o for n in original.graph.node for o in n.output if o}
    ours = [o for n in graph.model.graph.node for o in n.output if o in theirs]
    given = {i.name: _source_input(graph, i, feeds) for i in inputs}
    coarse, last_bit = is_quantized(original), _last_bit(original)
    try:
        expected = Session(extract(original, inputs, ours), device="cpu").run(given)
    except RefusedInput as error:
        if any(lack in str(error) for lack in _CANNOT):
            return Compared(None, 0, MAX_REL, f"ONNX Runtime cannot run the file as it is: {error}")
        raise
    found = graph.session(ours, device="cpu").run(feeds)
    bounds = dict.fromkeys(ours, MAX_REL)
    if coarse or last_bit > NOISE:
        bounds = _bounds_of_rounding(graph, ours, feeds, found, last_bit, coarse)
    picture = graph.own_input[0] if graph.own_input is not None else graph.inputs[0].name
    batch = given[picture].shape[0]
    worst, bound = 0.0, MAX_REL
    for name in ours:
        value = expected[name]
        axes = graph.permuted.get(name)
        value = value.transpose(axes) if axes is not None and value.ndim == len(axes) else value
        if batch > 1 and value.ndim and value.shape[0] == batch:
            value = value[:1]
        rel = relative_difference(found[name], value, least_scale(graph, name))
        if rel / bounds[name] > worst / bound:
            worst, bound = rel, bounds[name]
    return Compared(worst, len(ours), bound, by="ONNX Runtime")


def _bounds_of_rounding(
    graph: Graph,
    names: list[str],
    feeds: dict[str, np.ndarray],
    plain: dict[str, np.ndarray],
    last_bit: float,
    coarse: bool,
) -> dict[str, float]:
    """Tensor -> how far it may lie from the file's.

    The file keeps numbers no finer than ``last_bit``, and where it is ``coarse`` in steps of 8 bit.
    """
    moved = graph.session(names, device="cpu").run(noisy(feeds, HALF_STEP if coarse else last_bit))
    return {
        name: rounding_bound(MAX_REL + last_bit, relative_difference(moved[name], plain[name]), coarse)
        for name in names
    }


def _last_bit(model: onnx.ModelProto) -> float:
    """The last bit, relative to its number, of the coarsest floating type that the file computes in."""
    kinds = {t.data_type for t in every_tensor(model)}
    kinds |= {i.type.tensor_type.elem_type for i in (*model.graph.input, *model.graph.output)}
    kinds |= {entry.i for n in model.graph.node if n.op_type == "Cast" for entry in n.attribute if entry.name == "to"}
    return max(_LAST_BITS.get(kind, NOISE) for kind in kinds)


def _source_input(graph: Graph, info: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """An input of the source file: the picture, what the graph was given for it, or zeros where nothing reads it."""
    from onnx import helper

    tensor = info.type.tensor_type
    if info.name in graph.given:
        return graph.given[info.name].astype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if graph.own_input is not None and info.name == graph.own_input[0]:
        picture = feeds[graph.inputs[0].name]
        return _as_declared(graph, info, picture.reshape([len(picture), *(s or -1 for s in graph.own_input[1][1:])]))
    if info.name not in feeds:
        shape = [d.dim_value or 1 for d in tensor.shape.dim]
        return np.zeros(shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return _as_declared(graph, info, feeds[info.name])


def _as_declared(graph: Graph, info: Any, value: np.ndarray) -> np.ndarray:
    """The canonical input in the source's own layout, dtype and fixed batch."""
    from onnx import helper

    tensor = info.type.tensor_type
    axes = graph.permuted.get(info.name)
    if axes is not None:
        value = value.transpose(np.argsort(axes))
    fixed = tensor.shape.dim[0].dim_value if tensor.HasField("shape") and tensor.shape.dim else 0
    if fixed > 1:
        value = np.repeat(value[:1], fixed, axis=0)
    return value.astype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
