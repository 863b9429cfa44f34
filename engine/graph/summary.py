"""A graph in plain values, and in words."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import onnx

from .folded import has_batch_norm
from .graph import Graph
from .layers import Layer, ReceptiveField, TensorSpec, Tokens

COLUMNS = ("#", "layer", "op", "output shape", "sees", "stride", "parameters", "multiply-adds")


def summary(graph: Graph) -> dict[str, Any]:
    """A model's layers, inputs, outputs, preprocessing and origin: the object of ``convscope info --json``."""
    inputs = graph.layer_inputs()
    return {
        "name": graph.name,
        "sha256": graph.sha256,
        "source": asdict(graph.source),
        "proof": None if graph.proof is None else {"date": graph.proof.date, "is_earlier": graph.proof.is_earlier},
        "inputs": [asdict(spec) for spec in graph.inputs],
        "outputs": [asdict(spec) for spec in graph.outputs],
        "preprocessing": graph.preprocessing.to_json(),
        "image_size": list(graph.image_size),
        "free": free_axes(graph),
        "parameters": sum(layer.parameters for layer in graph.layers),
        "macs": sum(layer.macs for layer in graph.layers),
        "labels": None if graph.labels is None else list(graph.labels),
        "layers": [{**layer.to_json(), "inputs": inputs[layer.tensor]} for layer in graph.layers],
    }


def free_axes(graph: Graph) -> list[str]:
    """The axes of the image input that a picture may choose; layers' shapes are those at ``image_size``."""
    return [name for name, size in zip(("height", "width"), graph.inputs[0].shape[2:], strict=False) if size is None]


def rows_in_words(graph: Graph) -> list[tuple[str, ...]]:
    """Every layer's cells, see `row_in_words`."""
    return [row_in_words(layer, graph.index.producer.get(layer.tensor)) for layer in graph.layers]


def row_in_words(layer: Layer, node: onnx.NodeProto | None = None) -> tuple[str, ...]:
    """A layer's cells under `COLUMNS`.

    A shape of tokens names their grid; with its node a convolution says where a batch-norm is folded into it.
    """
    op = f"{layer.op} with batch-norm" if node is not None and has_batch_norm(node) else layer.op
    sees, stride = _sees(layer.receptive_field)
    counts = (f"{layer.parameters:,}" if layer.parameters else "", in_si(layer.macs) if layer.macs else "")
    shape = shape_in_words(layer.shape) + ("" if layer.is_unfolded else _grid(layer.tokens))
    return (str(layer.index), layer.name, op, shape, sees, stride, *counts)


def facts_in_words(graph: Graph) -> list[tuple[str, str]]:
    """What is true of the whole model: (word, sentence)."""
    source = graph.source
    height, width = graph.image_size
    parameters, macs = (sum(getattr(la, name) for la in graph.layers) for name in ("parameters", "macs"))
    facts = [
        ("inputs", "; ".join(_spec(spec) for spec in graph.inputs)),
        ("outputs", "; ".join(_spec(spec) for spec in graph.outputs)),
        ("preprocessing", graph.preprocessing.in_words()),
        ("size", f"{len(graph.layers)} layers, {parameters:,} parameters, {in_si(macs)} multiply-adds"),
        ("source", f"{source.path or 'live object'}: {source.format} by {source.producer}, opset {source.opset}"),
        ("sha256", f"{source.sha256} (graph {graph.sha256[:16]})"),
        ("checked", _proof_in_words(graph)),
    ]
    if free := free_axes(graph):
        facts.insert(1, ("free", f"{' and '.join(free)}; the shapes above are those at {height} x {width}"))
    if graph.labels is not None:
        facts.insert(-4, ("classes", f"{len(graph.labels)}: {', '.join(graph.labels[:3])}, ..."))
    return facts


def _proof_in_words(graph: Graph) -> str:
    if graph.proof is None:
        return "not: that both executors agree was not asked for"
    found = "both executors agree on every tensor of a random picture"
    if not graph.proof.is_earlier:
        return f"{found}: found by this run"
    return f"{found}: found by an earlier run on this file, {graph.proof.date}; check=True makes it afresh"


def shape_in_words(shape: tuple[int | None, ...]) -> str:
    """As ``Nx64x56x56``."""
    return "x".join("N" if axis == 0 else "?" if size is None else str(size) for axis, size in enumerate(shape))


def in_si(value: float) -> str:
    """12,345,678 as ``12.3 M``."""
    for unit in ("", " k", " M", " G", " T"):
        if value < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} P"


def _grid(tokens: Tokens | None) -> str:
    """`` (4x6 + 1)``: rows and columns of a layer's tokens, and the class and register tokens beside them."""
    if tokens is None:
        return ""
    beside = tokens.count - tokens.rows * tokens.columns
    return f" ({tokens.rows}x{tokens.columns}{f' + {beside}' if beside else ''})"


def _sees(field: ReceptiveField | None) -> tuple[str, str]:
    """Receptive field and stride in input pixels; one number where both directions agree."""
    if field is None:
        return "", ""
    stride = "x".join(f"{s:g}" for s in _once(field.stride))
    return ("all" if field.size is None else "x".join(str(s) for s in _once(field.size))), stride


def _once(pair: tuple[Any, Any]) -> tuple[Any, ...]:
    return pair[:1] if pair[0] == pair[1] else pair


def _spec(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype} {shape_in_words(spec.shape)}"
