"""What a source adapter hands over: the model as ONNX, and what only the source knows about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from ..engine.graph.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Exported:
    """A Torch or Keras model written as ONNX, before normalization.

    Attributes:
        model: the export, tensors named by the exporter; batch dynamic; outputs are the model's own.
        names: tensor -> the name that the source framework's user knows its layer by. A tensor is named
            where a layer ends (a Keras layer's output, a torch module's output), so most tensors have none.
        preprocessing: what the source says about its input, or None.
        labels: class names by index, or None.
        producer: framework and version, e.g. "torch 2.13.0 (legacy exporter)".
        notes: one line each, for the user: what was assumed, left out or tried in vain.
        aliases: further names of the source -> the tensor they mean: a torch container that ends where its
            last module ends (``layer4`` and ``layer4.1`` for the output of ``layer4.1.relu_1``), a dropout.
        name, arch: of a live object, and of a file of weights; see `Source`.
    """

    model: onnx.ModelProto
    names: Mapping[str, str] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] | None = None
    producer: str = ""
    notes: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    arch: str | None = None
