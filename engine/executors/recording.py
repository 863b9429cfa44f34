"""On a GPU: the network's pass and its gradient recorded once as CUDA graphs and replayed in every step.

A step launches hundreds of small kernels one by one; for shallow cuts and small batches the processor takes longer to
launch them than the GPU to run them. A recording is one launch. It holds for one shape, so it is made once a shape has
stayed for some steps (pictures leave a batch as they converge, and stages change the size), and only the last is kept:
each holds the memory of a whole pass.

Nothing that a network could do on the way is forbidden: what cannot be recorded (a node that asks the processor for a
value) or replays to something else runs as before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .exact import float32_exactly, grad
from .memory import out_of_memory

Pass = Callable[[Tensor], tuple[Tensor, ...]]
Record = Callable[[Pass, tuple[Tensor]], Any]

_SETTLED = 4  # passes of one shape before it is recorded: recording costs about as many
_TOLERANCE = 0.02  # of the gradient's norm: kernels may be chosen anew, and bfloat16 has eight bits


class Recorder:
    """A pass that is recorded and replayed where that works.

    Args:
        run: pictures to tensors, differentiable, without side effects.
        record: makes a replaying pass of a pass and sample arguments; CUDA's own by default.
    """

    def __init__(self, run: Pass, record: Record = torch.cuda.make_graphed_callables) -> None:
        self._run, self._record = run, record
        self._shape: tuple[int, ...] = ()
        self._seen = 0
        self._replay: Pass | None = None
        self.works = True

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """What ``run`` gives; what a replay gives is overwritten by the next."""
        if not x.requires_grad or not self.works:
            return self._run(x)
        if x.shape != self._shape:
            self._shape, self._seen, self._replay = tuple(x.shape), 0, None
        self._seen += 1
        if self._seen == _SETTLED + 1:
            self._replay = self._recorded(x.detach().clone().requires_grad_())
        return (self._replay or self._run)(x)

    def _recorded(self, sample: Tensor) -> Pass | None:
        """A replay that gives what the pass gives, or None: for this shape where memory is short, else for good."""
        expected = _gradient(self._run, sample)
        try:
            with float32_exactly(), warnings.catch_warnings():  # a recording keeps the kernels that were chosen
                warnings.filterwarnings("ignore", message=".*AccumulateGrad node's stream")  # torch records on another
                replay: Pass = self._record(self._run, (sample,))
            difference = float((_gradient(replay, sample) - expected).norm())
            self.works = difference <= _TOLERANCE * float(expected.norm())
        except RuntimeError as error:
            self.works = out_of_memory(error)  # a recording keeps all that lies between; the plain pass may yet fit
            return None
        return replay if self.works else None


def _gradient(run: Pass, sample: Tensor) -> Tensor:
    """Of the sum of squares of all values, which asks every one of them for something else."""
    total = torch.stack([value.square().sum() for value in run(sample)]).sum()
    return grad(total, sample)[0].clone()
