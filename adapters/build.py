"""An exported model becomes the normalized graph: layers, names, labels and what is known of the source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from ..engine.graph.company import reason
from ..engine.graph.graph import DEFAULT_SIZE, Graph
from ..engine.graph.layers import Layer, Source, TensorSpec
from ..engine.graph.preprocessing import Preprocessing, preprocessing_of, whole_numbers
from ..engine.render.artifacts import sha256_of
from ..errors import UsageError
from .exported import Exported
from .guard import refuse_hidden
from .layers.table import layer_table
from .normalize import Draft, normalize
from .onnx.metadata import ALIASES_KEY, companion_labels, stated_labels, stated_names

if TYPE_CHECKING:
    from ..engine.executors.twin import Twin
    from .twin.build import TwinFactory

_KERAS_EXPORTERS = ("tf2onnx", "keras2onnx")


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
    """Normalizes an exported model and wraps it; no parity check. Arguments as for `load.load`."""
    opset = next(e.version for e in exported.model.opset_import if e.domain in ("", "ai.onnx"))
    metadata = {p.key: p.value for p in exported.model.metadata_props}
    exported = replace(
        exported,
        names={**stated_names(metadata), **exported.names},
        aliases={**stated_names(metadata, ALIASES_KEY), **exported.aliases},
    )
    producer = exported.producer or _producer(exported.model)
    file_digest = sha256_of(path) if path else ""
    side = size or preprocessing.size or (DEFAULT_SIZE, DEFAULT_SIZE)
    stated = preprocessing.layout if preprocessing.found != "assumed" else None
    declared = stated if layout is None else layout
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
        counts_statistics=kind in ("keras", "h5") or exported.model.producer_name in _KERAS_EXPORTERS,
    )
    refuse_hidden(draft, layers)
    canonical.graph.value_info.extend(_value_infos(draft, canonical))
    if any(p == (0, 3, 1, 2) and t == draft.inputs[0].name for t, p in draft.permuted.items()):
        preprocessing = replace(preprocessing, layout="NHWC")
    preprocessing = _fitting(preprocessing, draft)
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
            arch=exported.arch,
        ),
        sha256=digest,
        twin_factory=LazyTwins(canonical),
        labels=known,
        aliases=_aliases(exported, draft, layers),
        permuted=draft.permuted,
        given=draft.given,
        own_input=draft.own_input,
        own_types=draft.own_types,
        decided=draft.decided,
        metadata=metadata,
    )
    return graph if graph.mixes_batch is None else replace(graph, source=_alone(graph))


class LazyTwins:
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

    def of(self, model: onnx.ModelProto) -> LazyTwins:
        """The factory for another model."""
        return LazyTwins(model)

    def __reduce__(self) -> tuple[type[LazyTwins], tuple[onnx.ModelProto]]:
        """A copy in another process builds its own factory: converters are functions, which cannot travel."""
        return LazyTwins, (self._model,)


def _alone(graph: Graph) -> Source:
    """The source with a note that pictures are run one at a time."""
    tensor = graph.mixes_batch or ""
    node = graph.index.producer[tensor]
    note = f"'{tensor[:80]}' ({node.op_type}) {reason(node)}: pictures are run one at a time"
    return replace(graph.source, notes=(*graph.source.notes, note))


def _fitting(preprocessing: Preprocessing, draft: Draft) -> Preprocessing:
    """What the file or its companion states, or what is assumed where that is of another number of channels."""
    shape = draft.shapes.get(draft.inputs[0].name, ())
    channels = shape[1] if len(shape) == 4 else None
    wrong = next((n for n in (len(preprocessing.mean), len(preprocessing.std)) if n not in (1, channels)), None)
    if preprocessing.found not in ("embedded", "companion") or channels is None or wrong is None:
        return preprocessing
    where = "the file" if preprocessing.found == "embedded" else "the file beside it"
    draft.notes.append(
        f"preprocessing that {where} states has {wrong} channels, and the network's input {channels}: it is ignored"
    )
    return replace(Preprocessing(), size=preprocessing.size, layout=preprocessing.layout)


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
