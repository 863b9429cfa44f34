"""The ascent itself: many pictures in one batch, each a function of itself alone.

Nothing here mixes pictures: step rules, regularizers and transforms work row by row, and random numbers come from each
picture's own stream. On the CPU convolutions of one picture and of many may differ in the last bits (those of 2 to 16
were not found to), so a picture of much work goes through the network by itself in every batch, and of the others a
lone one gets a companion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from ..executors.exact import grad
from .network import Network, check_finite
from .recipe.objectives import Objective
from .recipe.parameterizations import Parameterization
from .recipe.presets import Preset, Stage, fitted
from .recipe.steps import State
from .streams import stream

OnStep = Callable[[int, int], None]  # steps done of this batch, steps in all


@dataclass(frozen=True)
class Ascent:
    """One picture to make.

    Attributes:
        key: what names its random stream.
        unit: given to the objective.
        start: a picture (C, H, W) in [0, 1] to start from, or None for the preset's noise.
    """

    key: tuple[object, ...]
    unit: int
    start: np.ndarray | None = None


@dataclass
class Outcome:
    """One finished picture.

    Attributes:
        pixels: (C, H, W) as the network saw it, mostly in [0, 1].
        start: the same before the first step.
        history: the objective per step, on the transformed views.
        strip: pictures on the way, where asked for.
        attention: the magnitude of the picture's gradient, mean over its channels, summed over the steps at its full
            size, (H, W); where asked for.
    """

    pixels: np.ndarray
    start: np.ndarray
    history: list[float]
    strip: list[np.ndarray] = field(default_factory=list)
    attention: np.ndarray | None = None

    @property
    def alpha(self) -> np.ndarray | None:
        """The attention as an opacity in [0, 1], its upper fifth opaque, as in Horama's ``plot_maco``."""
        if self.attention is None:
            return None
        clipped = np.minimum(self.attention, np.percentile(self.attention, 80))
        return np.asarray(clipped / max(float(clipped.max()), 1e-30), dtype=np.float32)


Goal = Callable[[Sequence[int]], Objective]  # units of the pictures in the batch -> their objective


class AscentBatch:
    """The state of some pictures between steps.

    Args:
        network: taps what the goal reads.
        goal: the objective for given units.
        preset: the recipe; its stages, step rule, transform and regularizers are used.
        ascents: the pictures.
        size: (height, width) of the finished pictures.
        steps: in all.
        strip: how many pictures on the way to keep, at most one a step.
        redirect: use redirected gradients in every step.
        together: the objective may compare the pictures, so that none goes through the network without the others; else
            each is a function of itself alone.
        alpha: keep the pictures' attention.
    """

    def __init__(
        self,
        network: Network,
        goal: Goal,
        preset: Preset,
        ascents: Sequence[Ascent],
        size: tuple[int, int],
        steps: int,
        *,
        strip: int = 0,
        redirect: bool = False,
        together: bool = False,
        alpha: bool = False,
    ) -> None:

        self.network, self.goal, self.ascents, self.steps = network, goal, list(ascents), steps
        origin = network.origin()
        self.preset = fitted(preset, origin)
        self.final = self.preset.parameterization(network.channels, size, origin)
        self.together, self.rule = together, self.preset.rule.over(steps)
        self.redirect = steps if redirect else self.preset.redirect
        streams = [stream(*ascent.key) for ascent in ascents]
        noise = torch.stack([self.final.noise(rng) for rng in streams])
        self.noise = _started(self.final, noise, ascents).to(network.device)
        self.rows = np.stack([self.preset.transform.draw(rng, steps) for rng in streams])
        self.keep_at = _kept_steps(strip, steps)
        with torch.no_grad():
            pixels = self.final.image(self.noise).cpu().numpy()
        self.outcomes = [Outcome(one, one, []) for one in pixels]
        self.alpha = alpha

    def run(self, on_step: OnStep | None = None) -> list[Outcome]:
        """All steps; the outcomes in the order of the ascents."""
        alive = list(range(len(self.ascents)))
        stage_ends = _schedule(self.preset.stages, self.steps)
        parameters, base, space, state = None, None, self.final, State()
        done = 0
        for number, (stage, end) in enumerate(zip(self.preset.stages, stage_ends, strict=True)):
            space, fresh = self._space(stage, alive)
            parameters, state = self._moved(parameters, state, base, fresh, space)
            base = fresh
            while done < end and alive:
                alive, parameters, state = self._step(alive, parameters, state, space, done, number)
                done += 1
                if on_step is not None:
                    on_step(done, self.steps)
        if alive and parameters is not None:
            self._finish(alive, range(len(alive)), parameters, space)
        return self.outcomes

    def _space(self, stage: Stage, alive: Sequence[int]) -> tuple[Parameterization, Tensor]:
        """The parameterization of a stage and its unoptimized parameters."""
        height, width = self.outcomes[0].pixels.shape[1:]
        size = max(1, round(height * stage.size)), max(1, round(width * stage.size))
        if size == (height, width):
            return self.final, self.noise[list(alive)]
        space = self.final.at(size)
        with torch.no_grad():
            return space, space.shrink(self.noise[list(alive)], self.final)

    def _moved(
        self, parameters: Tensor | None, state: State, base: Tensor | None, fresh: Tensor, space: Parameterization
    ) -> tuple[Tensor, State]:
        """Parameters and optimizer state carried over to a stage's size."""
        if parameters is None or base is None:
            return fresh, self.rule.start(fresh)
        if parameters.shape == fresh.shape:
            return parameters, state
        zero, none = torch.zeros_like(fresh), torch.zeros_like(base)
        return space.grow(parameters, base, fresh), {n: space.grow(v, none, zero) for n, v in state.items()}

    def _step(
        self, alive: list[int], parameters: Tensor, state: State, space: Parameterization, step: int, stage: int
    ) -> tuple[list[int], Tensor, State]:
        if len(alive) == 1 and not self.together:
            rows, batch = [alive[0], alive[0]], torch.cat([parameters, parameters])
            state = {name: torch.cat([value, value]) for name, value in state.items()}
        else:
            rows, batch = alive, parameters
        for change in self.preset.before:
            batch = change(batch, batch, step)
        values, gradient = self._gradient(rows, batch, space, step)
        for i, value in zip(alive, values, strict=False):
            self.outcomes[i].history.append(value)
        if step == 0:
            check_finite(torch.tensor(values), self.network.graph, f"'{self.network.tensors[-1]}'")
        if not (self.preset.skip_last and step == self.steps - 1):
            batch = self.rule(batch, gradient, state, step)
            for change in self.preset.regularizers:
                batch = change(batch, gradient, step)
        batch, state = batch[: len(alive)], {name: value[: len(alive)] for name, value in state.items()}
        if step in self.keep_at:
            self._snapshot(alive, batch, space)
        leaving = [k for k, i in enumerate(alive) if self._converged(i, stage)]
        if not leaving:
            return alive, batch, state
        self._finish(alive, leaving, batch, space)
        staying = [k for k in range(len(alive)) if k not in set(leaving)]
        return [alive[k] for k in staying], batch[staying], {name: v[staying] for name, v in state.items()}

    def _gradient(
        self, rows: Sequence[int], batch: Tensor, space: Parameterization, step: int
    ) -> tuple[list[float], Tensor]:
        """Values and gradients; a picture without any gradient gets the redirected one in the first steps."""
        values, gradient = self._pass(rows, batch, space, step, redirect=False)
        silent = ~(gradient != 0).flatten(1).any(1)
        if step < self.redirect and bool(silent.any()):
            which = torch.arange(len(rows), device=silent.device) if self.together else silent.nonzero().flatten()
            pair = which.repeat(2) if len(which) == 1 and not self.together else which
            _, helped = self._pass([rows[k] for k in pair.tolist()], batch[pair], space, step, redirect=True)
            helped = torch.zeros_like(gradient).index_copy(0, which, helped[: len(which)])
            gradient = torch.where(_like(silent, gradient), helped, gradient)
        return values.cpu().tolist(), gradient

    def _pass(
        self, rows: Sequence[int], batch: Tensor, space: Parameterization, step: int, redirect: bool
    ) -> tuple[Tensor, Tensor]:
        """Values (N,) and gradients of pictures; of those that go through the network alone each is computed once."""
        if self.together or not self.network.is_busy_with(space.size, self.preset.transform.views):
            return self._pass_at_once(rows, batch, space, step, redirect)
        each = {
            i: self._pass_at_once([i], batch[k : k + 1], space, step, redirect)
            for k, i in enumerate(rows)
            if i not in rows[:k]
        }
        values, gradients = zip(*(each[i] for i in rows), strict=True)
        return torch.cat(values), torch.cat(gradients)

    def _pass_at_once(
        self, rows: Sequence[int], batch: Tensor, space: Parameterization, step: int, redirect: bool
    ) -> tuple[Tensor, Tensor]:
        batch = batch.detach().requires_grad_()
        height, width = self.outcomes[0].pixels.shape[1:]
        image = space.image(batch)
        views = self.preset.transform(image, self.rows[list(rows), step], (height, width))
        values = self._values([self.ascents[i].unit for i in rows], self.network(views, redirect))
        wanted = values - sum(penalty(image) for penalty in self.preset.penalties)
        if not wanted.requires_grad:
            raise UsageError("the objective has no gradient: it is not computed from the layers' own tensors")
        attended = self.alpha and image.shape[2:] == self.outcomes[0].pixels.shape[1:]
        gradient, *of_image = grad(wanted.sum(), (batch, image) if attended else (batch,))
        for seen in of_image:
            self._attend(rows, seen)
        return values.detach(), gradient

    def _attend(self, rows: Sequence[int], gradient: Tensor) -> None:
        """Adds the magnitude of each picture's gradient to its attention; a companion is the picture itself."""
        for i, one in dict(zip(rows, gradient.abs().mean(1).cpu().numpy(), strict=True)).items():
            before = self.outcomes[i].attention
            self.outcomes[i].attention = one if before is None else before + one

    def _values(self, units: Sequence[int], tapped: dict[str, Tensor]) -> Tensor:
        """Each picture's objective, (N,), the mean over its views."""
        objective = self.goal(units)
        if self.preset.transform.views == 1:
            return objective(tapped).float()
        of_views = zip(*(tensor.unflatten(0, (len(units), -1)).unbind(1) for tensor in tapped.values()), strict=True)
        each = [objective(dict(zip(tapped, view, strict=True))).float() for view in of_views]
        return torch.stack(each, 1).mean(1)

    def _converged(self, i: int, stage: int) -> bool:
        wait, history = self.preset.patience, self.outcomes[i].history
        start = _schedule(self.preset.stages, self.steps)[stage - 1] if stage else 0
        if not wait or stage < len(self.preset.stages) - 1 or len(history) - start < 2 * wait or len(history) % wait:
            return False
        late, early = np.mean(history[-wait:]), np.mean(history[-2 * wait : -wait])
        return bool(early > 0 and late < early * (1 + self.preset.gain))

    def _finish(self, alive: Sequence[int], which: Sequence[int], parameters: Tensor, space: Parameterization) -> None:
        with torch.no_grad():
            pixels = space.image(parameters[list(which)]).cpu().numpy()
        for k, one in zip(which, pixels, strict=True):
            self.outcomes[alive[k]].pixels = one

    def _snapshot(self, alive: Sequence[int], parameters: Tensor, space: Parameterization) -> None:
        with torch.no_grad():
            pixels = space.image(parameters).cpu().numpy()
        for i, one in zip(alive, pixels, strict=True):
            self.outcomes[i].strip.append(one)


def _started(space: Parameterization, noise: Tensor, ascents: Sequence[Ascent]) -> Tensor:
    """The start parameters: the noise, or a given picture's code."""
    if all(ascent.start is None for ascent in ascents):
        return noise
    rows = [
        noise[i] if ascent.start is None else space.encode(torch.from_numpy(ascent.start[None].astype(np.float32)))[0]
        for i, ascent in enumerate(ascents)
    ]
    return torch.stack(rows)


def _schedule(stages: Sequence[Stage], steps: int) -> list[int]:
    """The step at which each stage ends; the last one always ends with the steps."""
    ends = np.cumsum([s.steps for s in stages])
    return [*(round(steps * float(e / ends[-1])) for e in ends[:-1]), steps]


def _kept_steps(count: int, steps: int) -> set[int]:
    """After which steps a picture is kept, evenly spaced up to the last; every one where there are no more."""
    if count >= steps:
        return set(range(steps))
    return {int(step) for step in np.linspace(0, steps - 1, count + 1).round()[1:]}


def _like(flags: Tensor, values: Tensor) -> Tensor:
    """One flag for each row of ``values``, shaped to choose among them."""
    return flags.reshape(-1, *([1] * (values.dim() - 1)))
