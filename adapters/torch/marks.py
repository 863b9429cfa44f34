"""Marks: a do-nothing operator behind every layer, so that an exported tensor tells whose output it is.

The tracing exporter names nodes after scopes, but not tensors after layers, and it folds batch-norm into the
convolution before it. A mark between the two carries the layer's name into the ONNX graph and keeps them apart.
Afterwards the marks are taken out again.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, cast

import onnx
import torch
from torch import Tensor, nn

from ...errors import RefusedInput

MARK_DOMAIN = "convscope"
_WITH_STATES = (nn.RNNBase, nn.MultiheadAttention)  # their output comes first, states or weights after it


class Marker:
    """Marks outputs by name; a layer that is called again gets ``_1``, ``_2``, ..."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    def __call__(self, output: Any, name: str) -> Any:
        """The output with a mark where it is a float tensor, else as it is."""
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        count = self._calls[name]
        self._calls[name] += 1
        return _operator()(output, f"{name}_{count}" if count else name)


@cache
def _operator() -> Callable[[Tensor, str], Tensor]:
    """``convscope::mark`` copies its input; the tracing exporter writes it as ``convscope::Mark`` with the name.

    An operator of the dispatcher, since the tracer spends on every autograd function a time that grows with the
    graph traced so far: a third of an EfficientNetB7's whole import.
    """
    library = torch.library.Library(MARK_DOMAIN, "FRAGMENT")
    library.define("mark(Tensor x, str name) -> Tensor")
    for key in ("CompositeExplicitAutograd", "Autograd"):
        library.impl("mark", lambda x, name: x.clone(), key)
    _kept.append(library)
    torch.onnx.register_custom_op_symbolic(f"{MARK_DOMAIN}::mark", _symbolic, 9)
    return cast("Callable[[Tensor, str], Tensor]", torch.ops.convscope.mark)


_kept: list[torch.library.Library] = []  # a library withdraws its operators when it is collected


def _symbolic(g: Any, x: Any, name: Any) -> Any:
    return g.op(f"{MARK_DOMAIN}::Mark", x, name_s=name.node().s("value")).setType(x.type())


@contextlib.contextmanager
def module_marks(module: nn.Module) -> Iterator[None]:
    """While it is open, every submodule's output passes a mark that names the submodule and its call."""
    marker = Marker()

    def hook_for(name: str) -> Callable[..., Any]:
        def hook(sub: nn.Module, _arguments: Any, output: Any) -> Any:
            if isinstance(sub, _WITH_STATES) and isinstance(output, tuple):
                return (marker(output[0], name), *output[1:])
            return marker(output, name)

        return hook

    handles = [
        sub.register_forward_hook(hook_for(name))
        for name, sub in module.named_modules()
        if name and not isinstance(sub, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def remove_marks(model: onnx.ModelProto) -> tuple[dict[str, str], dict[str, str]]:
    """Takes the marks out of the graph; the innermost module names its tensor, the outer ones are aliases."""
    graph = model.graph
    source: dict[str, str] = {}
    named: dict[str, str] = {}
    aliases: dict[str, str] = {}
    given = {i.name for i in graph.input}
    for node in graph.node:
        if node.domain != MARK_DOMAIN:
            continue
        tensor = source.get(node.input[0], node.input[0])
        source[node.output[0]] = tensor
        name = next(a.s.decode() for a in node.attribute if a.name == "name")
        if tensor in given:
            continue
        if tensor in named:
            aliases[name] = tensor
        else:
            named[tensor] = name
    kept = [node for node in graph.node if node.domain != MARK_DOMAIN]
    renamed = _keep_output_names(graph, source)
    for node in kept:
        node.input[:] = [renamed.get(source.get(n, n), source.get(n, n)) for n in node.input]
        node.output[:] = [renamed.get(n, n) for n in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    graph.ClearField("value_info")  # it still speaks of the marks' tensors
    for entry in [e for e in model.opset_import if e.domain == MARK_DOMAIN]:
        model.opset_import.remove(entry)
    names = {renamed.get(t, t): name for t, name in named.items()}
    return names, {name: renamed.get(t, t) for name, t in aliases.items()}


def _keep_output_names(graph: onnx.GraphProto, source: dict[str, str]) -> dict[str, str]:
    """Graph outputs that a mark wrote: old tensor -> output name, so that the outputs keep their names."""
    given = {i.name for i in graph.input}
    renamed: dict[str, str] = {}
    for output in graph.output:
        tensor = source.get(output.name)
        if tensor is None:
            continue
        if tensor in given or tensor in renamed:  # an input or a second output: it needs a tensor of its own
            raise RefusedInput(f"output '{output.name}' repeats another tensor")
        renamed[tensor] = output.name
    return renamed
