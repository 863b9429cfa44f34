"""Many units of one layer: batches, running out of memory, silent units, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..executors.memory import out_of_memory
from ..graph.graph import Graph
from ..graph.layers import Layer
from .fitting import adapted, batch_size, reduced_precision
from .loop import Ascent, AscentBatch, OnStep, Outcome
from .matched import Matching, matched_layers
from .network import Network, before_activation, check_finite, feeds_gate, is_signed
from .recipe import objectives
from .recipe.canvases import Noise, PixelCanvas
from .recipe.presets import PRESETS, Preset, in_place
from .recipe.show import Clip, shown
from .recipe.spectrum import reference_pictures
from .results import DEAD, WEAK, UnitResult
from .settings import Settings, checked_photographs
from .streams import stream
from .tries import PLAN, RECIPE, Try
from .verdicts import activations, is_silent, photographs, verdict


@dataclass(frozen=True)
class AscentProgress:
    """How far the work is: units finished of ``total``, and steps done of the ``batch`` units in hand."""

    done: int
    total: int
    step: int
    steps: int
    batch: int


OnProgress = Callable[[AscentProgress], None]
Units = Sequence[int]


_LEAST = 160  # steps for the tries of a silent unit, where a recipe's own number of steps is lower


@dataclass
class Made:
    """The best picture of a unit so far.

    Attributes:
        unit: which.
        outcome: the picture.
        start, end: what it is judged by, before the first step and after the last.
        how: the name of the try.
        highest: the highest pre-activation of the tries that maximized it.
        tried: steps of the tries of a unit that stayed silent, the recipe's own left out.
    """

    unit: int
    outcome: Outcome
    start: float
    end: float
    how: str = ""
    highest: float | None = None
    tried: int = 0


class Studio:
    """One layer's units under one recipe: makes pictures, batch after batch.

    Args:
        graph: the model.
        layer: where the units are.
        chosen: the settings.
        device: "auto", "cpu" or "cuda[:n]".
        batch: pictures at once, or "auto".
        photos: photographs (N, C, H, W) in [0, 1] to judge by, instead of the shipped ones.
        position: for neuron objectives, (row, column) of the finished picture's map: views are then as large as the
            picture and lie on it but for the jitter, and all steps are at the full size.
        neuron: maximize one position (True) or the mean (False); None leaves it to the preset.
        precision: "auto" computes gradients in bfloat16 where device and network are faster in it and the preset
            allows it; "bfloat16" does so under every preset, "float32" under none.
        beside: further tensors to tap, for objectives of one's own.
    """

    def __init__(
        self,
        graph: Graph,
        layer: Layer,
        chosen: Settings,
        *,
        device: str = "auto",
        batch: int | str = "auto",
        photos: np.ndarray | None = None,
        position: tuple[int, int] | None = None,
        neuron: bool | None = None,
        precision: str = "auto",
        beside: Sequence[str] = (),
    ) -> None:
        self.graph, self.layer = graph, layer
        wants_neuron = chosen.preset.objective.neuron if neuron is None else neuron
        self._neuron = (wants_neuron or position is not None) and layer.has_maps
        self._position, self._device = position, device
        self.gate = before_activation(graph, layer)
        self._signed = not self._neuron and is_signed(graph, layer)
        self._tap = layer.tensor
        if chosen.negative:  # below a gate's threshold only what it reads still falls, and nothing holds it back
            self._tap, self.gate = self.gate or layer.tensor, None
            self._signed = not self._neuron and (self._signed or self._tap != layer.tensor)
        elif self._signed and feeds_gate(graph, layer):
            self.gate = layer.tensor
        self._reduced = reduced_precision(graph, [self._tap], chosen.preset, device, precision)
        matching = chosen.preset.objective.matching
        if matching:
            beside = [*beside, *(la.tensor for la in matched_layers(graph, layer))]
        self.network = Network(graph, [*beside, self._tap], device, self._reduced)
        if position is not None:
            chosen = replace(chosen, preset=in_place(chosen.preset))
        self.chosen = chosen = adapted(self.network, chosen)
        self._before: Network | None = None
        self._photos = (
            reference_pictures(graph.channels, chosen.size)
            if photos is None
            else checked_photographs(photos, graph.channels, chosen.size)
        )
        self._references: dict[int, tuple[float, int, float]] = {}  # unit -> see `verdicts.photographs`
        self._matching = Matching(graph, layer, self.measure, self._tap, self._photos, device) if matching else None
        self.batch = batch_size(batch, graph, layer, chosen, self.network)

    def make(self, units: Units, progress: OnProgress | None = None) -> Iterator[UnitResult]:
        """The units' results, each as soon as its batch is finished."""
        self.refer(units)
        done, total = 0, len(units)
        while done < total:
            part = list(units[done : done + self.batch])

            def on_step(step: int, steps: int, done: int = done, count: int = len(part)) -> None:
                if progress is not None:
                    progress(AscentProgress(done, total, step, steps, count))

            try:
                results = self._finished(part, on_step)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or self.batch <= 1:
                    raise
                self.batch //= 2
                continue
            yield from results
            done += len(part)

    def refer(self, units: Units) -> dict[int, float]:
        """The highest value that the photographs reach, by unit."""
        missing = [u for u in units if u not in self._references]
        found = photographs(self.network, self.measure, missing, self._photos)
        check_finite(torch.tensor([highest for highest, *_ in found]), self.graph, f"'{self.layer.name}'")
        self._references.update(zip(missing, found, strict=True))
        return {u: self._references[u][0] for u in units}

    def goal(self, units: Units) -> objectives.Objective:
        """The objective for the units of a batch."""
        if self._matching is not None:
            return self._matching.goal(units, [self.refer([u])[u] for u in units])
        return self.measure(units) if self.chosen.preset.rectify else self._goal(units, None)

    def measure(self, units: Units) -> objectives.Objective:
        """What pictures are judged by: the objective, but at a layer of signed values the part of the wanted sign."""
        if self._signed:
            return objectives.excitation(self.layer, units, self._tap, self.chosen.negative)
        return self._goal(units, None)

    def _finished(self, units: list[int], on_step: OnStep) -> list[UnitResult]:
        made = self._attempt(units, RECIPE, on_step)
        for other in () if self.chosen.preset.gives_up else PLAN:
            wanting = [u for u in units if self._wants(made[u], u, other)]
            silent = [u for u in wanting if self._is_silent(made[u])]
            short = self._attempt(silent, other, limit=self._limit)
            woken = [u for u in silent if not self._is_silent(short[u])]
            worth = [u for u in wanting if u not in silent] + (woken if self._steps(other) > self._limit else [])
            for attempt in (short, self._attempt(worth, other)):
                for unit, again in attempt.items():
                    made[unit] = _better(made[unit], again)
        return [self.result(made[unit]) for unit in units]

    def _wants(self, made: Made, unit: int, other: Try) -> bool:
        """Whether a unit needs a further try: silent ones do, and under some presets weak ones too."""
        reference = self._references[unit][0]
        if other.photograph and self._gated and reference <= 0:
            return False  # no photograph wakes it
        if other.before and not self._gated:
            return False
        if other.photograph and other.own and self.chosen.preset.insist:
            return False  # our own recipe has begun there already
        silent = self._is_silent(made)
        if self.chosen.start is not None and not silent:
            return False  # what begins at the user's own picture stays, weak or not
        doubtful = self.chosen.preset.insist or made.how != ""
        return silent or (doubtful and other.photograph and not other.own and made.end < reference)

    def _is_silent(self, made: Made) -> bool:
        return is_silent(made.start, made.end, self._gated)

    @property
    def _limit(self) -> int:
        """Steps of one try of a silent unit: all of them together take no more than its picture has taken in vain.

        A unit that speaks after so few is made again with all steps.
        """
        return max(self.chosen.steps, round(_LEAST * self._share), len(PLAN)) // len(PLAN)

    @property
    def _share(self) -> float:
        """How much of the recipe's own number of steps is asked for, at most 1: tries take no more of theirs."""
        return min(self.chosen.steps / self.chosen.preset.steps, 1.0)

    def _steps(self, how: Try) -> int:
        """Steps of a try that is made in full."""
        if how.own:
            return max(1, round(PRESETS["strongest"].steps * self._share))
        return 2 * self.chosen.steps if how.loud else self.chosen.steps

    def _attempt(
        self, units: list[int], how: Try, on_step: OnStep | None = None, limit: int | None = None
    ) -> dict[int, Made]:
        """Pictures of the units by one try, of at most ``limit`` steps."""
        if not units:
            return {}
        c = self.chosen
        network, goal = (self._tap_before(), self._goal_before) if how.before else (self.network, self.goal)
        recipe = replace(c.preset, noise=Noise("uniform", 128, 127)) if how.loud else c.preset
        if how.own:
            recipe = self._strongest()
        if how.centre:
            goal = self._goal_centre
        key = (recipe.name, c.size, c.seed, how.number)
        ascents = [Ascent((*key, unit), unit, self._start(unit, how)) for unit in units]
        steps = self._steps(how) if limit is None else min(self._steps(how), limit)
        batch = AscentBatch(
            network, goal, recipe, ascents, c.size, steps, strip=c.strip, redirect=how.number > 0, alpha=c.alpha
        )
        outcomes = batch.run(on_step)
        heights = activations(network, goal, units, np.stack([o.pixels for o in outcomes])) if how.before else None
        return {
            made.unit: replace(
                made,
                how=how.name,
                highest=None if heights is None else float(heights[i]),
                tried=0 if limit is None else steps,
            )
            for i, made in enumerate(self.measured(units, outcomes))
        }

    def measured(self, units: Units, outcomes: Sequence[Outcome]) -> list[Made]:
        """The pictures with what they are judged by."""
        starts, ends = (
            activations(self.network, self.measure, units, np.stack(pictures))
            for pictures in ([o.start for o in outcomes], [o.pixels for o in outcomes])
        )
        check_finite(torch.from_numpy(np.stack([starts, ends])), self.graph, f"'{self.layer.name}'")
        rows = zip(units, outcomes, starts, ends, strict=True)
        return [Made(unit, outcome, float(start), float(end)) for unit, outcome, start, end in rows]

    def _start(self, unit: int, how: Try) -> np.ndarray | None:
        if how.photograph:
            return self._photos[self._references[unit][1]]
        if self.chosen.noise is not None and not how.loud:
            return self._noise_picture(unit, self.chosen.noise)
        return None if how.loud else self.chosen.start

    def _noise_picture(self, unit: int, noise: Noise) -> np.ndarray:
        """(C, H, W) in [0, 1], of the unit's own stream."""
        c = self.chosen
        recipe = replace(c.preset, picture=PixelCanvas(), noise=noise)
        pixels = recipe.parameterization(self.network.channels, c.size, self.network.origin())
        drawn = pixels.noise(stream(c.preset.name, c.size, c.seed, "noise", unit))
        return pixels.image(drawn[None])[0].clamp(0, 1).numpy()

    def result(self, made: Made) -> UnitResult:
        """The picture with its verdict."""
        reference, _, lowest = self._references[made.unit]
        status, reason = verdict(
            made.start, made.end, reference, self._gated, made.highest, lowest, "photograph" in made.how
        )
        if self.chosen.negative:
            reason = f"inhibition {reason}".replace("excites", "inhibits")
        if status == DEAD and made.tried:
            reason += f"; given up after {made.tried} further steps"
        if status == DEAD and self.chosen.preset.gives_up:
            status = WEAK
            reason = f"silent on photographs and after {len(made.outcome.history)} steps; more tries may wake it"
        origin, style = self.network.origin(), self.chosen.preset.show
        return UnitResult(
            unit=made.unit,
            image=shown(made.outcome.pixels, style, origin),
            start=shown(made.outcome.start, Clip(), origin),
            history=tuple(made.outcome.history),
            activation_start=made.start,
            activation_end=made.end,
            reference=reference,
            status=status,
            reason=reason,
            rescue=made.how,
            strip=tuple(shown(one, style, origin) for one in made.outcome.strip),
            alpha=made.outcome.alpha,
        )

    @property
    def precision(self) -> str:
        """What gradients are computed in."""
        return "bfloat16" if self.network.reduced else "float32"

    @property
    def _gated(self) -> bool:
        return self.gate is not None

    def _goal(self, units: Units, tensor: str | None) -> objectives.Objective:
        if self._neuron:
            found = objectives.neuron(self.layer, units, self._position, tensor or self._tap)
        else:
            found = objectives.channel(self.layer, units, tensor or self._tap)
        return -found if self.chosen.negative else found

    def _goal_before(self, units: Units) -> objectives.Objective:
        return self._goal(units, self.gate)

    def _goal_centre(self, units: Units) -> objectives.Objective:
        if not self.layer.has_maps:
            return self._goal_before(units)
        return objectives.neuron(self.layer, units, None, self.gate)

    def _strongest(self) -> Preset:
        """The recipe of the highest activations, as far as this network can follow it."""
        own = replace(self.chosen, preset=PRESETS["strongest"])
        return adapted(self.network, own).preset

    def _tap_before(self) -> Network:
        if self._before is None:
            assert self.gate is not None
            self._before = Network(self.graph, [self.gate], self._device, self._reduced)
        return self._before


def _better(one: Made, other: Made) -> Made:
    """The picture that activates more; for the verdict, the highest pre-activation and the steps of both."""
    best = other if other.end > one.end else one
    heights = [h for h in (one.highest, other.highest) if h is not None]
    return replace(best, highest=max(heights) if heights else None, tried=one.tried + other.tried)
