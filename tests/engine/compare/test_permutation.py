"""Channels in another order: recovered exactly, through batch-norm, depthwise layers, sums and flattening."""

from __future__ import annotations

import numpy as np
from onnx import helper

from convscope.engine.compare import compare
from tests.engine.compare.nets import load, vgg, weights
from tests.tiny import model


def test_permuted_middle_channels_are_recovered_exactly() -> None:
    values, order = weights(), np.random.default_rng(1).permutation(12)
    values["conv2.weight"], values["conv2.bias"] = values["conv2.weight"][order], values["conv2.bias"][order]
    values["conv3.weight"] = values["conv3.weight"][:, order]
    result = compare(load(vgg()), load(vgg(values)))
    assert result.verdict == "equal up to permutation"
    assert result.permutations["conv2"] == np.argsort(order).tolist()
    assert set(result.permutations) == {"conv2", "relu2"}


def test_permutation_passes_batch_norm_and_pooling() -> None:
    values, order = weights(), np.random.default_rng(1).permutation(8)
    for name in ("conv1.weight", "conv1.bias", "bn.scale", "bn.bias", "bn.mean", "bn.var"):
        values[name] = values[name][order]
    values["conv2.weight"] = values["conv2.weight"][:, order]
    result = compare(load(vgg()), load(vgg(values)))
    assert result.verdict == "equal up to permutation"
    assert result.permutations["pool1"] == np.argsort(order).tolist()


def test_permutation_passes_flattening() -> None:
    values, order = weights(), np.random.default_rng(1).permutation(16)
    values["conv3.weight"], values["conv3.bias"] = values["conv3.weight"][order], values["conv3.bias"][order]
    values["fc.weight"] = values["fc.weight"].reshape(5, 16, 25)[:, order].reshape(5, 400)
    result = compare(load(vgg()), load(vgg(values)))
    assert result.verdict == "equal up to permutation"
    assert result.permutations["conv3"] == np.argsort(order).tolist()


def test_permuted_filters_without_their_readers_are_different() -> None:
    values = weights()
    values["conv2.weight"] = values["conv2.weight"][::-1].copy()
    assert compare(load(vgg()), load(vgg(values))).verdict == "different"


def _residual(order: np.ndarray | None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    values = {
        "a": rng.normal(size=(6, 3, 3, 3)),
        "d": rng.normal(size=(6, 1, 3, 3)),
        "p": rng.normal(size=(6, 6, 1, 1)),
        "e": rng.normal(size=(4, 6, 1, 1)),
    }
    if order is not None:
        values["a"], values["d"] = values["a"][order], values["d"][order]
        values["p"], values["e"] = values["p"][order][:, order], values["e"][:, order]
    return {k: v.astype(np.float32) for k, v in values.items()}


def test_permutation_passes_depthwise_layers_and_residual_sums() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], "/c/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "d"], ["depthwise"], "/depthwise/Conv", pads=[1, 1, 1, 1], group=6),
        helper.make_node("Conv", ["depthwise", "p"], ["point"], "/point/Conv"),
        helper.make_node("Add", ["c", "point"], ["sum"], "/sum/Add"),
        helper.make_node("Conv", ["sum", "e"], ["y"], "/y/Conv"),
    ]
    order = np.random.default_rng(5).permutation(6)
    result = compare(load(model(nodes, _residual(None))), load(model(nodes, _residual(order))))
    assert result.verdict == "equal up to permutation"
    for layer in ("c", "depthwise", "point", "sum"):
        assert result.permutations[layer] == np.argsort(order).tolist()


def _grouped(outer: np.ndarray, inner: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """12 channels through a convolution of 3 groups, 6 filters out; ``outer`` and ``inner`` are orders of these."""
    rng = np.random.default_rng(3)
    a, g, e = rng.normal(size=(12, 3, 3, 3)), rng.normal(size=(6, 4, 3, 3)), rng.normal(size=(4, 6, 1, 1))
    bias = rng.normal(size=6)
    inner = np.arange(6) if inner is None else inner
    mixed = np.empty_like(g)
    for row, source in enumerate(inner):
        group = outer[row // 2 * 4 : row // 2 * 4 + 4]  # the channels that this filter sees in B
        mixed[row] = g[source][group - source // 2 * 4]
    values = {"a": a[outer], "g": mixed, "b": bias[inner], "e": e[:, inner]}
    return {k: v.astype(np.float32) for k, v in values.items()}


GROUPED = [
    helper.make_node("Conv", ["x", "a"], ["c"], "/c/Conv", pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["c"], ["r"], "/r/Relu"),
    helper.make_node("Conv", ["r", "g", "b"], ["grouped"], "/grouped/Conv", pads=[1, 1, 1, 1], group=3),
    helper.make_node("Conv", ["grouped", "e"], ["y"], "/y/Conv"),
]


def test_permutation_passes_grouped_convolutions() -> None:
    """Whole groups change places, the channels within each and the filters of each are mixed."""
    outer = np.array([8, 11, 9, 10, 3, 1, 0, 2, 5, 4, 7, 6])
    inner = np.array([5, 4, 0, 1, 3, 2])
    plain = model(GROUPED, _grouped(np.arange(12)))
    result = compare(load(plain), load(model(GROUPED, _grouped(outer, inner))))
    assert result.verdict == "equal up to permutation"
    assert result.permutations["c"] == np.argsort(outer).tolist()
    assert result.permutations["grouped"] == np.argsort(inner).tolist()


def test_channels_that_change_their_group_are_different() -> None:
    values = _grouped(np.arange(12))
    values["a"] = values["a"][[4, 1, 2, 3, 0, *range(5, 12)]]
    first = compare(load(model(GROUPED, _grouped(np.arange(12)))), load(model(GROUPED, values)))
    assert (first.verdict, first.first_difference and first.first_difference.layer_a) == ("different", "c")


def test_a_grouped_transposed_convolution_with_more_outputs_than_inputs_is_compared() -> None:
    rng = np.random.default_rng(4)
    values = {"a": rng.normal(size=(4, 3, 3, 3)), "t": rng.normal(size=(4, 3, 2, 2)), "b": rng.normal(size=6)}
    values = {k: v.astype(np.float32) for k, v in values.items()}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], "/c/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["c", "t", "b"], ["y"], "/y/ConvTranspose", strides=[2, 2], group=2),
    ]
    altered = {k: v.copy() for k, v in values.items()}
    altered["t"][3, 1] += 1  # read by filter 4, the second of the second group
    assert compare(load(model(nodes, values)), load(model(nodes, values))).verdict == "identical"
    first = compare(load(model(nodes, values)), load(model(nodes, altered))).first_difference
    assert first is not None
    assert (first.layer_a, first.causes[0].kind) == ("y", "weights")
    assert "1 of 6 units (4)" in first.causes[0].text
