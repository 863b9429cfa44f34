"""Ascent on any objective: of the algebra, or a Python callable of the tapped tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..whole import whole
from .filters import gathered
from .fitting import adapted, reduced_precision
from .loop import Ascent, AscentBatch, Goal, Outcome
from .many import AscentProgress, OnProgress
from .network import Network, check_finite
from .recipe.objectives import Objective, Taps
from .recipe.objectives import objective as as_objective
from .recipe.presets import AUTO, Preset
from .recipe.show import Clip, shown
from .results import DEAD, OK, WEAK, AscentResult, UnitResult
from .settings import Settings, settings
from .verdicts import activations


def ascend(
    graph: Graph,
    objective: Objective | Callable[[Taps], Tensor],
    count: int = 1,
    *,
    preset: str | Preset = AUTO,
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: OnProgress | None = None,
) -> list[np.ndarray]:
    """``count`` pictures, made together, that maximize any objective; each (H, W, C) float32 in [0, 1].

    For objectives of the algebra (joint units, interpolations, directions, diversity), and for a Python callable that
    takes the tapped tensors by layer, (N, C, ...), and gives a number for each picture. All pictures run to the end
    together, since an objective may compare them.

    Args:
        graph: from `convscope.load`.
        objective: what the pictures maximize.
        count: how many pictures.
        preset: a name, or a `Preset`.
        size: side in pixels, or (height, width); default what suits the deepest tapped layer.
        steps: of the ascent; default the preset's.
        seed: of everything random; the same seed gives the same pictures.
        device: "auto", "cpu" or "cuda[:n]".
        progress: called after every step.

    Returns:
        The pictures.

    Raises:
        UsageError: no objective, an unknown layer or unit, a bad size, or an objective that fails.

    Example:
        >>> different = objectives.channel("block3_conv1", 7) + 0.1 * objectives.diversity("block3_conv1", group=4)
        >>> pictures = convscope.ascend(graph, different, count=4)
        >>> (mixed,) = convscope.ascend(graph, lambda taps: taps["block3_conv1"][:, 3].mean((1, 2)))
    """
    count = whole(count, "count")
    if count < 1:
        raise UsageError(f"{count} pictures were asked for; ask for one or more")
    wanted = as_objective(graph, objective)
    chosen = settings(graph, _deepest(graph, wanted), preset_name=preset, size=size, steps=steps, seed=seed)
    network = _network(graph, wanted, chosen, device)
    chosen = adapted(network, _to_the_end(chosen))
    outcomes = _run(network, lambda _: wanted, chosen, count, progress)
    return [shown(o.pixels, chosen.preset.show, network.origin()) for o in outcomes]


def of_objective(
    graph: Graph,
    objective: Objective | Callable[[Taps], Tensor],
    *,
    preset: str | Preset,
    size: int | tuple[int, int] | None,
    steps: int | None,
    seed: int,
    start: np.ndarray | None,
    strip: int,
    device: str,
    precision: str,
    tuning: Mapping[str, float] | None,
    progress: OnProgress | None,
) -> AscentResult:
    """One picture that maximizes ``objective``, as a result; arguments as for `filters`."""
    wanted = as_objective(graph, objective)
    place = _deepest(graph, wanted)
    chosen = settings(
        graph,
        place,
        preset_name=preset,
        size=size,
        steps=steps,
        seed=seed,
        start=start,
        strip=strip,
        tuning=tuning,
    )
    network = _network(graph, wanted, chosen, device, precision)
    return single(network, _to_the_end(chosen), wanted, wanted.label, progress)


def _deepest(graph: Graph, objective: Objective) -> Layer | None:
    """The last of the layers that the objective reads: its recipe is the suitable one."""
    read = [layer for layer in graph.layers if layer.tensor in objective.tensors]
    return read[-1] if read else None


def _network(graph: Graph, objective: Objective, chosen: Settings, device: str, precision: str = "auto") -> Network:
    reduced = reduced_precision(graph, objective.tensors, chosen.preset, device, precision)
    return Network(graph, objective.tensors, device, reduced)


def _to_the_end(chosen: Settings) -> Settings:
    """Without stopping where a picture has converged: an objective may compare pictures, and bear any scale."""
    return replace(chosen, preset=replace(chosen.preset, patience=0))


def single(
    network: Network, chosen: Settings, objective: Objective, layer: str, progress: OnProgress | None
) -> AscentResult:
    """One picture that maximizes ``objective``, with its activations on the plain start and end, as a result."""
    chosen = adapted(network, chosen)

    def goal(_: Sequence[int]) -> Objective:
        return objective

    (outcome,) = _run(network, goal, chosen, 1, progress)
    start, end = (float(activations(network, goal, [0], one[None])[0]) for one in (outcome.start, outcome.pixels))
    check_finite(torch.tensor([start, end]), network.graph, f"'{layer}'")
    status = OK if end > start else DEAD if end == start else WEAK
    origin = network.origin()
    unit = UnitResult(
        unit=0,
        image=shown(outcome.pixels, chosen.preset.show, origin),
        start=shown(outcome.start, Clip(), origin),
        history=tuple(outcome.history),
        activation_start=start,
        activation_end=end,
        reference=start,
        status=status,
        reason=f"{objective.label}: from {start:.3g} to {end:.3g}",
        strip=tuple(shown(one, chosen.preset.show, origin) for one in outcome.strip),
    )
    return gathered(network.graph, layer, chosen, [unit], "bfloat16" if network.reduced else "float32")


def _run(network: Network, goal: Goal, chosen: Settings, count: int, progress: OnProgress | None) -> list[Outcome]:
    ascents = [Ascent((chosen.preset.name, chosen.size, chosen.seed, i), i, chosen.start) for i in range(count)]
    batch = AscentBatch(
        network, goal, chosen.preset, ascents, chosen.size, chosen.steps, strip=chosen.strip, together=True
    )

    def on_step(step: int, steps: int) -> None:
        if progress is not None:
            progress(AscentProgress(0, count, step, steps, count))

    return batch.run(on_step)
