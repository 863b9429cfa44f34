"""The normalized model: one canonical ONNX graph, its layers, and the way to both executors."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...errors import UnsupportedOperator, UsageError
from ..whole import is_whole
from .company import batch_axes, mixing
from .cut import extract
from .heads import Head, chosen_from, find_head
from .index import Index, first_output, reads
from .layers import Layer, Proof, Shape, Source, TensorSpec
from .preprocessing import Preprocessing
from .slopes import stopper
from .tokens import last_tokens

if TYPE_CHECKING:
    from ..executors.session import Session
    from ..executors.twin import Twin

DEFAULT_SIZE = 224  # where neither the file nor the preprocessing names one
_WEIGHING = frozenset({"Sigmoid", "HardSigmoid", "Softmax"})  # what comes out of them weighs other maps


class TwinFactory(Protocol):
    """Builds twins of one model; the adapters have it, since the engine knows no converters."""

    def __call__(self, *args: Any, **kwargs: Any) -> Twin:
        """A twin; arguments as `Graph.twin` passes them."""

    def opaque(self) -> dict[str, str]:
        """See `Graph.opaque`."""

    def of(self, model: onnx.ModelProto) -> TwinFactory:
        """The factory for another model."""


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A normalized model. Immutable; made by `convscope.load`.

    The canonical ONNX has channels-first input (N, C, H, W) with a dynamic batch; every intermediate
    tensor has the same name in the twin and in the session.

    Attributes:
        model: the canonical ONNX.
        layers: the layer table, in order of execution.
        inputs, outputs: of the canonical graph; the one input is the image.
        preprocessing: from a picture in [0, 1] to the image input.
        source: where it comes from.
        sha256: of the canonical ONNX (hex); identifies the graph in every result.
        labels: class names by index, or None where unknown.
        twin_factory: builds the twin; set by the adapters, since the engine knows no converters.
        aliases: names of tensors that normalization removed -> the tensor that carries the same values.
        permuted: tensor -> axes: the canonical tensor is the source file's tensor transposed by these axes.
        given: inputs of the source beside the picture -> the value that each has here, for one picture.
        own_input: name and shape of the source's picture input where that is no (N, C, H, W): a signal, a volume.
        own_types: input or output -> the source's own data type (numpy name), where it is another than here.
        decided: axes of the image input that the source leaves open, and that are fixed here since control flow follows
            from them: another size is another network.
        metadata: what the file says about itself, key -> text (ONNX ``metadata_props``).
        modules: of a live network, its submodules (torch) or layers (Keras) -> their names, by identity.
        proof: that the executors agree, of this run or an earlier one; None where that was not compared.
    """

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing
    source: Source
    sha256: str
    twin_factory: TwinFactory
    labels: tuple[str, ...] | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    permuted: dict[str, tuple[int, ...]] = field(default_factory=dict)
    given: dict[str, np.ndarray] = field(default_factory=dict)
    own_input: tuple[str, Shape] | None = None
    own_types: dict[str, str] = field(default_factory=dict)
    decided: tuple[int, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    modules: Mapping[Any, str] = field(default_factory=dict)
    proof: Proof | None = None

    @property
    def name(self) -> str:
        """A short name for titles: the file's stem, the live object's own name, or the ONNX graph's."""
        from pathlib import Path

        return (
            Path(self.source.path).stem if self.source.path else (self.source.name or self.model.graph.name or "model")
        )

    @property
    def channels(self) -> int:
        """Channels of the image input (3 where the file leaves it open)."""
        shape = self.inputs[0].shape
        return (shape[1] if len(shape) > 1 else None) or 3

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) to use where the user names none."""
        shape = self.inputs[0].shape
        fixed = shape[2:4] if len(shape) == 4 else (None, None)
        chosen = self.preprocessing.size or (DEFAULT_SIZE, DEFAULT_SIZE)
        return fixed[0] or chosen[0], fixed[1] or chosen[1]

    @cached_property
    def index(self) -> Index:
        """Who makes and who reads each tensor of the canonical graph."""
        return Index(self.model.graph)

    @cached_property
    def mixes_batch(self) -> str | None:
        """The first tensor at which pictures of one batch would change one another's results, or None.

        Both executors then run one picture at a time, so that no result depends on its company.
        """
        return self._mixing[0] if self._mixing else None

    @cached_property
    def _mixing(self) -> tuple[str, ...]:
        image = self.inputs[0]
        shapes = {layer.tensor: layer.shape for layer in self.layers}
        own = dict([self.own_input]) if self.own_input is not None else {}  # it is no layer
        return mixing(self.index, image.name, {image.name: image.shape or (None,) * 4, **own, **shapes})

    def runs_alone(self, outputs: Sequence[str]) -> bool:
        """Whether what leads to these tensors is run one picture at a time: it mixes the pictures of a batch."""
        if not self._mixing:
            return False
        above = [self.index.producer.get(name) for name in self.index.ancestors(outputs)]
        return any(node is not None and first_output(node) in self._mixing for node in above)

    @cached_property
    def batch_axes(self) -> dict[str, int]:
        """Tensor -> the axis that counts pictures, of those where it is not 0; see `company.batch_axes`."""
        return batch_axes(self.index, self.inputs[0].name, {layer.tensor: layer.shape for layer in self.layers})

    @cached_property
    def opaque(self) -> dict[str, str]:
        """Operators that the session computes and the twin does not: first output of the node -> why.

        Everything forward works with them. What lies below them, or between them and the outputs, has its twin too.
        """
        return self.twin_factory.opaque()

    @cached_property
    def opaque_outputs(self) -> tuple[str, ...]:
        """The tensors that opaque operators compute, in order of execution."""
        return tuple(name for first in self.opaque for name in self.index.producer[first].output if name)

    @cached_property
    def beyond_opaque(self) -> frozenset[str]:
        """The tensors that the twin cannot compute from the image: those of opaque operators and what follows."""
        return frozenset(self.index.descendants(self.opaque_outputs))

    def head(self, output: str | None = None) -> Head:
        """How an output (the first, where none is named) is made of class logits; see `heads.find_head`."""
        name = output or self.outputs[0].name
        shapes = {layer.tensor: layer.shape for layer in self.layers}
        shapes.update((spec.name, spec.shape) for spec in self.outputs if spec.shape)
        return find_head(self.index, name, shapes)

    @cached_property
    def logits(self) -> str:
        """What a class means: the first output's tensor before a final softmax or sigmoid, or the output itself.

        Where the output is the label alone, the scores (N, K) that it is chosen from, before their softmax or sigmoid.
        """
        first = self.outputs[0]
        scores = None if first.dtype.startswith(("float", "bfloat")) else chosen_from(self.index, first.name)
        if scores is not None:
            found = self.head(scores).logits
            if any(layer.tensor == found and len(layer.shape) == 2 for layer in self.layers):
                return found
        return self.head().logits

    def __repr__(self) -> str:
        shape = " x ".join("N" if i == 0 else "?" if s is None else str(s) for i, s in enumerate(self.inputs[0].shape))
        return (
            f"<Graph {self.name!r}: {len(self.layers)} layers, input {shape}, from {self.source.format} "
            f"({self.source.producer}), sha256 {self.sha256[:12]}>"
        )

    def _repr_html_(self) -> str:
        from ..render.notebook import table

        headers = ("#", "layer", "op", "output", "units", "parameters", "multiply-adds")
        rows = (
            (str(la.index), la.name, la.op, la.shape_text, la.channels, la.parameters, la.macs) for la in self.layers
        )
        return table(repr(self).strip("<>"), headers, rows)

    def layer(self, key: Any) -> Layer:
        """One layer, by human name, tensor name, node name, index, or a glob or list of names that means only one.

        For a live network also by its own submodule (``net.layer4[1]``) or Keras layer.

        A number as text is first a layer's own name (``2`` of a torch Sequential), then an index, as the table
        shows both; only a number beyond the table is a tensor's or node's name (old exporters number tensors).
        An int is always an index; negative ones count from the end.

        Raises:
            UsageError: no such layer, or several; the closest names are in the message.
        """
        if isinstance(key, list | tuple):
            named = {layer.index: layer for layer in (k if isinstance(k, Layer) else self.layer(k) for k in key)}
            return self._single(", ".join(layer.name for layer in named.values()), list(named.values()))
        if not isinstance(key, str) and not is_whole(key):
            key = self._module_name(key)
        if is_whole(key) or (_is_number(key) and not self._is_named(key)):
            index = int(key)
            if not -len(self.layers) <= index < len(self.layers):
                count = len(self.layers)
                raise UsageError(f"layer {index} is out of range: {self.name} has {count} layers (0-{count - 1})")
            return self.layers[index]
        key = self.aliases.get(key, key)
        if key in self._by_name:
            return self._by_name[key]
        hits = [layer for layer in self.layers if fnmatch.fnmatchcase(layer.name, key)]
        if hits or "," in key:
            return self._single(key, hits or self.match(key))
        close = difflib.get_close_matches(key, [layer.name for layer in self.layers], n=3, cutoff=0.4)
        hint = "closest: " + ", ".join(f"'{c}'" for c in close) + "; " if close else ""
        raise UsageError(
            f"layer '{key}' is not in {self.name} ({len(self.layers)} layers); {hint}"
            f"list them: convscope info {self.source.path or 'MODEL'}"
        )

    def _single(self, key: str, hits: Sequence[Layer]) -> Layer:
        """Raises UsageError where what is asked for means several layers, or none."""
        if len(hits) == 1:
            return hits[0]
        some = ", ".join(f"'{layer.name}'" for layer in hits[:4]) + (", ..." if len(hits) > 4 else "")
        raise UsageError(
            f"'{key}' means {len(hits)} layers of {self.name} ({some}); name one of them"
            if hits
            else f"a list without a layer names none of {self.name}; name one"
        )

    def _module_name(self, module: Any) -> str:
        try:
            return self.modules[module]
        except (KeyError, TypeError):  # unknown, or nothing that can be a key
            raise UsageError(
                f"a {type(module).__name__} names no layer of {self.name}; give a name, an index, or a submodule of "
                "the live network that was loaded"
            ) from None

    def _is_named(self, number: str) -> bool:
        """Whether a number as text is a name, not an index."""
        if any(layer.name == number for layer in self.layers):
            return True
        in_table = -len(self.layers) <= int(number) < len(self.layers)
        return not in_table and (number in self._by_name or number in self.aliases)

    def match(self, patterns: str | Sequence[str]) -> tuple[Layer, ...]:
        """Layers by comma-separated names and globs (``block5_conv*,predictions``), in table order.

        A glob means the framework's own layers: what lies inside one, like ``block1_conv1/Conv`` in ``block1_conv1``,
        only where the glob has a slash, or nothing else fits.
        """
        if isinstance(patterns, str):
            patterns = [p.strip() for p in patterns.split(",") if p.strip()]
        if not patterns:
            raise UsageError(f"no layer of {self.name} is named; give names or globs, '*' for all")
        found: set[int] = set()
        for pattern in patterns:
            hits = [la for la in self.layers if fnmatch.fnmatchcase(la.name, pattern)]
            outer = hits if "/" in pattern else [la for la in hits if not self._is_inner(la)]
            found.update(la.index for la in outer or hits or [self.layer(pattern)])
        return tuple(self.layers[i] for i in sorted(found))

    def layer_inputs(self) -> dict[str, list[str]]:
        """Tensor of each layer -> names of the layers, and of the graph's inputs, that its node reads.

        A tensor that is no layer, like a shape, stands for those that it is computed from.
        """
        named = {spec.name: spec.name for spec in self.inputs} | {la.tensor: la.name for la in self.layers}
        above: dict[str, list[str]] = {name: [name] for name in named}
        found: dict[str, list[str]] = {}
        for node in self.index.nodes:
            from_here = list(dict.fromkeys(source for name in reads(node) for source in above.get(name, ())))
            for name in node.output:
                found[name] = [named[source] for source in from_here]
                above[name] = [name] if name in named else from_here
        return {layer.tensor: found.get(layer.tensor, []) for layer in self.layers}

    def _is_inner(self, layer: Layer) -> bool:
        """Whether a layer is a tensor inside another one of the framework's: ``block1_conv1/Conv``."""
        outer, slash, _ = layer.name.rpartition("/")
        return bool(slash) and outer in self._human_names

    def last_spatial_layer(self) -> Layer:
        """The last feature map larger than 1 x 1 on the way to the logits: the default of the CAM family.

        Maps of a signal (N, C, T) and of a volume (N, C, d, h, w) are feature maps too.

        Of a vision transformer the last layer whose tokens of the grid reach the logits, see `last_tokens`. What
        reaches the logits through a gate alone (a map of attention behind a sigmoid) is asked last.

        Raises:
            UsageError: the model has no such layer.
        """
        return self._last_spatial_layer

    @cached_property
    def _last_spatial_layer(self) -> Layer:
        tokens = last_tokens(self.index, self.layers, self.logits)
        found: list[Layer] = []
        unsure: list[Layer] = []  # of a size that is left open, which may be the batch, moved by a Transpose
        for layer in reversed(self.layers):
            sizes = [s for a, s in enumerate(layer.shape) if a not in (0, layer.channel_axis)]
            grid = layer.tokens
            large = layer.is_spatial and all(s is None or s > 1 for s in sizes)
            large = large or (layer.is_unfolded and grid is not None and grid.count > 1)
            if layer is tokens or (large and self._leads_to_logits(layer)):
                (unsure if None in sizes and layer is not tokens else found).append(layer)
        found = found or unsure
        if not found:
            raise UsageError(f"{self.name} has no feature map; take a method that needs none, as saliency")
        values = self._values_of_logits()
        return next((layer for layer in found if layer.tensor in values), found[0])

    def _values_of_logits(self) -> set[str]:
        """What reaches the logits as more than weights of others: not by a gate alone, nor as one map times many."""
        channels = {layer.tensor: layer.channels for layer in self.layers}
        seen, stack = set[str](), [self.logits]
        while stack:
            name = stack.pop()
            node = self.index.producer.get(name)
            if name not in seen and node is not None and node.op_type not in _WEIGHING:
                spread = node.op_type == "Mul" and (channels.get(name) or 1) > 1
                stack.extend(source for source in reads(node) if not (spread and channels.get(source) == 1))
            seen.add(name)
        return seen

    def twin(
        self,
        outputs: Sequence[str],
        inputs: Sequence[str] | None = None,
        *,
        device: str = "cpu",
        fold: bool = True,
        dtype: Any = None,
        channels_last: bool = False,
    ) -> Twin:
        """The differentiable executor, cut to what ``outputs`` need.

        Args:
            outputs: tensor names.
            inputs: tensor names to start from; default the graph's own inputs.
            device: "auto", "cpu" or "cuda[:n]".
            fold: fold batch-norm into convolutions wherever no asked tensor lies between.
            dtype: torch floating dtype; default float32.
            channels_last: kernels lie with their channels last in memory. Other twins' do not follow, since the order
                changes the last bits of what a convolution gives.
        """
        made = self.twin_factory(
            tuple(outputs),
            tuple(inputs or (i.name for i in self.inputs)),
            device=device,
            fold=fold,
            dtype=dtype,
            channels_last=channels_last,
        )
        made.alone, made.batch_axes = self.runs_alone(outputs), self.batch_axes
        return made

    def require_gradient(self, outputs: Sequence[str], sources: Sequence[str] | None = None) -> None:
        """Makes sure that a gradient leads from ``outputs`` back to ``sources``, by default to the image.

        Raises:
            UnsupportedOperator: every way passes an operator without one; the first is named.
        """
        node = stopper(self.index, sources or [self.inputs[0].name], outputs)
        if node is not None:
            raise UnsupportedOperator(
                f"operator {node.op_type} (node '{(node.name or node.output[0])[:80]}') has no gradient, and "
                f"'{outputs[0][:80]}' depends on {'the picture' if sources is None else repr(sources[0][:80])} through "
                "it alone"
            )

    def until(self, layer: Layer | str | int, *, device: str = "cpu", fold: bool = True) -> Twin:
        """The twin truncated at one layer."""
        chosen = layer if isinstance(layer, Layer) else self.layer(layer)
        return self.twin([chosen.tensor], device=device, fold=fold)

    def session(
        self,
        outputs: Sequence[str],
        inputs: Sequence[str] | None = None,
        *,
        device: str = "auto",
        threads: int | None = None,
        optimize: bool = True,
    ) -> Session:
        """The forward-only executor, cut to what ``outputs`` need; arguments as for `twin`."""
        from ..executors.session import Session

        model = self._cut(outputs, inputs, hollow=True)
        large = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        held = {name: value for name in large if (value := self.index.constant(name)) is not None}
        alone = self.runs_alone(outputs)
        return Session(model, device, threads, optimize, alone, held, self.batch_axes)

    def with_weights(self, values: Mapping[str, np.ndarray]) -> Graph:
        """A copy of the graph with other values in the named weights, in both executors.

        Raises:
            UsageError: no weight of that name, or another shape or type.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        weights = {t.name: t for t in model.graph.initializer}
        for name, value in values.items():
            if name not in weights:
                raise UsageError(f"weight '{name}' is not in {self.name}")
            old = numpy_helper.to_array(weights[name])
            if old.shape != value.shape or old.dtype != value.dtype:
                raise UsageError(
                    f"weight '{name}' is {old.dtype} of shape {old.shape}, not {value.dtype} of shape {value.shape}"
                )
            weights[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
        digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
        return replace(self, model=model, sha256=digest, twin_factory=self.twin_factory.of(model))

    def submodel(self, outputs: Sequence[str], inputs: Sequence[str] | None = None) -> onnx.ModelProto:
        """The canonical ONNX cut to the part between ``inputs`` and ``outputs`` (tensor names)."""
        return self._cut(outputs, inputs)

    def _cut(self, outputs: Sequence[str], inputs: Sequence[str] | None, hollow: bool = False) -> onnx.ModelProto:
        whole = self.model.graph
        known = {v.name: v for v in (*whole.output, *whole.input, *whole.value_info)}
        names = inputs or [i.name for i in self.inputs]
        infos = [known.get(n) or helper.make_empty_tensor_value_info(n) for n in names]
        return extract(self.model, infos, outputs, self.index, hollow=hollow)

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        table: dict[str, Layer] = {}
        for kind in ("node", "tensor", "name"):  # later wins: a human name beats a tensor's, beats a node's
            table.update((getattr(layer, kind), layer) for layer in self.layers if getattr(layer, kind))
        return table

    @cached_property
    def _human_names(self) -> frozenset[str]:
        return frozenset(layer.name for layer in self.layers)

    @cached_property
    def _ancestors_of_logits(self) -> set[str]:
        return self.index.ancestors(self.logits)

    def _leads_to_logits(self, layer: Layer) -> bool:
        return layer.tensor in self._ancestors_of_logits


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 10
