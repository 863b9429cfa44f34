"""Who is off where the two executors part: float64 is the referee.

Values that are tiny beside their operator's range are no fault: a sigmoid of 5e-5 whose last bit counts from 1 is off
by a thousandth of itself in a runtime that approximates it. What such last bits do to every tensor is measured like
other rounding (`adapters.rounding`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.graph.graph import Graph
from ..engine.graph.operators import named, operator
from .rounding import NOISE

if TYPE_CHECKING:
    from ..engine.executors.twin import Rule  # torch comes with it

_FAR = 10.0  # times: the one that is so much nearer to float64 is right


def culprit(graph: Graph, tensor: str, feeds: dict[str, np.ndarray], difference: Any) -> str:
    """Who is off at a tensor, in words.

    Args:
        graph: the model.
        tensor: where the executors part.
        feeds: model input by name.
        difference: (found, expected) -> relative difference, as the comparison has it.
    """
    import torch

    theirs = graph.session([tensor], device="cpu").run(feeds)[tensor]
    if graph.opaque_outputs:  # one picture, and what opaque operators gave for it
        feeds = {**feeds, **graph.session(graph.opaque_outputs, device="cpu").run(feeds)}
    twin = graph.twin([tensor], list(feeds), fold=False)
    exact = graph.twin([tensor], list(feeds), fold=False, dtype=torch.float64)
    for executor in (twin, exact):
        executor.alone = executor.alone and not graph.opaque
    with torch.no_grad():
        ours = twin({k: torch.from_numpy(v) for k, v in feeds.items()})[tensor].cpu().numpy()
        truth = exact({k: _double(v) for k, v in feeds.items()})[tensor].cpu().numpy()
    twin_off, runtime_off = difference(ours, truth), difference(theirs, truth)
    node = graph.index.producer[tensor]
    where = f"at '{tensor[:80]}' ({node.op_type})"
    if not np.isfinite([twin_off, runtime_off]).all():
        return f"float64 gives no finite value {where}"
    far = f"{{}} is off by {{:.2g}} of the largest value {where}, by float64"
    if runtime_off > _FAR * twin_off:
        return far.format("ONNX Runtime", runtime_off)
    if twin_off > _FAR * runtime_off:
        return far.format("the twin", twin_off)
    return f"both executors are off by float64 {where}: the file amplifies rounding"


def last_bits(graph: Graph, seed: int = 0) -> dict[str, Rule]:
    """Rules that change results of bounded operators by a last bit of their range; empty where there are none."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def noisy(size: float) -> Rule:
        def rule(module: Any, *inputs: Any) -> Any:
            value = module(*inputs)
            return value + size * torch.randn(value.shape, generator=generator, dtype=value.dtype)

        return rule

    ops = {node.op_type for node in graph.index.nodes if operator(node).range is not None}
    return {op: noisy(NOISE * max(abs(end) for end in named(op).range or (0.0,))) for op in ops}


def weights_that_are_nan(graph: Graph) -> list[str]:
    """Weights of which some values are no numbers."""
    found = []
    for name, stored in graph.index.weights.items():
        if stored.data_type in (1, 10, 11, 16):  # FLOAT, FLOAT16, DOUBLE, BFLOAT16
            value = graph.index.constant(name)
            if value is not None and np.isnan(np.asarray(value).sum(dtype=np.float64)) and np.isnan(value).any():
                found.append(name)
    return found


def _double(value: np.ndarray) -> Any:
    import torch

    tensor = torch.from_numpy(value)
    return tensor.double() if tensor.is_floating_point() else tensor
