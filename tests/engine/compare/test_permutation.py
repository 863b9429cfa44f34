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
