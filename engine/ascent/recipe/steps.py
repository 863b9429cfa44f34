"""Step rules: how a gradient becomes the next parameters.

Every rule works picture by picture (norms are over one picture) or element by element, so no picture's step depends
on another's gradient. State lives in a dict of tensors with the batch first, so that pictures can leave the batch
and parameters can grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]


class StepRule(Protocol):
    """One step of ascent."""

    def over(self, steps: int) -> StepRule:
        """The rule for an ascent of so many steps."""
        ...

    def start(self, parameters: Tensor) -> State:
        """The state before the first step."""
        ...

    def __call__(self, parameters: Tensor, gradient: Tensor, state: State, step: int) -> Tensor:
        """The next parameters; updates ``state``. ``step`` counts from 0."""
        ...


@dataclass(frozen=True)
class Normalized:
    """``p + size * g / (norm(g) + epsilon)``, the norm being that of one picture.

    ``norm`` is "rms", the root of the mean square (Chollet 2016: How convolutional neural networks see the world),
    or "mean", the mean absolute value (Mordvintsev et al. 2015: DeepDream).
    """

    size: float = 1.0
    norm: str = "rms"
    epsilon: float = 1e-5

    def over(self, steps: int) -> StepRule:
        return self

    def start(self, parameters: Tensor) -> State:
        return {}

    def __call__(self, parameters: Tensor, gradient: Tensor, state: State, step: int) -> Tensor:
        flat = gradient.flatten(1)
        norms = flat.abs().mean(1) if self.norm == "mean" else flat.square().mean(1).sqrt()
        return parameters + self.size * gradient / (_rows(norms, gradient) + self.epsilon)


@dataclass(frozen=True)
class Forecast:
    """The rate that a linear forecast says will raise the objective by ``desired``: min(limit, desired / |g|^2).

    The learning policy of J. Yosinski et al. 2015 (Understanding Neural Networks Through Deep Visualization,
    arXiv:1506.06579), as in their toolbox. Without ``desired`` the rate is ``limit``.
    """

    limit: float
    desired: float | None = None

    def over(self, steps: int) -> StepRule:
        return self

    def start(self, parameters: Tensor) -> State:
        return {}

    def __call__(self, parameters: Tensor, gradient: Tensor, state: State, step: int) -> Tensor:
        if self.desired is None:
            return parameters + self.limit * gradient
        squared = gradient.flatten(1).square().sum(1).clamp_min(1e-30)
        return parameters + _rows((self.desired / squared).clamp_max(self.limit), gradient) * gradient


@dataclass(frozen=True)
class Adam:
    """D. Kingma and J. Ba 2015 (arXiv:1412.6980); ``nesterov`` makes it T. Dozat's NAdam (2016), as torch has it.

    With ``anneal`` the rate falls along half a cosine from ``rate`` to ``anneal * rate`` over the ascent's steps
    (I. Loshchilov and F. Hutter 2017, SGDR, arXiv:1608.03983, one cycle), or over what is left of them after a share of
    ``hold`` at the full rate.
    """

    rate: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    nesterov: bool = False
    momentum_decay: float = 4e-3
    anneal: float = 1.0
    hold: float = 0.0
    horizon: int = 1

    def over(self, steps: int) -> StepRule:
        return replace(self, horizon=steps)

    def start(self, parameters: Tensor) -> State:
        return {"first": torch.zeros_like(parameters), "second": torch.zeros_like(parameters)}

    def __call__(self, parameters: Tensor, gradient: Tensor, state: State, step: int) -> Tensor:
        first = state["first"] = self.beta1 * state["first"] + (1 - self.beta1) * gradient
        second = state["second"] = self.beta2 * state["second"] + (1 - self.beta2) * gradient.square()
        deviation = (second / (1 - self.beta2 ** (step + 1))).sqrt() + self.epsilon
        if not self.nesterov:
            return parameters + self._rate(step) / (1 - self.beta1 ** (step + 1)) * first / deviation
        now, after, product = self._momenta(step)
        mean = (1 - now) / (1 - product) * gradient + after / (1 - product * after) * first
        return parameters + self._rate(step) * mean / deviation

    def _rate(self, step: int) -> float:
        passed = (step / self.horizon - self.hold) / (1 - self.hold)
        share = 0.5 * (1 + math.cos(math.pi * min(max(passed, 0.0), 1.0)))
        return self.rate * (self.anneal + (1 - self.anneal) * share)

    def _momenta(self, step: int) -> tuple[float, float, float]:
        """NAdam's momentum of this step and the next, and the product of all up to this one."""
        momenta = [self.beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * self.momentum_decay)) for t in range(step + 2)]
        product = 1.0
        for momentum in momenta[:-1]:
            product *= momentum
        return momenta[-2], momenta[-1], product


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *([1] * (like.dim() - 1)))
