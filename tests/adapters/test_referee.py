"""Where the executors part: what is rounding passes, and who is off is named by float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import convscope
from convscope.adapters import check
from convscope.adapters.check import check_parity
from convscope.adapters.verify import verify
from convscope.engine.executors.session import Session
from convscope.engine.graph.graph import Graph
from convscope.errors import ParityError, RefusedInput
from tests import tiny


def faint_map(bias: float = -12.0) -> onnx.ModelProto:
    """A detector's map of objectness: sigmoids of some 5e-6, times sizes."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32),
        "b": np.full(4, bias, np.float32),
        "sizes": rng.uniform(20, 80, (1, 4, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["s", "sizes"], ["y"]),
    ]
    return tiny.model(nodes, weights)


@pytest.fixture
def sloppy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime whose sigmoid is off by 1e-7, as ONNX Runtime's approximation is on some machines."""
    run = Session.run

    def off(self: Session, *arguments: Any, **options: Any) -> dict[str, np.ndarray]:
        found = run(self, *arguments, **options)
        if "s" in found:
            found["s"] = found["s"] + np.float32(1e-7)
        if "y" in found:
            found["y"] = found["y"] + np.float32(5e-6)
        return found

    monkeypatch.setattr(Session, "run", off)


@pytest.mark.usefixtures("sloppy")
def test_a_sigmoid_off_by_the_last_bit_of_its_range_is_no_difference() -> None:
    graph = convscope.load(faint_map(), check=False)
    worst = max(check_parity(graph), key=lambda d: d.rel)
    assert worst.rel > 5e-3
    found = verify(graph)
    assert found.ok and found.rounded == 1 and found.reason is None  # what is made of the map, by its last bits


def test_a_sigmoid_off_by_more_is_a_difference_and_the_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = convscope.load(faint_map(0.0), check=False)
    run = Session.run
    monkeypatch.setattr(
        Session, "run", lambda self, *a, **k: {n: v * 1.01 if n == "s" else v for n, v in run(self, *a, **k).items()}
    )
    with pytest.raises(ParityError, match=r"ONNX Runtime is off by 0\.01 of the largest value at 's' \(Sigmoid\)"):
        check_parity(graph)
    found = verify(graph)
    assert not found.ok and found.worst["tensor"] == "s" and "ONNX Runtime is off" in str(found.reason)


def test_a_twin_that_is_off_in_float32_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = convscope.load(faint_map(0.0), check=False)
    twin = Graph.twin

    def coarse(self: Graph, *arguments: Any, **options: Any) -> Any:
        made = twin(self, *arguments, **options)
        if options.get("dtype") is None:
            for weight in made.parameters():
                weight.data = torch.round(weight.data * 8) / 8
        return made

    monkeypatch.setattr(Graph, "twin", coarse)
    with pytest.raises(ParityError, match="the twin is off by"):
        check_parity(graph)


def test_a_weight_that_is_no_number_is_named() -> None:
    model = tiny.small_cnn()
    broken = next(t for t in model.graph.initializer if t.name == "conv2.weight")
    values = onnx.numpy_helper.to_array(broken).copy()
    values[3, 1, 0, 0] = np.nan
    broken.CopyFrom(onnx.numpy_helper.from_array(values, broken.name))
    with pytest.raises(RefusedInput, match=r"weight 'conv2\.weight' holds NaN \(1 of its 864 values\)"):
        convscope.load(model)
    with pytest.raises(RefusedInput, match=r"conv2\.weight"):
        verify(convscope.load(model, check=False))


def test_a_sigmoid_map_of_millionths_is_measured_by_its_operators_range(sloppy: None) -> None:
    """Its largest value is a few times the last bit of a number below 1; what is behind it only moves it."""
    model = faint_map(-16.0)
    del model.graph.node[2]
    model.graph.node.append(helper.make_node("Transpose", ["s"], ["y"], perm=[0, 2, 3, 1]))
    model.graph.initializer.pop()
    result = verify(convscope.load(model))
    assert result.ok, result


@pytest.mark.parametrize("kind", [IndexError, RuntimeError, ValueError, TypeError])
def test_a_twin_that_fails_at_the_small_size_of_the_check_is_asked_at_the_own_size(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """As ddddocr's common_old.onnx, whose text head takes no picture as small as the check's."""
    run, sizes = check._run_twin, []

    def fails_when_small(graph: Graph, names: list[str], feeds: dict[str, np.ndarray], *rules: Any) -> Any:
        sizes.append(feeds["x"].shape[2:])
        if names and (is_always or feeds["x"].shape[2] < 96):
            raise kind("index 7 is out of bounds for dimension 0 with size 3\nand more")
        return run(graph, names, feeds, *rules)

    monkeypatch.setattr(check, "_run_twin", fails_when_small)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    made = tiny.model(nodes, {"w": np.ones((2, 3, 3, 3), np.float32)}, ("N", 3, None, None))
    is_always = False
    assert convscope.load(made, size=96).proof is not None and {(64, 64), (96, 96)} <= set(sizes)
    is_always = True
    with pytest.raises(RefusedInput, match=r"the twin cannot run this image: index 7 is out of .* \(at tensor 'c'\)$"):
        convscope.load(made, size=96)
