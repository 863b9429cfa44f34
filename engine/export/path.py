"""Integrated Gradients inside the file: the way from a baseline to the picture as a batch of its own.

The forward pass is written a second time, on the points of the way (weights are shared), and walked back from there.
Sundararajan et al. 2017, arXiv:1703.01365; points and weights are Gauss and Legendre's, as in
`attribution.methods.gradient.integrated_gradients`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from ..graph.graph import Graph
from ..graph.index import Index
from .backward import backward
from .scores.base import Score, repeated
from .trace import Trace
from .writer import PREFIX, Value, Writer

_COPY = f"{PREFIX}path/"


def path_attribution(
    graph: Graph, model: onnx.ModelProto, w: Writer, trace: Trace, feeds: Mapping[str, np.ndarray], score: Score,
    steps: int,
) -> tuple[Value, dict[str, str]]:  # fmt: skip
    """(N, C, H, W) each input value's share of the score's change from a black picture, and named second outputs.

    What the score is of (a class, a mask) is chosen in the picture itself. The nodes of the second forward pass are put
    into the writer.
    """
    name = graph.inputs[0].name
    image = w.value(name)
    points, weights = np.polynomial.legendre.leggauss(steps)
    black = graph.preprocessing.normalize(np.zeros((1, graph.channels, 1, 1))).astype(w.kind)
    way = image - w.constant(black)
    alphas = w.constant(((points + 1) / 2).reshape(1, -1, 1, 1, 1).astype(w.kind))
    places = way.unsqueeze([1]) * alphas + w.constant(black)
    start = places.reshape(w.concat([-1], image.shape(1)))
    choices = {key: repeated(choice, steps) for key, choice in score.choices(w, trace).items()}
    nodes, renamed = _copied(model, start.name, name, score.tensors)
    traced = _on_its_own(model, nodes, start.name)
    example = np.repeat(feeds[name], 2, axis=0)
    own = Trace(traced, {start.name: example})
    w.nodes.extend(nodes)
    seeds = score.gradients(w, own, renamed, choices)
    straight = frozenset(renamed[tensor] for tensor in score.straight if tensor in renamed)
    walked = backward(nodes, w, own, start.name, {renamed[n]: g for n, g in seeds.items()}, straight)
    shares = walked.gradient.reshape(w.concat([-1, steps], image.shape(1)))
    mean = (shares * w.constant((weights / 2).reshape(1, -1, 1, 1, 1).astype(w.kind))).sum([1], keep=False)
    return way * mean, walked.second_outputs


def _copied(
    model: onnx.ModelProto, start: str, image: str, targets: Sequence[str]
) -> tuple[list[onnx.NodeProto], dict[str, str]]:
    """The nodes from the image to the targets with other tensors, and the new names."""
    renamed = {image: start}
    nodes = []
    for node in Index(model.graph).between([image], list(targets)):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{_COPY}{node.name or node.output[0]}"
        copy.input[:] = [renamed.get(n, n) for n in node.input]
        for i, output in enumerate(node.output):
            renamed[output] = f"{_COPY}{output}" if output else ""
            copy.output[i] = renamed[output]
        nodes.append(copy)
    return nodes, renamed


def _on_its_own(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], start: str) -> onnx.ModelProto:
    """The copied part as a model."""
    alone = onnx.ModelProto(ir_version=max(model.ir_version, 8))
    alone.opset_import.extend(model.opset_import)
    alone.graph.name = "path"
    alone.graph.node.extend(nodes)
    alone.graph.initializer.extend(model.graph.initializer)
    kinds = {i.name: i for i in (*model.graph.value_info, *model.graph.output)}
    for node in nodes:
        for output in node.output:
            if (known := kinds.get(output.removeprefix(_COPY))) is not None:
                info = alone.graph.value_info.add()
                info.CopyFrom(known)
                info.name = output
    alone.graph.input.append(onnx.helper.make_tensor_value_info(start, onnx.TensorProto.FLOAT, None))
    return alone
