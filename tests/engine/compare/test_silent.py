"""What no picture shows is still said: weights behind silent units; and classes in another order are no permutation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from convscope.cli.main import run
from convscope.engine.compare import compare
from tests.engine.compare.nets import load, vgg, weights
from tests.tiny import model

UNSEEN = "identical on these pictures, weights differ"
REORDERED = "same network, classes in another order"


def _silent(change: float) -> dict[str, np.ndarray]:
    """Unit 3 of conv2 never fires; what conv3 makes of it is changed by ``change`` of conv3's largest weight."""
    values = weights()
    values["conv2.bias"][3] = -1e4
    values["conv3.weight"][5, 3] += np.float32(change * np.abs(values["conv3.weight"]).max())
    return values


def test_weights_that_differ_behind_a_silent_unit_are_not_called_identical() -> None:
    result = compare(load(vgg(_silent(0))), load(vgg(_silent(0.5))))
    assert max(result.rel) == 0
    assert result.verdict == UNSEEN
    first = result.first_difference
    assert first is not None
    assert (first.layer_a, first.causes[0].kind) == ("conv3", "weights")
    assert "1 of 16 units (5)" in first.causes[0].text


def test_every_other_silent_layer_is_noted() -> None:
    values = _silent(0.5)
    values["conv3.bias"][7] = -1e4
    altered = {k: v.copy() for k, v in values.items()}
    altered["conv3.weight"][0, 3] += 1
    altered["fc.weight"][:, 7 * 25 : 8 * 25] = 0
    result = compare(load(vgg(values)), load(vgg(altered)))
    assert (result.verdict, result.first_difference and result.first_difference.layer_a) == (UNSEEN, "conv3")
    assert any("at fc: the weights differ in 5 of 5 units" in note for note in result.notes)


@pytest.mark.parametrize(("change", "verdict"), [(0.9e-3, "identical"), (1.1e-3, UNSEEN)])
def test_weights_are_held_to_the_same_bound_as_results(change: float, verdict: str) -> None:
    assert compare(load(vgg(_silent(0))), load(vgg(_silent(change))), max_rel=1e-3).verdict == verdict


@pytest.mark.parametrize("kind", ["PRelu", "BatchNormalization"])
def test_trained_numbers_outside_of_convolutions_count_too(kind: str) -> None:
    """100 channels that are positive at every picture: a slope of negative values, a variance in a dead end."""

    def network(value: float) -> onnx.ModelProto:
        table = {"w": np.zeros((100, 3, 1, 1), np.float32), "b": np.ones(100, np.float32)}
        if kind == "PRelu":
            table["slope"] = np.full((100, 1, 1), value, np.float32)
            middle = [helper.make_node("PRelu", ["c", "slope"], ["y"], "/m/PRelu")]
        else:
            # what enters is the mean, so that no variance changes the result
            table |= {"s": np.ones(100, np.float32), "o": np.zeros(100, np.float32)}
            table |= {"m": np.ones(100, np.float32), "v": np.full(100, value, np.float32)}
            middle = [
                helper.make_node("Relu", ["c"], ["r"], "/r/Relu"),
                helper.make_node("BatchNormalization", ["r", "s", "o", "m", "v"], ["y"], "/m/BatchNormalization"),
            ]
        return model([helper.make_node("Conv", ["x", "w", "b"], ["c"], "/c/Conv"), *middle], table)

    result = compare(load(network(0.5)), load(network(0.25)))
    assert (result.verdict, result.first_difference and result.first_difference.layer_a) == (UNSEEN, "m")
    assert compare(load(network(0.5)), load(network(0.5))).verdict == "identical"


def test_silent_weights_end_the_command_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for change in (0.0, 0.5):
        onnx.save(vgg(_silent(change)), str(tmp_path / f"{change}.onnx"))
        paths.append(str(tmp_path / f"{change}.onnx"))
    flags = ["--preprocessing", "caffe", "--no-check", "--quiet"]
    assert run(["compare", *paths, *flags]) == 1
    out = capsys.readouterr().out
    assert out.startswith(
        f"{UNSEEN}\nweights differ first at conv3; not seen on any of the 16 pictures: none reaches what they act on\n"
    )
    assert run(["compare", paths[0], paths[0], *flags]) == 0


def _classes(order: list[int], inner: bool = False) -> dict[str, np.ndarray]:
    values = weights()
    values["fc.weight"], values["fc.bias"] = values["fc.weight"][order], values["fc.bias"][order]
    if inner:
        mixed = np.random.default_rng(1).permutation(12)
        values["conv2.weight"], values["conv2.bias"] = values["conv2.weight"][mixed], values["conv2.bias"][mixed]
        values["conv3.weight"] = values["conv3.weight"][:, mixed]
    return values


@pytest.mark.parametrize(("inner", "layer"), [(False, "fc"), (True, "conv2")])
def test_swapped_classes_are_the_same_network_with_classes_in_another_order(inner: bool, layer: str) -> None:
    result = compare(load(vgg()), load(vgg(_classes([0, 4, 2, 3, 1], inner))))
    assert result.verdict == REORDERED
    first = result.first_difference
    assert first is not None
    assert first.layer_a == layer
    assert first.causes[-1].kind == "class order"
    assert "2 of 5 classes are in another place (1->4, 4->1)" in first.causes[-1].text
    assert result.permutations["fc"] == [0, 4, 2, 3, 1]


def test_swapped_classes_of_another_network_are_different() -> None:
    values = _classes([0, 4, 2, 3, 1])
    values["conv3.weight"][0] += 1
    result = compare(load(vgg()), load(vgg(values)))
    assert (result.verdict, result.first_difference and result.first_difference.layer_a) == ("different", "conv3")
