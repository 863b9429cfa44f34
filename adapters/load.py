"""Adapters: any model file or live object becomes a `Graph`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import onnx

from ..engine.graph.cut import extract
from ..engine.graph.graph import Graph
from ..engine.graph.labels import load_labels
from ..engine.graph.layers import Proof
from ..engine.graph.preprocessing import Preprocessing, preprocessing_of
from ..engine.pictures.arrays import read_npy
from ..engine.pictures.sides import height_width
from ..errors import ParityError, RefusedInput, UnsafeFile, UnsupportedOperator, UsageError
from .beside import pictures_among, value_of
from .build import LazyTwins, build_graph
from .check import check_parity
from .derived import derived_size
from .evidence import from_weights
from .exported import Exported
from .formats import Asked, Format, format_of, named
from .guard import MAX_CHECKED, MAX_WORK, blamed_on, check_values, check_work, refuse_check
from .onnx.families import family
from .onnx.metadata import READS_TEXT, companion_characters
from .onnx.precheck import precheck
from .onnx.read import parse
from .preprocessing import companion, embedded, unfit_companion
from .proofs import Proofs, proof_key, run_key, today
from .sizes import find_size, stated_size
from .wall import stands
from .wall.limits import allow

__all__ = ["load"]

_MOST = 10**6  # GiB, or seconds
_CHECK_BYTES = 24  # per value of one image: two images in two executors, and what they need to compute them
_CHECK_SIZE = 64  # a small random image finds a wrong converter; a head that refuses it gets the full size

# how much may be imported anew in search of a size at which the network runs
_NODES_TRIED, _BYTES_TRIED = 50_000, 2**31


def load(
    source: str | os.PathLike[str] | Any,
    *,
    arch: str | None = None,
    trust: bool = False,
    example_input: Any = None,
    preprocessing: Preprocessing | str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    range: Sequence[float] | None = None,
    order: str | None = None,
    labels: Sequence[str] | str | os.PathLike[str] | None = None,
    size: int | tuple[int, int] | None = None,
    layout: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    layer: str | Sequence[str] | None = None,
    check: bool | None = None,
    max_memory: float | None = None,
    max_seconds: float | None = None,
) -> Graph:
    """The normalized graph of a model, whatever framework it comes from.

    A file is imported in a process of its own (on Linux), whose memory and time are bounded; with ``trust``, and live
    objects, in this one.

    Args:
        source: a path (ONNX, Keras, Torch; told by content), an ``onnx.ModelProto``, a ``keras.Model``, a
            ``torch.nn.Module`` (as it is, wrapped, compiled, in half or double precision, on any device) or a
            ``torch.export.ExportedProgram``.
        arch: ``package.module:callable`` that builds the network, for files that hold weights alone.
        trust: allow formats whose loading runs code from the file (pickled modules, TorchScript, Lambda).
        example_input: for live models, a float tensor or NumPy array (N, C, H, W), of Keras (N, H, W, C), or a tuple
            of them; default a random one of ``size``, or else of the first usual size that the network takes.
        preprocessing: a preset's name or a `Preprocessing`; default what the file or its companion says.
        mean: subtracted after the range, one number or one per channel; stated over the preprocessing.
        std: divided by, one number or one per channel; stated over it.
        range: (low, high), what 0 and 1 of a picture become first; stated over it.
        order: "RGB", "BGR" or "GRAY"; stated over it.
        labels: class names by index, a file of them (`graph.labels.load_labels`), or ``imagenet``.
        size: side in pixels, or (height, width), where the source leaves the image size open; default what it states,
            or else the first of the usual sizes that it runs at.
        layout: "NCHW" or "NHWC", the source's input layout; default told from the graph.
        inputs: name -> number, array, path of an ``.npy`` file, or picture (a path or a Pillow image), for inputs
            beside the picture, each for one picture; others get a default that the notes say.
        layer: names and globs that the network must have, so that a wrong one is refused before the check.
        check: compare every tensor of the two executors on a small random image. By default a file is compared once,
            and what was found is kept in the cache folder for this version; True compares now, False never.
        max_memory: GiB that importing a file may take; default 1 (2 where it has to be exported) and 12 times the file.
        max_seconds: processor time that it may take; default 60 (300 where it has to be exported) and 60 per GiB.

    Returns:
        The graph; ``graph.source.notes`` says what was assumed.

    Raises:
        UsageError: no such file or layer, a wrong flag, another size than the file's fixed one.
        RefusedInput: hostile, corrupt or unsupported input.
        ParityError: the executors disagree; the message names the first wrong tensor.
    """
    stated: dict[str, Any] = {"mean": mean, "std": std, "range": range, "order": order}
    Preprocessing().changed(**stated)  # refused before the file is read, as a preset that there is none of
    if isinstance(preprocessing, str):
        preprocessing_of(preprocessing)
    _check_limits(max_memory=max_memory, max_seconds=max_seconds)
    if isinstance(labels, (str, os.PathLike)):
        labels = load_labels(labels)
    options: dict[str, Any] = {
        "arch": arch, "example_input": example_input, "preprocessing": preprocessing, "labels": labels,
        "size": None if size is None else height_width(size), "layout": layout, "layer": layer,
    }  # fmt: skip
    limits: dict[str, Any] = {"trust": trust, "max_memory": max_memory, "max_seconds": max_seconds}
    notes: tuple[str, ...] = ()
    if pictures := pictures_among(inputs or {}):
        blank = {**(inputs or {}), **dict.fromkeys(pictures, 0.0)}
        found = load(source, **options, **stated, **limits, inputs=blank, check=False)
        values = {name: value_of(found, name, picture) for name, picture in pictures.items()}
        inputs = {**blank, **{name: value for name, (value, _) in values.items()}}
        notes = tuple(note for _, note in values.values())
    options |= {"inputs": _given_inputs(inputs or {}), "check": check}
    return _noted(_with_stated(_loaded(source, options, limits), stated), notes)


def _loaded(source: str | os.PathLike[str] | Any, options: dict[str, Any], limits: dict[str, Any]) -> Graph:
    """The graph of a file, in a process of its own where one stands, or of a live object; arguments as of `load`."""
    trust, check = limits["trust"], options["check"]
    unbounded = [f"{name}=" for name in ("max_memory", "max_seconds") if limits[name] is not None]
    if not isinstance(source, (str, os.PathLike)):
        graph = load_here(source, trust=trust, **options)
        said = _of_no_use(graph, "a live object", ("example_input",), {**options, "trust": trust})
        return _noted(graph, (*said, *_no_bounds(unbounded, "a live object")))
    path = Path(source)
    trust = trust and "trust" in format_of(path).takes
    proofs = Proofs() if check is False else Proofs.of(path)
    if check:  # afresh, whatever is known
        proofs = replace(proofs, known={})
    options["proven"] = proofs.known
    if trust or not stands(options["arch"]):
        graph = load_here(path, trust=trust, **options)
        graph = _noted(graph, _no_bounds(unbounded, "a file whose code is trusted" if trust else "files here"))
    else:
        from .wall.parent import load_behind

        with blamed_on(path):
            graph = load_behind(path, options, LazyTwins, limits["max_memory"], limits["max_seconds"])
    kind = graph.source.format
    said = _of_no_use(graph, f"a file of the format {kind}", named(kind).takes, {**options, "trust": limits["trust"]})
    graph = _noted(graph, said)
    return graph if check is False else proofs.settle(graph)


def _of_no_use(graph: Graph, what: str, takes: Sequence[str], options: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes on what the user has said of a source that does not concern it."""

    def is_said(value: Any) -> bool:
        return value is not None and value is not False

    said = [name for name in ("trust", "example_input") if name not in takes and is_said(options[name])]
    notes = [f"{name}= is of no use: {what} needs none" for name in said]
    if options["arch"] is not None and graph.source.arch is None:
        notes.append(f"arch={options['arch']} is not used: {what} holds its network")
    return tuple(notes)


def _no_bounds(limits: Sequence[str], what: str) -> tuple[str, ...]:
    return tuple(f"{limit} has no effect: {what} is imported in this process, without bounds" for limit in limits)


def _noted(graph: Graph, notes: Sequence[str]) -> Graph:
    if not notes:
        return graph
    return replace(graph, source=replace(graph.source, notes=(*graph.source.notes, *notes)))


def _check_limits(**limits: float | None) -> None:
    """Raises UsageError for a limit that is none."""
    for name, limit in limits.items():
        if limit is not None and not (isinstance(limit, int | float) and 0 < limit <= _MOST):
            raise UsageError(f"{name}={limit} is not a positive number up to {_MOST:,}")


def _with_stated(graph: Graph, stated: Mapping[str, Any]) -> Graph:
    """The graph with a preprocessing that the user states in part.

    Raises:
        UsageError: a mean or std of another length than the input has channels.
    """
    changed = graph.preprocessing.changed(**stated)
    if changed.found in ("flag", "preset"):
        changed.bounds(graph.channels)
    return replace(graph, preprocessing=changed)


def load_here(
    source: str | os.PathLike[str] | Any,
    *,
    arch: str | None = None,
    trust: bool = False,
    example_input: Any = None,
    preprocessing: Preprocessing | str | None = None,
    labels: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    layout: str | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    layer: str | Sequence[str] | None = None,
    check: bool | None = None,
    proven: Mapping[str, Proof] | None = None,
) -> Graph:
    """The graph, imported in this process without bounds on memory and time; arguments as for `load`.

    A graph of which an earlier check is known (``proven``, by `proof_key`) is not checked again.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    with blamed_on(path):
        if path is not None:
            found = format_of(path)
            kind = found.name
            beside = companion(path) if size is None else None
            stated = size or (beside.size if beside else None)
            exported = _read(found, path, Asked(arch, trust, example_input, stated))
            if preprocessing is None:
                exported = replace(exported, notes=(*exported.notes, *unfit_companion(path)))
        else:
            kind, exported = _from_object(source, example_input, size)
        chosen, note = _of_family(_preprocessing(preprocessing, exported, path), exported)
        exported = replace(exported, notes=(*exported.notes, note)) if note else exported
        metadata = {p.key: p.value for p in exported.model.metadata_props}
        asked, size = size, size or chosen.size or stated_size(metadata)
        tries = max(2, min(_NODES_TRIED // len(exported.model.graph.node), _BYTES_TRIED // (_bytes(path) + 1)))
        derived = derived_size(exported.model) if size is None else None
        together = _stated_batch(exported.model)
        waiting = [exported]
        del exported  # its weights, while the check needs room for two executors

        def runs(graph: Graph, side: tuple[int, int]) -> bool:
            return any(proof.ran == run_key(graph, side) for proof in (proven or {}).values())

        def build(side: tuple[int, int] | None) -> Graph:
            if waiting:
                made = waiting.pop()
            elif path is not None:
                made = _read(found, path, Asked(arch, trust, example_input, side))
            else:
                made = _from_object(source, example_input, side)[1]
            graph = build_graph(made, kind, path, chosen, labels, size=side, layout=layout, given=inputs)
            if layer is not None:
                _require(graph, layer)
            return graph

        graph = (
            find_size(build, READS_TEXT in metadata, tries, derived, runs)
            if size is None
            else _sized(_of_own_size(build(size), size, is_asked=asked is not None), size)
        )
        if preprocessing is None:
            graph = _weighed(graph)
        if check is False:
            graph = _with_refusal_noted(graph)
        else:
            is_searched = size is None and (None in graph.inputs[0].shape[2:4] or bool(graph.decided))
            try:
                graph = _checked(graph, proven or {}, run_key(graph, graph.image_size) if is_searched else "")
            except RefusedInput as error:
                if together < 2 or isinstance(error, UnsafeFile | UnsupportedOperator):
                    raise
                raise type(error)(
                    f"{error}; the file is made for {together} pictures at once and does not run with another number: "
                    "export it for one, or for any number"
                ) from error
    if path is None:
        return replace(graph, modules=_modules(source))
    return replace(graph, source=replace(graph.source, trusted=trust)) if trust else graph


def _stated_batch(model: onnx.ModelProto) -> int:
    """How many pictures the first input takes at once; 0 where that is open, or it has no axis for it."""
    weights = {t.name for t in model.graph.initializer}
    shapes = [i.type.tensor_type.shape.dim for i in model.graph.input if i.name not in weights]
    return int(shapes[0][0].dim_value) if shapes and len(shapes[0]) > 3 else 0


def _read(found: Format, path: Path, asked: Asked) -> Exported:
    """What a file holds; a reader's characters that stand beside it become its metadata."""
    exported = found.read(path, asked)
    listed = companion_characters(path)
    if listed is not None and all(p.key != READS_TEXT for p in exported.model.metadata_props):
        exported.model.metadata_props.add(key=READS_TEXT, value=listed)
    return exported


def _require(graph: Graph, layer: str | Sequence[str]) -> None:
    """Raises UsageError where the graph lacks a layer that is asked for: as one name, or as names and globs."""
    try:
        graph.layer(layer)
    except UsageError:
        graph.match(layer)


def _modules(source: Any) -> Mapping[Any, str]:
    """The parts of a live network by identity, so that a layer can be named by the object itself."""
    if hasattr(source, "named_modules"):
        return WeakKeyDictionary({module: name for name, module in source.named_modules() if name})
    if hasattr(source, "_flatten_layers"):
        return WeakKeyDictionary({layer: layer.name for layer in source._flatten_layers(include_self=False)})
    return {}


def _checked(graph: Graph, proven: Mapping[str, Proof], ran: str) -> Graph:
    """The graph with its proof, made now where none is known; ``ran`` as of `Proof`.

    Raises:
        ParityError: the executors disagree. RefusedInput: they cannot be compared.
    """
    proof = proven.get(proof_key(graph))
    if proof is None or (ran and not proof.ran):
        _self_check(graph)
        proof = Proof(today(), notes=_opaque(graph), ran=ran)
    return replace(graph, proof=proof, source=replace(graph.source, notes=(*graph.source.notes, *proof.notes)))


def _opaque(graph: Graph) -> tuple[str, ...]:
    """A note on each of the first operators that no gradient passes."""
    reasons = list(graph.opaque.values())[:3]
    notes = tuple(f"{reason}: it is computed forward alone, and no gradient passes it" for reason in reasons)
    more = len(graph.opaque) - len(notes)
    return (*notes, f"so are {more} more nodes") if more > 0 else notes


def _with_refusal_noted(graph: Graph) -> Graph:
    """The graph with a note where ONNX Runtime takes none of it: operators that it lacks still have their twin.

    It is asked about the nodes alone; only where it refuses these is the whole prepared, since some need their weights.
    """
    names = [o.name for o in graph.outputs]
    try:
        if _takes_nodes(graph, names):
            return graph
        graph.session(names, device="cpu", optimize=False)
    except RefusedInput as error:
        note = f"{error}: only what the torch twin computes works"
        return replace(graph, source=replace(graph.source, notes=(*graph.source.notes, note)))
    return graph


def _takes_nodes(graph: Graph, outputs: Sequence[str]) -> bool:
    """Whether ONNX Runtime has kernels for all of it, the large weights being inputs, whose values it need not read."""
    from ..engine.executors.session import Session

    model = extract(graph.model, list(graph.model.graph.input), outputs, graph.index, hollow=True)
    large = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    kept = [t for t in model.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.input.extend(onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large)
    try:
        Session(model, "cpu", optimize=False)
    except RefusedInput:
        return False
    return True


def _from_object(source: Any, example_input: Any, size: tuple[int, int] | None) -> tuple[str, Exported]:
    root = {c.__module__.split(".")[0] for c in type(source).__mro__}
    if isinstance(source, onnx.ModelProto):
        model = parse(source.SerializeToString(), "the ModelProto")
        precheck(model, "the ModelProto")
        return "onnx", Exported(model)
    if "keras" in root:
        from .keras.load import export_keras

        return "keras", replace(export_keras(source, example_input, size=size), name=str(source.name))
    if "torch" in root:
        from .torch.live import unwrapped
        from .torch.load import export_torch

        name = type(unwrapped(source)).__name__
        return "torch", replace(export_torch(source, example_input, size), name=name)
    raise UsageError(
        f"cannot load a {type(source).__name__}; give a path, an onnx.ModelProto, a torch.nn.Module, a torch.export "
        "program or a keras.Model"
    )


def _bytes(path: Path | None) -> int:
    return path.stat().st_size if path is not None else 0


def _given_inputs(inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The values of inputs beside the picture; a path is read as ``.npy``.

    Raises:
        UsageError: a value that is neither a number, an array nor such a file.
    """
    found: dict[str, np.ndarray] = {}
    for name, value in inputs.items():
        if isinstance(value, (str, os.PathLike)):
            try:
                value = read_npy(value)
            except RefusedInput as error:
                raise UsageError(f"input '{name}': {error}") from None
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise UsageError(
                f"input '{name}' is {type(value).__name__} of {array.dtype}, neither a number nor an array"
            )
        found[name] = array
    return found


def _of_own_size(graph: Graph, size: tuple[int, int], *, is_asked: bool) -> Graph:
    """The graph with the size that its input is fixed at, where another is stated.

    Raises:
        UsageError: the user states another.
    """
    shape = graph.inputs[0].shape
    sides = shape[2:4] if len(shape) == 4 else (None, None)
    own = sides[0] or size[0], sides[1] or size[1]
    if own == size:
        return replace(graph, preprocessing=replace(graph.preprocessing, size=size)) if is_asked else graph
    fixed, stated = (f"{height}x{width}" for height, width in (own, size))
    if is_asked:
        raise UsageError(
            f"the size {stated} is asked for, but the model's input is fixed at {fixed}; leave the size out"
        )
    note = f"a size of {stated} is stated, but the model's input is fixed at {fixed}, which is taken"
    source = replace(graph.source, notes=(*graph.source.notes, note))
    return replace(graph, preprocessing=replace(graph.preprocessing, size=own), source=source)


def _sized(graph: Graph, size: tuple[int, int]) -> Graph:
    """The graph with the stated size where its preprocessing names none."""
    if graph.preprocessing.size is not None:
        return graph
    return replace(graph, preprocessing=replace(graph.preprocessing, size=size))


def _preprocessing(given: Preprocessing | str | None, exported: Exported, path: Path | None) -> Preprocessing:
    if isinstance(given, str):
        return preprocessing_of(given)
    if given is not None:
        return given
    return exported.preprocessing or embedded(exported.model) or (companion(path) if path else None) or Preprocessing()


def _of_family(found: Preprocessing, exported: Exported) -> tuple[Preprocessing, str]:
    """What the file's form says where nothing else does, and a note."""
    known = family(exported.model) if found.found == "assumed" else None
    if known is None or known.preprocessing is None:
        return found, known.doubt if known is not None else ""
    return known.preprocessing, (
        f"the file states no preprocessing; it has the form of {known.name}, and their own is taken; "
        "preprocessing= overrules"
    )


def _weighed(graph: Graph) -> Graph:
    """The graph with the preprocessing that its weights fit, where nothing states one."""
    if graph.preprocessing.found not in ("assumed", "family"):
        return graph
    told = from_weights(graph)
    if told is None:
        return graph
    source = replace(graph.source, notes=(*graph.source.notes, f"{told.reason}; preprocessing= overrules"))
    return replace(graph, preprocessing=told.preprocessing, source=source)


def _self_check(graph: Graph) -> None:
    """On a small image where the head allows it or the own size is too large; a fixed head needs the full one.

    Raises:
        UnsafeFile: an image makes more values than the check takes.
    """
    spec = graph.inputs[0].shape
    fixed = len(spec) == 4 and (spec[2] is not None or spec[3] is not None)
    small = (_CHECK_SIZE, _CHECK_SIZE)
    allow(_CHECK_BYTES * min(max(check_values(graph), check_values(graph, small)), MAX_CHECKED))
    affordable = check_values(graph) <= MAX_CHECKED and check_work(graph) <= MAX_WORK
    small_affordable = check_values(graph, small) <= MAX_CHECKED and check_work(graph, small) <= MAX_WORK
    if not (fixed and affordable) and small_affordable:
        try:
            check_parity(graph, size=small)
            return
        except ParityError:
            raise
        except RefusedInput:
            pass  # the head refuses so small an image
    if not affordable:
        raise refuse_check(graph)
    check_parity(graph, batch=1 if fixed else 2)
