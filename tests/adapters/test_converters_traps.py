"""Forms of operators that converters are known to get wrong, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import convscope
from convscope.errors import UnsupportedOperator
from tests import tiny

Weights = dict[str, np.ndarray]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 0.5, shape).astype(np.float32)


def compare(nodes: list[onnx.NodeProto], weights: Weights, opset: int = 17, shape: tuple[int, ...] = (3, 8, 9)) -> None:
    graph = convscope.load(tiny.model(nodes, weights, ("N", *shape), opset=opset), check=False)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    wanted = graph.session(["y"]).run(x)["y"]
    given = graph.twin(["y"]).only(torch.from_numpy(x)).numpy()
    assert given.shape == wanted.shape
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_weights_that_are_computed_while_the_model_runs(op: str) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Mul", ["w", "m"], ["v"]),
        helper.make_node(op, ["x", "v"], ["y"], pads=[1, 0, 1, 2], strides=[2, 1]),
    ]
    compare(nodes, {"w": normal(3, 3, 3, 3)})


def test_weight_from_a_constant_node_and_an_empty_bias() -> None:
    value = numpy_helper.from_array(normal(4, 3, 3, 3))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=value),
        helper.make_node("Conv", ["x", "w", ""], ["y"]),
    ]
    compare(nodes, {})


def test_bias_that_is_computed_while_the_model_runs() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], axes=[0, 2, 3], keepdims=0),
        helper.make_node("Conv", ["x", "w", "m"], ["y"]),
    ]
    compare(nodes, {"w": normal(3, 3, 3, 3)})


def test_pooling_of_eight_bit_integers() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["p"], kernel_shape=[3, 3], pads=[1, 0, 1, 1]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    compare(nodes, {"s": np.array(0.02, np.float32), "z": np.array(3, np.int8)})


def test_maxpool_indices_lead_maxunpool_back_in_every_channel() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MaxUnpool", ["p", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    compare(nodes, {}, shape=(3, 8, 10))


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0], [2, 2, 2, 2], [0, 0, 2, 1]])
@pytest.mark.parametrize(
    ("op", "extra"), [("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})]
)
def test_pooling_rounded_up_drops_windows_that_start_in_the_padding(
    op: str, extra: dict[str, int], pads: list[int]
) -> None:
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=[3, 3], strides=[3, 2], pads=pads, ceil_mode=1, **extra)  # type: ignore[arg-type]
    compare([node], {}, 19)


def test_clip_with_an_empty_minimum_and_with_bounds_the_wrong_way_round() -> None:
    compare([helper.make_node("Clip", ["x", "", "m"], ["y"])], {"m": np.array(0.3, np.float32)})
    bounds = {"a": np.array(1.0, np.float32), "b": np.array(-1.0, np.float32)}
    compare([helper.make_node("Clip", ["x", "a", "b"], ["y"])], bounds)


def test_prelu_slope_whose_first_axis_happens_to_equal_the_channels() -> None:
    compare([helper.make_node("PRelu", ["x", "slope"], ["y"])], {"slope": normal(3, 1)}, shape=(3, 3, 9))


def test_batch_norm_without_epsilon_runs_where_torch_refuses_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.11 does, and an addition per channel becomes such a batch norm."""
    plain = torch.nn.functional.batch_norm

    def strict(*arguments: Any) -> torch.Tensor:
        assert arguments[-1] > 0, "batch_norm eps must be positive"
        return plain(*arguments)

    monkeypatch.setattr(torch.nn.functional, "batch_norm", strict)
    scale = np.array([0.5, 2, -1], dtype=np.float32).reshape(3, 1, 1)
    compare([helper.make_node("Mul", ["x", "s"], ["m"]), helper.make_node("Add", ["m", "s"], ["y"])], {"s": scale})
    weights = {"one": np.ones(3, np.float32), "mean": normal(3), "variance": np.full(3, 0.5, np.float32)}
    names = ["x", "one", "mean", "mean", "variance"]
    compare([helper.make_node("BatchNormalization", names, ["y"], epsilon=0.0)], weights)


def test_batch_norm_in_training_mode_is_refused_by_name() -> None:
    weights = {n: np.ones(3, np.float32) for n in "abcd"}
    node = helper.make_node("BatchNormalization", ["x", *weights], ["y", "m", "v"], "/bn", training_mode=1)
    graph = convscope.load(tiny.model([node], weights, opset=15), check=False)
    with pytest.raises(UnsupportedOperator, match="training mode"):
        graph.twin(["y"])
