"""Adapters: any model file or live object becomes a `Graph`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import onnx
from onnx import helper

from ..engine.graph.company import reason
from ..engine.graph.graph import DEFAULT_SIZE, Graph
from ..engine.graph.layers import Layer, Source, TensorSpec
from ..engine.graph.preprocessing import Preprocessing, preprocessing_of, whole_numbers
from ..engine.pictures.sides import height_width
from ..errors import ParityError, RefusedInput, UsageError
from .check import check_parity
from .derived import derived_size
from .evidence import from_weights
from .exported import Exported
from .formats import Asked, format_of
from .guard import MAX_CHECKED, MAX_WORK, blamed_on, check_values, check_work, refuse_check, refuse_hidden
from .layers.table import layer_table
from .normalize import Draft, normalize
from .onnx.families import family
from .onnx.metadata import ALIASES_KEY, READS_TEXT, companion_labels, stated_labels, stated_names
from .onnx.precheck import precheck
from .onnx.read import parse
from .preprocessing import companion, embedded, unfit_companion
from .sizes import find_size, stated_size
from .wall import stands
from .wall.limits import allow

if TYPE_CHECKING:
    from ..engine.executors.twin import Twin
    from .twin.build import TwinFactory

__all__ = ["load"]

_CHECK_BYTES = 24  # per value of one image: two images in two executors, and what they need to compute them
_KERAS_EXPORTERS = ("tf2onnx", "keras2onnx")
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
    labels: Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    layout: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    layer: str | Sequence[str] | None = None,
    check: bool = True,
    max_memory: float | None = None,
    max_seconds: float | None = None,
) -> Graph:
    """The normalized graph of a model, whatever framework it comes from.

    A file is imported in a process of its own (on Linux), whose memory and time are bounded; with ``trust``, and live
    objects, in this one.

    Args:
        source: a path (ONNX, Keras, Torch; told by content), an ``onnx.ModelProto``, a ``torch.nn.Module`` or a
            ``keras.Model``.
        arch: ``package.module:callable`` that builds the network, for files that hold weights alone.
        trust: allow formats whose loading runs code from the file (pickled modules, TorchScript, Lambda).
        example_input: for torch modules, a float tensor or NumPy array (N, C, H, W), or a tuple of them; default a
            random one of ``size``, or else of the first usual size that the network takes.
        preprocessing: a preset's name or a `Preprocessing`; default what the file or its companion says.
        labels: class names by index.
        size: side in pixels, or (height, width), where the source leaves the image size open; default what it states,
            or else the first of the usual sizes that it runs at.
        layout: "NCHW" or "NHWC", the source's input layout; default told from the graph.
        inputs: name -> number, array or path of an ``.npy`` file, for inputs beside the picture, each for one picture;
            others get a default that the notes say.
        layer: names and globs that the network must have, so that a wrong one is refused before the check.
        check: compare every tensor of the two executors on a small random image.
        max_memory: GiB that importing a file may take; default 1 (2 where it has to be exported) and 12 times the file.
        max_seconds: processor time that it may take; default 60 (300 where it has to be exported) and 60 per GiB.

    Returns:
        The graph; ``graph.source.notes`` says what was assumed.

    Raises:
        UsageError: no such file or layer, a wrong flag, another size than the file's fixed one.
        RefusedInput: hostile, corrupt or unsupported input.
        ParityError: the executors disagree; the message names the first wrong tensor.
    """
    options: dict[str, Any] = {
        "arch": arch, "example_input": example_input, "preprocessing": preprocessing, "labels": labels,
        "size": None if size is None else height_width(size), "layout": layout,
        "inputs": _given_inputs(inputs or {}), "layer": layer, "check": check,
    }  # fmt: skip
    if isinstance(source, (str, os.PathLike)) and not trust and stands(arch):
        from .wall.parent import load_behind

        with blamed_on(Path(source)):
            return load_behind(Path(source), options, _LazyTwins, max_memory, max_seconds)
    return load_here(source, trust=trust, **options)


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
    check: bool = True,
) -> Graph:
    """The graph, imported in this process without bounds on memory and time; arguments as for `load`."""
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    with blamed_on(path):
        if path is not None:
            found = format_of(path)
            kind = found.name
            beside = companion(path) if size is None else None
            stated = size or (beside.size if beside else None)
            exported = found.read(path, Asked(arch, trust, example_input, stated))
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
        waiting = [exported]
        del exported  # its weights, while the check needs room for two executors

        def build(side: tuple[int, int] | None) -> Graph:
            if waiting:
                made = waiting.pop()
            elif path is not None:
                made = found.read(path, Asked(arch, trust, example_input, side))
            else:
                made = _from_object(source, example_input, side)[1]
            graph = build_graph(made, kind, path, chosen, labels, size=side, layout=layout, given=inputs)
            if layer is not None:
                _require(graph, layer)
            return graph

        graph = (
            find_size(build, READS_TEXT in metadata, tries, derived)
            if size is None
            else _sized(_of_own_size(build(size), size, is_asked=asked is not None), size)
        )
        if preprocessing is None:
            graph = _weighed(graph)
        if check:
            _self_check(graph)
            graph = _with_opaque_noted(graph)
        else:
            graph = _with_refusal_noted(graph)
    return graph if path is not None else replace(graph, modules=_modules(source))


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


def build_graph(
    exported: Exported,
    kind: str,
    path: Path | None,
    preprocessing: Preprocessing,
    labels: Sequence[str] | None = None,
    *,
    size: tuple[int, int] | None = None,
    layout: str | None = None,
    given: Mapping[str, np.ndarray] | None = None,
) -> Graph:
    """Normalizes an exported model and wraps it; no parity check. Arguments as for `load`."""
    opset = next(e.version for e in exported.model.opset_import if e.domain in ("", "ai.onnx"))
    metadata = {p.key: p.value for p in exported.model.metadata_props}
    exported = replace(
        exported,
        names={**stated_names(metadata), **exported.names},
        aliases={**stated_names(metadata, ALIASES_KEY), **exported.aliases},
    )
    producer = exported.producer or _producer(exported.model)
    file_digest = _digest(path) if path else ""
    side = size or preprocessing.size or (DEFAULT_SIZE, DEFAULT_SIZE)
    declared = layout or (preprocessing.layout if preprocessing.found != "assumed" else None)
    draft, canonical = normalize(
        exported.model,
        layout=_layout(declared),
        size=side,
        keep=exported.names,
        given=given,
    )
    layers = layer_table(
        draft,
        canonical,
        _names_of(exported, draft),
        side,
        counts_statistics=kind == "keras" or exported.model.producer_name in _KERAS_EXPORTERS,
    )
    refuse_hidden(draft, layers)
    canonical.graph.value_info.extend(_value_infos(draft, canonical))
    if any(p == (0, 3, 1, 2) and t == draft.inputs[0].name for t, p in draft.permuted.items()):
        preprocessing = replace(preprocessing, layout="NHWC")
    if draft.whole is not None:
        draft.notes.append(f"the file takes {draft.whole}: pictures are rounded to whole numbers, gradients pass on")
        known = preprocessing.found != "assumed"
        preprocessing = (
            replace(preprocessing, whole=True)
            if known
            else replace(whole_numbers(draft.whole), layout=preprocessing.layout, size=preprocessing.size)
        )
    if len(shape := draft.shapes.get(draft.inputs[0].name, ())) == 4 and shape[1] == 1 and preprocessing.order == "RGB":
        preprocessing = replace(preprocessing, order="GRAY")
    if draft.own_input is not None and preprocessing.found == "assumed" and _is_signal(draft):
        preprocessing = replace(preprocessing_of("tf"), order="GRAY", found="assumed")  # samples of sound lie in -1..1
    known = tuple(labels) if labels is not None else _labels(exported, metadata, path, canonical, draft)
    digest = hashlib.sha256(canonical.SerializeToString(deterministic=True)).hexdigest()
    graph = Graph(
        model=canonical,
        layers=layers,
        inputs=tuple(_spec(i, draft) for i in canonical.graph.input),
        outputs=tuple(_spec(o, draft) for o in canonical.graph.output),
        preprocessing=preprocessing,
        source=Source(
            path=str(path) if path else None,
            sha256=file_digest or digest,
            format=kind,
            producer=producer,
            opset=opset,
            notes=(
                *exported.notes,
                *draft.notes,
                *_other_count(known, draft.shapes.get(canonical.graph.output[0].name)),
            ),
            name=exported.name,
        ),
        sha256=digest,
        twin_factory=_LazyTwins(canonical),
        labels=known,
        aliases=_aliases(exported, draft, layers),
        permuted=draft.permuted,
        given=draft.given,
        own_input=draft.own_input,
        own_types=draft.own_types,
        metadata=metadata,
    )
    return graph if graph.mixes_batch is None else replace(graph, source=_alone(graph))


def _alone(graph: Graph) -> Source:
    """The source with a note that pictures are run one at a time."""
    tensor = graph.mixes_batch or ""
    node = graph.index.producer[tensor]
    note = f"'{tensor[:80]}' ({node.op_type}) {reason(node)}: pictures are run one at a time"
    return replace(graph.source, notes=(*graph.source.notes, note))


def _with_opaque_noted(graph: Graph) -> Graph:
    """The graph with a note on each operator that no gradient passes."""
    reasons = list(graph.opaque.values())[:3]
    notes = tuple(f"{reason}: it is computed forward alone, and no gradient passes it" for reason in reasons)
    more = len(graph.opaque) - len(notes)
    notes = (*notes, f"so are {more} more nodes") if more > 0 else notes
    return replace(graph, source=replace(graph.source, notes=(*graph.source.notes, *notes))) if notes else graph


def _with_refusal_noted(graph: Graph) -> Graph:
    """The graph with a note where ONNX Runtime takes none of it: operators that it lacks still have their twin."""
    try:
        graph.session([o.name for o in graph.outputs], device="cpu", optimize=False)
    except RefusedInput as error:
        note = f"{error}: only what the torch twin computes works"
        return replace(graph, source=replace(graph.source, notes=(*graph.source.notes, note)))
    return graph


class _LazyTwins:
    """A twin factory that imports torch at its first use: forward-only work never needs it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model

    @cached_property
    def _factory(self) -> TwinFactory:
        from .twin.build import TwinFactory

        return TwinFactory(self._model)

    def __call__(self, *args: Any, **kwargs: Any) -> Twin:
        return self._factory(*args, **kwargs)

    def opaque(self) -> dict[str, str]:
        """See `Graph.opaque`."""
        found: dict[str, str] = self._factory.opaque()
        return found

    def of(self, model: onnx.ModelProto) -> _LazyTwins:
        """The factory for another model."""
        return _LazyTwins(model)

    def __reduce__(self) -> tuple[type[_LazyTwins], tuple[onnx.ModelProto]]:
        """A copy in another process builds its own factory: converters are functions, which cannot travel."""
        return _LazyTwins, (self._model,)


def _from_object(source: Any, example_input: Any, size: tuple[int, int] | None) -> tuple[str, Exported]:
    root = {c.__module__.split(".")[0] for c in type(source).__mro__}
    if isinstance(source, onnx.ModelProto):
        model = parse(source.SerializeToString(), "the ModelProto")
        precheck(model, "the ModelProto")
        return "onnx", Exported(model)
    if "keras" in root:
        from .keras.load import export_keras

        return "keras", replace(export_keras(source), name=str(source.name))
    if "torch" in root:
        from .torch.load import export_torch

        return "torch", replace(export_torch(source, example_input, size), name=type(source).__name__)
    raise UsageError(
        f"cannot load a {type(source).__name__}; give a path, an onnx.ModelProto, a torch.nn.Module or a keras.Model"
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
                value = np.load(value, allow_pickle=False, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise UsageError(f"input '{name}': '{value}' is no .npy file that can be read ({error})") from None
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
    if known is None:
        return found, ""
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


def _labels(
    exported: Exported, metadata: dict[str, str], path: Path | None, canonical: onnx.ModelProto, draft: Draft
) -> tuple[str, ...] | None:
    """What the source, the file or its companion says."""
    shape = draft.shapes.get(canonical.graph.output[0].name, ())
    classes = shape[1] if len(shape) > 1 else None
    if found := exported.labels or stated_labels(metadata, classes):
        return found
    return companion_labels(path, classes) if path else None


def _other_count(labels: Sequence[str] | None, shape: Sequence[int | None] | None) -> tuple[str, ...]:
    """A note where there are more or fewer names than classes."""
    classes = shape[1] if shape is not None and len(shape) == 2 else None
    if labels is None or classes is None or len(labels) == classes:
        return ()
    return (f"{len(labels):,} class names for {classes:,} classes: they may belong to another model",)


def _layout(declared: str | None) -> str | None:
    if declared not in (None, "NCHW", "NHWC"):
        raise UsageError(f"layout '{declared}' is unknown; use NCHW or NHWC")
    return declared if declared == "NHWC" else None  # NCHW is also the default of every preset


def _names_of(exported: Exported, draft: Draft) -> dict[str, str]:
    """Tensor -> layer name on the canonical graph; of two names for one tensor the earlier layer's wins."""
    names: dict[str, str] = {}
    for tensor, name in exported.names.items():
        names.setdefault(draft.aliases.get(tensor, tensor), name)
    return names


def _aliases(exported: Exported, draft: Draft, layers: Sequence[Layer]) -> dict[str, str]:
    """Removed tensors, layers that do nothing at inference (Dropout) and blocks, to living tensors."""
    aliases = dict(draft.aliases)
    taken = {layer.name for layer in layers}
    further = ((tensor, name) for name, tensor in exported.aliases.items())
    for tensor, name in (*exported.names.items(), *further):
        if name not in taken:
            aliases[name] = draft.aliases.get(tensor, tensor)
    for name, tensor in draft.former_names.items():
        if name not in taken:
            aliases.setdefault(name, tensor)
    return aliases


def _value_infos(draft: Draft, model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Type and rank of every tensor, so that a session can start at any of them."""
    outputs = {o.name for o in model.graph.output}
    infos = []
    for name in (n for node in model.graph.node for n in node.output if n and n not in outputs):
        if draft.types.get(name) and name in draft.shapes:
            dims = [None] * len(draft.shapes[name])
            infos.append(helper.make_tensor_value_info(name, draft.types[name], dims))
    return infos


def _spec(info: onnx.ValueInfoProto, draft: Draft) -> TensorSpec:
    shape = draft.shapes.get(info.name, ())
    kind = info.type.tensor_type.elem_type or draft.types.get(info.name, 1) or 1
    return TensorSpec(info.name, (None, *shape[1:]) if shape else (), str(helper.tensor_dtype_to_np_dtype(kind)))


def _is_signal(draft: Draft) -> bool:
    """Whether the source's input is one row of samples."""
    shape = draft.shapes.get(draft.inputs[0].name, ())
    return len(shape) == 4 and shape[1] == shape[2] == 1


def _producer(model: onnx.ModelProto) -> str:
    return " ".join(p for p in (model.producer_name[:80], model.producer_version[:40]) if p) or "unknown"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
