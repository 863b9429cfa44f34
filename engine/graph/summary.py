"""A graph in plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .graph import Graph


def summary(graph: Graph) -> dict[str, Any]:
    """A model's layers, inputs, outputs, preprocessing and origin: the object of ``convscope info --json``."""
    inputs = graph.layer_inputs()
    return {
        "name": graph.name,
        "sha256": graph.sha256,
        "source": asdict(graph.source),
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
