"""One setting is changed; the comparison names the right layer and the right cause."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convscope.engine.compare import compare
from convscope.engine.graph.preprocessing import Preprocessing
from tests.engine.compare.nets import CAFFE, load, vgg, weights

Weights = dict[str, np.ndarray]


def _same(values: Weights) -> None:
    """Nothing."""


def _noise(values: Weights) -> None:
    values["conv2.weight"][3] += 0.05


def _no_bias(values: Weights) -> None:
    del values["conv3.bias"]


def _half(values: Weights) -> None:
    values["conv3.weight"] = values["conv3.weight"].astype(np.float16).astype(np.float32)


def _flatten(values: Weights) -> None:
    values["fc.weight"] = values["fc.weight"].reshape(5, 16, 25).swapaxes(1, 2).reshape(5, 400).copy()


def _flatten_back(values: Weights) -> None:
    values["fc.weight"] = values["fc.weight"].reshape(5, 25, 16).swapaxes(1, 2).reshape(5, 400).copy()


def _swap(values: Weights) -> None:
    values["conv2.weight"][[1, 4]] = values["conv2.weight"][[4, 1]]


def _flip(values: Weights) -> None:
    values["conv2.weight"] = values["conv2.weight"][:, :, ::-1, ::-1].copy()


def _transpose(values: Weights) -> None:
    values["conv2.weight"] = values["conv2.weight"].swapaxes(2, 3).copy()


def _mean_of_norm(values: Weights) -> None:
    values["bn.mean"] = values["bn.mean"] + np.float32(0.1)


POOLED = {"pooled": True, "size": 16}
CHANGES: list[tuple[str, str, str, Callable[[Weights], None], dict[str, Any], dict[str, Any]]] = [
    ("epsilon", "bn", "0.001 in A, 1e-05 in B", _same, {}, {"bn__epsilon": 1e-5}),
    ("padding", "conv2", "SAME", _same, {}, {"conv2__pads": [0, 0, 2, 2]}),
    ("pool type", "pool1", "MaxPool in A, AveragePool in B", _same, {}, {"pool1": "AveragePool"}),
    ("pool ceil mode", "pool2", "ceil_mode 0 in A, 1 in B", _same, POOLED, {"pool2__ceil_mode": 1}),
    ("count_include_pad", "pool2", "0 in A, 1 in B", _same, {}, {"pool2__count_include_pad": 1}),
    ("strides", "conv3", "1,1 in A, 2,2 in B", _same, POOLED, {"conv3__strides": [2, 2]}),
    ("dilations", "conv3", "1,1 in A, 2,2 in B", _same, POOLED, {"conv3__dilations": [2, 2], "conv3__pads": [2] * 4}),
    ("activation", "relu2", "Relu in A, LeakyRelu in B", _same, {}, {"relu2": "LeakyRelu"}),
    ("activation", "conv3", "'relu2' is in A and has no counterpart in B", _same, {}, {"relu2": ""}),
    ("weights", "conv2", "1 of 12 units (3)", _noise, {}, {}),
    ("bias", "conv3", "the bias is missing in B", _no_bias, {}, {}),
    ("float16", "conv3", "rounded to float16", _half, {}, {}),
    ("flatten order", "fc", "columns of B are those of A in the order of NHWC (16 channels of 25)", _flatten, {}, {}),
    (
        "flatten order",
        "fc",
        "columns of A are those of B in the order of NHWC (16 channels of 25)",
        _flatten_back,
        {},
        {},
    ),
    ("swapped channels", "conv2", "2 output channels are swapped (1->4, 4->1)", _swap, {}, {}),
    ("flipped kernel", "conv2", "180 degrees", _flip, {}, {}),
    ("transposed kernel", "conv2", "rows and columns", _transpose, {}, {}),
    ("batch-norm", "bn", "mean differs", _mean_of_norm, {}, {}),
]


@pytest.mark.parametrize(
    ("kind", "layer", "words", "alter", "base", "change"), CHANGES, ids=[f"{c[0]}-{c[1]}" for c in CHANGES]
)
def test_a_changed_setting_is_found_at_its_layer(
    kind: str, layer: str, words: str, alter: Callable[[Weights], None], base: dict[str, Any], change: dict[str, Any]
) -> None:
    altered = weights()
    alter(altered)
    result = compare(load(vgg(**base)), load(vgg(altered, **base, **change)), max_rel=1e-5)
    assert result.verdict == "different"
    first = result.first_difference
    assert first is not None
    assert (first.layer_a, first.causes[0].kind) == (layer, kind)
    assert words in first.causes[0].text
    assert first.rel > 1e-5
    assert first.causes[0].confirmed is not False


PREPROCESSED = [
    ("channel order", dataclasses.replace(CAFFE, order="RGB")),
    ("mean", dataclasses.replace(CAFFE, mean=(0.0,))),
    ("range", dataclasses.replace(CAFFE, high=1.0, mean=(103.939 / 255, 116.779 / 255, 123.68 / 255))),
    ("range", dataclasses.replace(CAFFE, mean=(0.0,), std=(20.0,))),
]


@pytest.mark.parametrize(("kind", "other"), PREPROCESSED)
def test_other_preprocessing_of_the_same_network_is_named(kind: str, other: Preprocessing) -> None:
    result = compare(load(vgg()), load(vgg(), other))
    assert result.verdict == "equal up to preprocessing"
    assert result.first_difference is not None
    assert result.first_difference.layer_a == "x"
    assert kind in {c.kind for c in result.first_difference.causes}


def test_a_first_layer_for_bgr_is_equal_up_to_preprocessing() -> None:
    values = weights()
    values["conv1.weight"] = values["conv1.weight"][:, ::-1].copy()
    result = compare(load(vgg()), load(vgg(values)))
    assert result.verdict == "equal up to preprocessing"
    assert result.first_difference is not None
    assert result.first_difference.causes[0].kind == "channel order"


def test_another_range_inside_the_first_layer_is_equal_up_to_preprocessing() -> None:
    values = weights()
    values["conv1.weight"] = values["conv1.weight"] / np.float32(255)
    result = compare(load(vgg()), load(vgg(values)))
    assert result.verdict == "equal up to preprocessing"
    assert result.first_difference is not None
    assert result.first_difference.causes[0].kind == "range"


def test_preprocessing_and_a_layer_that_differ_are_both_named() -> None:
    other = load(vgg(conv2__pads=[0, 0, 2, 2]), dataclasses.replace(CAFFE, order="RGB"))
    result = compare(load(vgg()), other)
    assert result.verdict == "different"
    assert result.first_difference is not None
    assert result.first_difference.layer_a == "conv2"
    assert {"padding", "channel order"} <= {c.kind for c in result.first_difference.causes}


def test_a_folded_export_with_another_epsilon_is_unmasked() -> None:
    """A holds the batch-norm with 1e-3; B was folded with 1e-5."""
    values = weights()
    factor = values["bn.scale"] / np.sqrt(values["bn.var"] + 1e-5)
    values["conv1.weight"] = values["conv1.weight"] * factor.reshape(-1, 1, 1, 1)
    values["conv1.bias"] = (values["conv1.bias"] - values["bn.mean"]) * factor + values["bn.bias"]
    proto = vgg(values)
    nodes = [n for n in proto.graph.node if n.op_type != "BatchNormalization"]
    next(n for n in nodes if n.output[0] == "conv1").output[0] = "bn"
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert compare(load(vgg(bn__epsilon=1e-5)), load(proto)).verdict == "identical"
    first = compare(load(vgg()), load(proto)).first_difference
    assert first is not None
    assert first.causes[0].kind == "epsilon"
    assert "1e-05" in first.causes[0].text


def test_another_ending_is_different() -> None:
    proto = vgg()
    shorter = vgg()
    del shorter.graph.node[-1]
    shorter.graph.output[0].name = "fc"
    first = compare(load(proto), load(shorter)).first_difference
    assert first is not None
    assert "Softmax" in first.causes[0].text


def test_the_same_network_is_identical_at_another_input_size() -> None:
    result = compare(load(vgg(size=16, pooled=True)), load(vgg(size=32, pooled=True)))
    assert result.verdict == "identical"
    assert "16x16 and 32x32" in result.notes[0]
