"""Recording a pass: when, for which shape, and what happens where it does not work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.network import Network
from convscope.engine.executors import recording
from convscope.engine.executors.recording import Pass, Recorder

from .nets import small

SETTLED = recording._SETTLED


def _cubes(x: Tensor) -> tuple[Tensor, ...]:
    return (x**3,)


class _Recording:
    """In CUDA's stead: keeps which shapes were recorded, and replays ``replay``, or fails."""

    def __init__(self, replay: Pass = _cubes, failure: Exception | None = None) -> None:
        self.replay, self.failure = replay, failure
        self.shapes: list[tuple[int, ...]] = []
        self.replays = 0

    def __call__(self, run: Pass, sample: tuple[Tensor]) -> Callable[[Tensor], Any]:
        if self.failure is not None:
            raise self.failure
        self.shapes.append(tuple(sample[0].shape))

        def replayed(x: Tensor) -> tuple[Tensor, ...]:
            self.replays += 1
            return self.replay(x)

        return replayed


def _passes(recorder: Recorder, count: int, rows: int = 2, gradient: bool = True) -> None:
    for _ in range(count):
        x = torch.rand(rows, 3).requires_grad_(gradient)
        (value,) = recorder(x)
        torch.testing.assert_close(value, x**3)


def test_a_pass_is_recorded_once_its_shape_has_settled_and_then_replayed() -> None:
    record = _Recording()
    recorder = Recorder(_cubes, record)
    _passes(recorder, SETTLED)
    assert record.shapes == []
    _passes(recorder, 5)
    assert record.shapes == [(2, 3)] and record.replays == 1 + 5  # the first replay is a check


def test_another_shape_is_recorded_anew_and_only_where_it_stays() -> None:
    record = _Recording()
    recorder = Recorder(_cubes, record)
    for rows in (2, 3, 2, 4):
        _passes(recorder, SETTLED, rows)
    assert record.shapes == []
    _passes(recorder, 1, 4)
    assert record.shapes == [(4, 3)]


def test_passes_without_a_gradient_are_not_recorded() -> None:
    record = _Recording()
    _passes(Recorder(_cubes, record), 3 * SETTLED, gradient=False)
    assert record.shapes == []


def test_what_cannot_be_recorded_runs_as_before() -> None:
    recorder = Recorder(_cubes, _Recording(failure=RuntimeError("operation not permitted when stream is capturing")))
    _passes(recorder, 3 * SETTLED)
    assert not recorder.works


def test_a_replay_that_gives_something_else_is_not_used() -> None:
    record = _Recording(replay=lambda x: (x**2,))
    recorder = Recorder(_cubes, record)
    _passes(recorder, 3 * SETTLED)
    assert not recorder.works and record.replays == 1


def test_want_of_memory_while_recording_leaves_the_plain_pass_and_other_shapes_their_chance() -> None:
    record = _Recording(failure=torch.cuda.OutOfMemoryError("out of memory"))
    recorder = Recorder(_cubes, record)
    _passes(recorder, 3 * SETTLED, rows=4)
    record.failure = None
    _passes(recorder, 3 * SETTLED, rows=4)
    assert record.shapes == []
    _passes(recorder, SETTLED + 1, rows=2)
    assert record.shapes == [(2, 3)] and record.replays == 2


def _static(run: Pass, sample: tuple[Tensor]) -> Callable[[Tensor], Any]:
    """As CUDA's replays are: one place for the input, the values and the gradient, overwritten by every replay."""
    (place,) = sample
    values = [value.detach().clone() for value in run(place)]
    gradient = torch.zeros_like(place)
    latest: list[tuple[Tensor, ...]] = []

    class Replay(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> tuple[Tensor, ...]:
            place.data.copy_(x)
            with torch.enable_grad():
                latest[:] = [run(place)]
            for value, fresh in zip(values, latest[0], strict=True):
                value.copy_(fresh.detach())
            return tuple(value.detach() for value in values)

        @staticmethod
        def backward(ctx: Any, *pull: Tensor) -> Tensor:
            gradient.copy_(torch.autograd.grad(latest[0], place, pull)[0])
            return gradient.detach()

    return Replay.apply  # type: ignore[no-any-return,no-untyped-call]


@pytest.mark.parametrize("preset", ["convscope", "lucid", "maco", "chollet", "yosinski-a"])
def test_replays_that_overwrite_their_values_make_the_same_picture(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> list[bytes]:
        units = filters(small(), "conv2", [1, 3, 5], preset=preset, size=24, steps=12, precision="float32").units
        return [unit.image.tobytes() for unit in units]

    plain = made()
    recorders: list[Recorder] = []
    begin = Network.__init__

    def recorded(network: Network, *arguments: Any) -> None:
        begin(network, *arguments)
        recorders.append(Recorder(network._pass, _static))
        network._run = recorders[-1]

    monkeypatch.setattr(Network, "__init__", recorded)
    assert made() == plain
    assert any(recorder._replay is not None for recorder in recorders)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("preset", ["convscope", "lucid", "maco", "chollet"])
def test_a_gpus_recorded_steps_make_the_picture_that_its_plain_steps_make(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> Any:
        return filters(small(), "conv2", [3, 5], preset=preset, size=32, steps=40, device="cuda", precision="float32")

    recorded = made()
    monkeypatch.setattr(recording, "_SETTLED", 10**9)
    for one, other in zip(recorded.units, made().units, strict=True):
        assert one.activation_end == pytest.approx(other.activation_end, rel=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_records_an_ordinary_network() -> None:
    graph = small()
    network = Network(graph, [graph.layer("conv2").tensor], "cuda")
    for _ in range(2 * SETTLED):
        network(torch.rand(2, 3, 16, 16, device="cuda", requires_grad=True))
    assert isinstance(network._run, Recorder) and network._run.works and network._run._replay is not None
