"""A graph as a sequence of operations that two exports of one network share.

Exports differ in what does not matter: batch-norm folded or not, bias inside the convolution or added behind
it, zero padding as a node of its own, dense layers as Gemm or MatMul. An `Operation` takes these together: one
convolution or dense layer with its effective weight and bias, or one other operator that changes values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
from onnx import numpy_helper

from ..activations.weights import outputs_first
from ..graph.graph import Graph
from ..graph.index import attributes
from ..graph.layers import Layer
from ..graph.operators import names, operator
from ..graph.quantized import Quantized, dequantized, is_dequantized
from .rounding import PRODUCTS, ROUNDING, rectifies, rounded_to, scaled_product
from .written import Written, written_activation

CONVOLUTION, DENSE = "convolution", "dense"
POOLS = (*names(lambda row: row.family in ("pool", "global pool")), "ReduceMean")
_WITHOUT_EFFECT = ("training_mode", "momentum", "spatial", "consumed_inputs", "is_test")  # while nothing is trained
_BECAME_INPUTS = {"Clip": ("min", "max"), "Pad": ("pads", "value")}  # by newer sets of operators; reductions' axes too
ACTIVATIONS = names(lambda row: row.family == "activation")


@dataclass(frozen=True, eq=False)
class Norm:
    """The batch-norm behind a convolution: arrays (O,) and epsilon."""

    scale: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    epsilon: float
    node: onnx.NodeProto

    @property
    def factor(self) -> np.ndarray:
        """What the normalization multiplies each channel by."""
        return self.scale / np.sqrt(self.var + self.epsilon)


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation.

    Attributes:
        kind: "convolution", "dense" or the ONNX operator.
        name: the layer's name.
        tensor: its result, after bias and batch-norm.
        inputs: the tensors it reads, weights and absorbed padding aside.
        node: the main ONNX node.
        attributes: what decides its geometry, comparable between exports.
        raw: weight as stored, (O, I/g, kH, kW) or (O, I) float64, times the alpha of a Gemm, or None.
        weight: the same with batch-norm folded in.
        raw_bias: (O,) float64, the sum of what is added in front of the batch-norm; zeros where nothing is.
        bias: the same with batch-norm folded in.
        norm: the batch-norm behind it, or None.
        stored: the initializer's name of the weight.
        stored_bias: the initializer's name of the bias, or "".
        quantized: `raw` as whole numbers with their step, where they are stored so.
        reads: what kind of whole numbers its input is rounded to ("uint8"), or "".
        inner: the tensors on the way to its result: of a convolution what it gives before bias and batch-norm.
    """

    kind: str
    name: str
    tensor: str
    inputs: tuple[str, ...]
    node: onnx.NodeProto
    attributes: dict[str, object] = field(default_factory=dict)
    raw: np.ndarray | None = None
    raw_bias: np.ndarray | None = None
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    norm: Norm | None = None
    stored: str = ""
    stored_bias: str = ""
    quantized: Quantized | None = None
    reads: str = ""
    inner: frozenset[str] = frozenset()

    @property
    def is_anchor(self) -> bool:
        """Whether it has trained weights."""
        return self.weight is not None


class CommonForm:
    """The operations of a graph, in order of execution."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.weights, self.producer, self.readers = graph.index.weights, graph.index.producer, graph.index.readers
        self._layers = {layer.tensor: layer for layer in graph.layers}
        self._outputs = {o.name for o in graph.outputs}

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Convolutions and dense layers with what belongs to them, and every other operator that is not neutral."""
        found: list[Operation] = []
        written = self._written_activations()
        taken = {name for one in written.values() for name in one.inner}
        for node in self.graph.index.nodes:
            tensor = node.output[0] if node.output else ""
            if tensor in taken or (tensor not in self._layers and node.op_type not in PRODUCTS):
                continue  # a product of whole numbers is no layer, what it is scaled to is one
            operation = self._written(written.get(tensor)) or self._anchor(node, taken) or self._other(node)
            if operation is not None:
                found.append(operation)
        return tuple(found)

    @cached_property
    def by_tensor(self) -> dict[str, Operation]:
        """Operation by the tensor that it makes."""
        return {operation.tensor: operation for operation in self.operations}

    def layer(self, tensor: str) -> Layer | None:
        """The layer of a tensor, if it is one."""
        return self._layers.get(tensor)

    def layer_name(self, tensor: str) -> str:
        """The layer's name, or the tensor's."""
        layer = self._layers.get(tensor)
        return layer.name if layer else tensor

    def maker(self, tensor: str) -> Operation | None:
        """The operation whose values a tensor holds, moved or cut at most; None where it is not computed by any."""
        while tensor not in self.by_tensor:
            node = self.producer.get(tensor)
            if node is None or not node.input:
                return None
            tensor = node.input[0]
        return self.by_tensor[tensor]

    def channels_first(self, tensor: str, values: np.ndarray) -> np.ndarray:
        """A tensor's values with channels on axis 1."""
        layer = self._layers.get(tensor)
        return np.asarray(layer.channels_first(values)) if layer else values

    def constant(self, name: str) -> np.ndarray | None:
        """A weight's values as float64 (integers as they are), or None where it is computed."""
        if name not in self.weights:
            found = dequantized(self.graph.index, name)
            return None if found is None else found.values
        values = numpy_helper.to_array(self.weights[name])
        return values.astype(np.float64) if values.dtype.kind == "f" else values

    def _is_stored(self, name: str) -> bool:
        return name in self.weights or is_dequantized(self.graph.index, name)

    def _anchor(self, node: onnx.NodeProto, taken: set[str]) -> Operation | None:
        product = scaled_product(self.graph.index, node)
        if product is None and (len(node.input) < 2 or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul")):
            return None
        whole = product[0] if product else dequantized(self.graph.index, node.input[1])
        raw = whole.values if whole else self.constant(node.input[1])
        if raw is None or (node.op_type in ("Gemm", "MatMul", "MatMulInteger") and raw.ndim != 2):
            return None
        options = attributes(node)
        factor, share = ((float(options.get(n, 1.0)) if node.op_type == "Gemm" else 1.0) for n in ("alpha", "beta"))
        raw = _filters_first(node, options, raw) * factor
        whole = whole and Quantized(raw, _filters_first(node, options, whole.step) * abs(factor), whole.kind)
        stored_bias = node.input[2] if len(node.input) > 2 and not product else ""
        bias = self.constant(stored_bias) if stored_bias else None
        bias = np.zeros(len(raw)) if bias is None else np.broadcast_to(bias.reshape(-1) * share, (len(raw),)).copy()
        source, pads = self._padding(node, taken)
        tensor, weight, raw_bias, norm = node.output[0], raw, bias, None
        inner = {tensor}
        reads = rounded_to(self.graph.index, source)
        if product:
            source, reads, tensor = product[1], "uint8", product[2][-1].output[0]
            taken.update(n.output[0] for n in product[2])
        while (behind := self._only_reader(unrounded := self._requantized(tensor))) is not None:
            if behind.output[0] in taken:  # it begins an activation that is written out
                break
            added = self._per_channel(behind, unrounded, len(raw), raw.ndim) if behind.op_type == "Add" else None
            if added is not None and norm is None:
                bias = raw_bias = bias + added[0]
                stored_bias = stored_bias or added[1]
            elif behind.op_type == "BatchNormalization" and norm is None and self._norm(behind) is not None:
                norm = self._norm(behind)
                assert norm is not None
                weight = raw * norm.factor.reshape(-1, *[1] * (raw.ndim - 1))
                bias = (bias - norm.mean) * norm.factor + norm.bias
            else:
                break
            taken.add(tensor)
            tensor = behind.output[0]
            taken.add(tensor)
            inner.add(tensor)
        kind = CONVOLUTION if "Conv" in node.op_type else DENSE
        geometry = self._geometry(node, options, raw, pads) if kind == CONVOLUTION else {}
        return Operation(
            kind, self.layer_name(tensor), tensor, (self._unrounded(source),), node, geometry,
            raw, raw_bias, weight, bias, norm, node.input[1], stored_bias, whole, reads,
            frozenset(inner - {tensor}),
        )  # fmt: skip

    def _written_activations(self) -> dict[str, Written]:
        """By the tensor that each makes."""
        found = (written_activation(n, self.producer, self.readers, self.constant) for n in self.graph.index.nodes)
        return {one.end.output[0]: one for one in found if one and not one.inner & self._outputs}

    def _written(self, one: Written | None) -> Operation | None:
        if one is None:
            return None
        tensor = one.end.output[0]
        name, options = self.layer_name(tensor), dict(one.attributes)
        return Operation(one.kind, name, tensor, (one.source,), one.end, options, inner=one.inner)

    def _other(self, node: onnx.NodeProto) -> Operation | None:
        if rectifies(self.graph.index, node):
            source = self._unrounded(self.producer[node.input[0]].input[0])
            return Operation("Relu", self.layer_name(node.output[0]), node.output[0], (source,), node)
        if operator(node).neutral or self._absorbed(node) or node.op_type in (*ROUNDING, *PRODUCTS):
            return None
        inputs = tuple(self._unrounded(n) for n in node.input if n and not self._is_stored(n))
        options = {k: v for k, v in attributes(node).items() if k not in _WITHOUT_EFFECT}
        name, tensor = self.layer_name(node.output[0]), node.output[0]
        if node.op_type == "ReduceMean" and self._is_over_places(node):
            return Operation("GlobalAveragePool", name, tensor, inputs, node)  # what Keras exports write for it
        if node.op_type == "QuickGelu":  # of com.microsoft
            return Operation("Swish", name, tensor, inputs, node, {"alpha": options.get("alpha", 1.702)})
        options = _written_in_full(node, options)
        if node.op_type in ("MaxPool", "AveragePool", "LpPool"):
            options = _pool(options)
        if node.op_type == "Resize":
            return Operation("Resize", name, tensor, inputs, node, self._resize(node, options))
        known = _BECAME_INPUTS.get(node.op_type, ("axes",) if node.op_type.startswith("Reduce") else ())
        constants = {
            dict(enumerate(known, 1)).get(i, f"input {i}"): np.round(value, 6).reshape(-1).tolist()
            for i, n in enumerate(node.input)
            if n and (value := self.constant(n)) is not None and value.size <= 64
        }
        found = self._axes_counted(node, {**options, **constants})
        if node.op_type in _BECAME_INPUTS:  # single numbers as attributes hold them
            found = {k: v[0] if isinstance(v, list) and k != "pads" and len(v) == 1 else v for k, v in found.items()}
        return Operation(node.op_type, name, tensor, inputs, node, found)

    def _rank(self, tensor: str) -> int:
        """Of a tensor that is a layer or the picture, else 0."""
        if tensor == self.graph.inputs[0].name:
            return len(self.graph.inputs[0].shape)
        layer = self._layers.get(tensor)
        return len(layer.shape) if layer is not None else 0

    def _is_over_places(self, node: onnx.NodeProto) -> bool:
        """Whether a ReduceMean is over all axes but the picture's and the channels'."""
        layer = self._layers.get(node.input[0])
        given = self.constant(node.input[1]) if len(node.input) > 1 else attributes(node).get("axes")
        if layer is None or len(layer.shape) != 4 or given is None:
            return False
        axes = {int(axis) % 4 for axis in np.ravel(given)}
        return axes == {1, 2, 3} - {layer.channel_axis or 1}

    def _axes_counted(self, node: onnx.NodeProto, options: dict[str, object]) -> dict[str, object]:
        """Axes counted from the first one, where the rank is known."""
        rank = self._rank(node.input[0]) if node.input else 0

        def counted(value: object) -> object:
            if isinstance(value, list):
                return sorted(one % rank for one in value if isinstance(one, int))
            return value % rank if isinstance(value, int) else value

        return {k: counted(v) if k in ("axis", "axes") and rank else v for k, v in options.items()}

    def _resize(self, node: onnx.NodeProto, options: dict[str, object]) -> dict[str, object]:
        """What decides the values: defaults written out, and only what its mode reads."""
        mode = options.get("mode", "nearest")
        found: dict[str, object] = {
            "mode": mode,
            "coordinates": options.get("coordinate_transformation_mode", "half_pixel"),
            "antialias": options.get("antialias", 0),
        }
        if mode == "nearest":
            found["rounding"] = options.get("nearest_mode", "round_prefer_floor")
        if mode == "cubic":
            found["cubic coefficient"] = options.get("cubic_coeff_a", -0.75)
        for i, name in ((2, "scales"), (3, "sizes")):
            value = self.constant(node.input[i]) if len(node.input) > i and node.input[i] else None
            if value is not None and value.size:
                found[name] = np.round(value, 6).reshape(-1).tolist()
        return found

    def _unrounded(self, tensor: str) -> str:
        """The floats that a tensor is the rounded values of; a quantizer that stands for a ReLU is passed by none."""
        while (node := self.producer.get(tensor)) is not None and node.op_type in ROUNDING:
            if rectifies(self.graph.index, node):
                break
            tensor = node.input[0]
        return tensor

    def _requantized(self, tensor: str) -> str:
        """What follows where a tensor's only reader rounds it, and a batch-norm may stand behind; else itself."""
        quantizer = self._only_reader(tensor)
        if quantizer is None or quantizer.op_type != "QuantizeLinear":
            return tensor
        floats = self._only_reader(quantizer.output[0])
        return tensor if floats is None or rectifies(self.graph.index, floats) else floats.output[0]

    def _only_reader(self, tensor: str) -> onnx.NodeProto | None:
        readers = self.readers.get(tensor, ())
        return readers[0] if len(readers) == 1 and tensor not in self._outputs else None

    def _per_channel(self, node: onnx.NodeProto, tensor: str, size: int, rank: int) -> tuple[np.ndarray, str] | None:
        other = node.input[1] if node.input[0] == tensor else node.input[0]
        value = self.constant(other)
        if value is None or value.size != size:
            return None
        tail = value.ndim >= 3 and value.shape[-2:] == (1, 1)
        return (value.reshape(-1), other) if rank == 2 or tail else None

    def _norm(self, node: onnx.NodeProto) -> Norm | None:
        parts = [self.constant(n) for n in node.input[1:5]]
        if len(parts) < 4 or any(p is None for p in parts):
            return None
        scale, bias, mean, var = (np.asarray(p).reshape(-1) for p in parts)
        return Norm(scale, bias, mean, var, float(str(attributes(node).get("epsilon", 1e-5))), node)

    def _absorbed(self, node: onnx.NodeProto) -> bool:
        readers = self.readers.get(node.output[0], ())
        return node.op_type == "Pad" and len(readers) == 1 and self._zero_pads(node, readers[0]) is not None

    def _zero_pads(self, pad: onnx.NodeProto, reader: onnx.NodeProto) -> np.ndarray | None:
        """(top, left, bottom, right) of a zero padding in front of a convolution, or None."""
        if reader.op_type != "Conv" or self.constant(reader.input[1]) is None:
            return None
        options = attributes(pad)
        value = self.constant(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else None
        amounts = self.constant(pad.input[1]) if len(pad.input) > 1 else None
        plain = options.get("mode", "constant") == "constant" and (value is None or not np.any(value))
        if not plain or amounts is None or amounts.size != 8 or np.any(amounts[[0, 1, 4, 5]]):
            return None
        return amounts[[2, 3, 6, 7]]

    def _padding(self, node: onnx.NodeProto, taken: set[str]) -> tuple[str, np.ndarray]:
        pad = self.producer.get(node.input[0])
        if pad is not None and pad.op_type == "Pad" and self._absorbed(pad):
            amounts = self._zero_pads(pad, node)
            assert amounts is not None
            return pad.input[0], amounts
        return node.input[0], np.zeros(4, dtype=np.int64)

    def _geometry(
        self, node: onnx.NodeProto, options: dict[str, object], raw: np.ndarray, extra: np.ndarray
    ) -> dict[str, object]:
        rank = raw.ndim - 2
        automatic = options.get("auto_pad", "NOTSET")
        pads: object = options.get("pads", [0] * 2 * rank)
        if automatic not in ("NOTSET", "VALID"):
            pads = str(automatic)
        elif rank == 2:
            pads = [int(a) + int(b) for a, b in zip(pads, extra, strict=True)]  # type: ignore[call-overload]
        return {
            "strides": options.get("strides", [1] * rank),
            "dilations": options.get("dilations", [1] * rank),
            "pads": pads,
            "group": options.get("group", 1),
        }


def _filters_first(node: onnx.NodeProto, options: dict[str, object], weight: np.ndarray) -> np.ndarray:
    """A weight as (O, I/g, kH, kW) or (O, I)."""
    if node.op_type in ("MatMul", "MatMulInteger") or (node.op_type == "Gemm" and not options.get("transB", 0)):
        return weight.T
    return outputs_first(weight, node) if node.op_type == "ConvTranspose" else weight


def _written_in_full(node: onnx.NodeProto, options: dict[str, object]) -> dict[str, object]:
    """An operator's attributes with the defaults of those that are not given."""
    defaults = {}
    if not node.domain and onnx.defs.has(node.op_type):
        entries = onnx.defs.get_schema(node.op_type, domain="").attributes.items()
        defaults = {
            name: onnx.helper.get_attribute_value(entry.default_value)
            for name, entry in entries
            if entry.default_value.type and name not in _WITHOUT_EFFECT
        }
    found = {name: v.decode() if isinstance(v, bytes) else v for name, v in defaults.items()} | options
    return {name: round(v, 6) if isinstance(v, float) else v for name, v in found.items()}


def _pool(options: dict[str, object]) -> dict[str, object]:
    kernel = options.get("kernel_shape", [1, 1])
    assert isinstance(kernel, list)
    defaults = {
        "strides": [1] * len(kernel),
        "pads": [0] * 2 * len(kernel),
        "dilations": [1] * len(kernel),
        "ceil_mode": 0,
        "count_include_pad": 0,
    }
    options = {k: v for k, v in options.items() if not (k == "auto_pad" and v == "NOTSET") and k != "storage_order"}
    return {**defaults, **options}
