"""The layer table: receptive fields against the gradient's own support, counts against hand calculation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

import convscope
from tests import tiny


def chain(*specs: dict[str, Any]) -> convscope.Graph:
    """Convolutions with positive weights (so that no path cancels), each ``spec`` its attributes."""
    nodes, weights, tensor, channels = [], {}, "x", 1
    for i, spec in enumerate(specs):
        op = str(spec.get("op", "Conv"))
        attributes = {k: v for k, v in spec.items() if k not in ("op", "kernel")}
        kernel = spec.get("kernel", 3)
        assert isinstance(kernel, int)
        inputs = [tensor]
        if op in ("Conv", "ConvTranspose"):
            weights[f"w{i}"] = np.ones((1, channels, kernel, kernel), np.float32)
            inputs.append(f"w{i}")
        else:
            attributes["kernel_shape"] = [kernel, kernel]
        nodes.append(helper.make_node(op, inputs, [f"t{i}"], **attributes))
        tensor = f"t{i}"
    return convscope.load(tiny.model(nodes, weights, ("N", 1, 64, 64), (tensor,)), check=False)


def support(graph: convscope.Graph, layer: convscope.Layer, row: int, column: int) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of the pixels with a gradient, for one position of one layer."""
    twin = graph.until(layer)
    # a ramp makes max-pool ties impossible to hide a pixel: average over shifts is not needed for sums
    x = torch.ones(1, 1, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(twin.only(x)[0, 0, row, column], x)
    rows, columns = torch.nonzero(gradient[0, 0], as_tuple=True)
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


CHAINS: dict[str, list[dict[str, Any]]] = {
    "one": [{}],
    "padded": [{"pads": [1, 1, 1, 1]}, {"pads": [1, 1, 1, 1]}],
    "strided": [{"strides": [2, 2], "pads": [1, 1, 1, 1]}, {"kernel": 5, "strides": [2, 2], "pads": [2, 2, 2, 2]}],
    "dilated": [{"dilations": [2, 2], "pads": [2, 2, 2, 2]}, {"dilations": [3, 3]}],
    "pooled": [{"pads": [1, 1, 1, 1]}, {"op": "AveragePool", "kernel": 2, "strides": [2, 2]}, {"pads": [1, 1, 1, 1]}],
    "asymmetric": [{"pads": [0, 0, 1, 1], "strides": [2, 2]}, {"pads": [1, 1, 0, 0]}],
    "auto_pad": [{"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER", "kernel": 4}],
}


@pytest.mark.parametrize("name", CHAINS)
def test_receptive_fields_are_where_the_gradient_is(name: str) -> None:
    graph = chain(*CHAINS[name])
    for layer in graph.layers:
        assert layer.receptive_field is not None
        for row, column in ((3, 4), (5, 5)):
            box = layer.receptive_field.box(row, column)
            assert box is not None
            clipped = tuple(min(max(v, 0), 64) for v in box)
            assert clipped == support(graph, layer, row, column)


def test_a_gate_that_sees_everything_does_not_widen_the_field_and_a_dense_layer_does() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["gated"]),
        helper.make_node("GlobalAveragePool", ["gated"], ["y"]),
    ]
    graph = convscope.load(tiny.model(nodes, {"w": np.ones((4, 3, 3, 3), np.float32)}), check=False)
    assert graph.layer("gated").receptive_field.size == (3, 3)  # type: ignore[union-attr]
    assert graph.layer("y").receptive_field.size is None  # type: ignore[union-attr]


def test_a_torch_networks_parameters_are_those_that_torch_counts() -> None:
    network = torch.nn.Sequential(
        torch.nn.BatchNorm2d(3), torch.nn.Upsample(scale_factor=2, mode="bilinear"), torch.nn.Conv2d(3, 4, 3)
    ).eval()
    graph = convscope.load(network, size=16, check=False)
    assert sum(la.parameters for la in graph.layers) == sum(p.numel() for p in network.parameters())


def test_statistics_count_in_a_file_that_keras_made() -> None:
    file = tiny.small_cnn()
    file.producer_name = "tf2onnx"
    assert convscope.load(file, check=False).layer("bn1").parameters == 4 * 8


def test_parameters_and_multiply_adds_are_those_of_hand_calculation() -> None:
    graph = convscope.load(tiny.small_cnn(), check=False)
    assert graph.layer("conv1").parameters == 8 * 3 * 9 + 8
    assert graph.layer("conv1").macs == 16 * 16 * 8 * 3 * 9
    assert graph.layer("bn1").parameters == 2 * 8
    assert graph.layer("conv2").macs == 8 * 8 * 12 * 8 * 9
    assert graph.layer("fc").parameters == 5 * 12 + 5
    assert graph.layer("fc").macs == 5 * 12
    assert graph.layer("conv2").shape == (None, 12, 8, 8)
    assert [layer.index for layer in graph.layers] == list(range(10))


def test_layers_are_found_by_name_tensor_index_glob_and_alias() -> None:
    graph = convscope.load(tiny.small_cnn(), check=False)
    assert (
        graph.layer("conv2") is graph.layer("c2") is graph.layer(4) is graph.layer("-6") is graph.layer("/conv2/Conv")
    )
    assert [layer.name for layer in graph.match("conv*,fc")] == ["conv1", "conv2", "fc"]
    assert graph.logits == "logits"
    assert graph.last_spatial_layer().name == "relu2"


def test_an_unknown_layer_names_the_closest() -> None:
    graph = convscope.load(tiny.small_cnn(), check=False)
    with pytest.raises(convscope.UsageError, match=r"layer 'conv3' is not in .* closest: 'conv2'"):
        graph.layer("conv3")
    with pytest.raises(convscope.UsageError, match=r"layer 99 is out of range: .* layers \(0-\d+\)"):
        graph.layer(99)


class Parametrized(torch.nn.Module):
    """Weights that are computed from others, and group normalization."""

    def __init__(self) -> None:
        super().__init__()
        parametrizations = torch.nn.utils.parametrizations
        self.stem = parametrizations.weight_norm(torch.nn.Conv2d(3, 8, 3))
        self.norm = torch.nn.GroupNorm(4, 8)
        self.last = parametrizations.spectral_norm(torch.nn.Conv2d(8, 6, 3))
        with torch.no_grad():
            self.norm.weight.normal_()
            self.norm.bias.normal_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.stem(x))))


def test_a_weight_that_is_computed_from_others_is_a_kernel_and_group_normalization_keeps_the_units() -> None:
    torch.manual_seed(0)
    network = Parametrized().eval()
    graph = convscope.load(network, size=16)
    for name in ("stem", "last"):
        kernel = getattr(network, name).weight.detach().numpy()
        np.testing.assert_allclose(convscope.weights(graph, name).kernels[name], kernel, rtol=1e-5, atol=1e-7)
    assert [graph.layer(name).channels for name in ("stem", "norm", "last")] == [8, 8, 6]
    assert graph.layer("norm").receptive_field.size == (3, 3)  # type: ignore[union-attr]
    assert graph.layer("last").receptive_field.size == (5, 5)  # type: ignore[union-attr]
    kernels = network.stem.weight.numel() + network.last.weight.numel()
    assert sum(la.parameters for la in graph.layers) == kernels + 8 + 2 * 8 + 6
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        np.testing.assert_allclose(graph.until("last").only(x), network(x), rtol=1e-4, atol=1e-5)


QUANTIZED = {
    "dequantized": (
        [
            helper.make_node("DequantizeLinear", ["w", "scales", "zeros"], ["dw"], axis=0),
            helper.make_node("DequantizeLinear", ["b", "scales", "wide"], ["db"], axis=0),
            helper.make_node("Conv", ["x", "dw", "db"], ["y"]),
        ],
        6 * 27 + 6,
    ),
    "whole numbers": (
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            helper.make_node("ConvInteger", ["q", "w", "z"], ["whole"]),
            helper.make_node("Cast", ["whole"], ["cast"], to=1),
            helper.make_node("Mul", ["s", "one"], ["scale"]),
            helper.make_node("Mul", ["cast", "scale"], ["y"]),
        ],
        6 * 27,
    ),
}


@pytest.mark.parametrize("form", QUANTIZED)
def test_a_quantized_networks_weights_and_work_are_counted_and_its_scales_are_not(form: str) -> None:
    nodes, parameters = QUANTIZED[form]
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {
        "w": rng.integers(-99, 99, (6, 3, 3, 3)).astype(np.int8), "b": np.arange(6, dtype=np.int32),
        "scales": np.linspace(0.1, 0.2, 6).astype(np.float32), "zeros": np.zeros(6, np.int8),
        "wide": np.zeros(6, np.int32), "one": np.array(0.5, np.float32),
    }  # fmt: skip
    read = {name for node in nodes for name in node.input}
    model = tiny.model(nodes, {k: v for k, v in weights.items() if k in read}, ("N", 3, 8, 8), ("y",))
    graph = convscope.load(model, check=False)
    assert sum(la.parameters for la in graph.layers) == parameters
    assert sum(la.macs for la in graph.layers) == 6 * 6 * 6 * 27
    assert graph.layer("y").receptive_field.size == (3, 3)  # type: ignore[union-attr]
    assert not any("cannot be followed" in note for note in graph.source.notes)


def test_the_stride_behind_a_group_normalization_or_a_resize_is_that_of_the_steps_inside_the_picture() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 5, 2, 2), torch.nn.GroupNorm(2, 4),
        torch.nn.Conv2d(4, 4, 3, 2, 1), torch.nn.GroupNorm(2, 4),
        torch.nn.Upsample(scale_factor=8),
    ).eval()  # fmt: skip
    fields = {la.name: la.receptive_field for la in convscope.load(network, size=48).layers}
    assert [fields[name].stride for name in "1234"] == [(2, 2), (4, 4), (4, 4), (0.5, 0.5)]  # type: ignore[union-attr]
    signal = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 9, 4, 4), torch.nn.ReLU(), torch.nn.Conv1d(4, 4, 9, 4, 4)).eval()
    graph = convscope.load(signal, example_input=torch.rand(1, 1, 512))
    assert [la.receptive_field.stride for la in graph.layers] == [(1, 4), (1, 4), (1, 16)]  # type: ignore[union-attr]


@pytest.mark.parametrize("opset", [18, 21])
def test_layers_behind_a_group_norm_have_their_sizes(opset: int) -> None:
    """ONNX's own inference (1.23) says nothing of GroupNormalization 21, and so of all that follows."""
    count = 2 if opset < 21 else 4  # scales a group, then a channel
    weights = {
        "w": np.ones((4, 3, 3, 3), np.float32),
        "s": np.ones(count, np.float32),
        "b": np.zeros(count, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "/conv/Conv", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("GroupNormalization", ["c", "s", "b"], ["n"], "/norm/Norm", num_groups=2),
        helper.make_node("Relu", ["n"], ["y"], "/relu/Relu"),
    ]
    graph = convscope.load(tiny.model(nodes, weights, opset=opset), check=False)
    assert [(layer.channels, layer.shape[1:]) for layer in graph.layers] == [(4, (4, 8, 8))] * 3
