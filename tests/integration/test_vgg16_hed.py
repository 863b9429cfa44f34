"""The trained VGG16-HED trunk across frameworks: identical in every pair, and every change is named."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from convscope.cli.main import run
from convscope.engine.compare import Comparison, compare
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.preprocessing import Preprocessing
from convscope.engine.pictures import photographs
from convscope.models.builders import vgg16_onnx, vgg16_torch
from tests.integration.trained_vgg16 import (
    CONVOLUTIONS,
    FORMATS,
    INPUT,
    Weights,
    changed,
    few,
    from_onnx,
    graph,
    load,
    nodes,
    original,
    weights,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporters warn a lot
ORDER = np.random.default_rng(5).permutation(256)


def compared(a: Graph, b: Graph, **options: object) -> Comparison:
    return compare(a, b, pictures=few, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("one", "two"), list(itertools.combinations(FORMATS, 2)))
def test_every_pair_of_formats_is_identical(one: str, two: str) -> None:
    result = compared(graph(one), graph(two))
    assert result.verdict == "identical"
    assert max(result.rel) < 1e-5
    anchors = [p for p in result.pairs if p.a.is_anchor]
    assert len(anchors) == len(CONVOLUTIONS)
    assert {p.found_by for p in anchors} <= {"name", "weights"}
    assert (result.only_a, result.only_b, result.notes) == ((), (), ())
    assert min(s.matching.share for s in result.agreement.values()) > 0.9  # units that stay silent match nothing


def permuted(layer: str, order: np.ndarray) -> Weights:
    """One layer's filters in another order, and the next layer's inputs alike."""
    found, i = weights(), CONVOLUTIONS.index(layer)
    (kernel, bias), (following, after) = found[i], found[i + 1]
    found[i], found[i + 1] = (kernel[..., order], bias[order]), (following[:, :, order], after)
    return found


@pytest.mark.parametrize("kind", ["keras", "torch"])
def test_permuted_channels_are_recovered_exactly(kind: str) -> None:
    """Against the Keras and the Torch form of the original, so across frameworks."""
    result = compared(graph(kind), from_onnx(permuted("block3_conv2", ORDER)))
    assert result.verdict == "equal up to permutation"
    # channel i of A is channel order[i] of B; B's channel j is A's ORDER[j]
    recovered = next(iter(result.permutations.values()))
    assert recovered == np.argsort(ORDER).tolist()
    assert {len(p) for p in result.permutations.values()} == {256}  # the convolution and its activation


def test_a_permutation_is_recovered_where_only_its_layers_are_asked_for() -> None:
    result = compared(original(), from_onnx(permuted("block3_conv2", ORDER)), layers="block3_conv*")
    assert result.verdict == "equal up to permutation"
    assert result.permutations["block3_conv2"] == np.argsort(ORDER).tolist()
    assert {p.a.name.split("/")[0] for p in result.pairs} == {"block3_conv1", "block3_conv2", "block3_conv3"}


def test_layers_in_front_of_a_permutation_are_identical() -> None:
    result = compared(original(), from_onnx(permuted("block3_conv2", ORDER)), layers="block1_*,block2_*")
    assert result.verdict == "identical"


def with_node(name: str, edit: Callable[[onnx.NodeProto], None]) -> Callable[[], Graph]:
    """The trunk with one node edited."""

    def made() -> Graph:
        model = vgg16_onnx(weights())
        edit(nodes(model)[name])
        return load(model)

    return made


def with_weights(layer: str, **edits: Callable[[np.ndarray], np.ndarray]) -> Callable[[], Graph]:
    return lambda: from_onnx(changed(layer, **edits))


def asymmetric(node: onnx.NodeProto) -> None:
    """As TensorFlow's SAME pads: nothing above and to the left."""
    next(a for a in node.attribute if a.name == "pads").CopyFrom(helper.make_attribute("pads", [0, 0, 2, 2]))


def retyped(op: str) -> Callable[[onnx.NodeProto], None]:
    return lambda node: setattr(node, "op_type", op)


def noisy(kernel: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(2).normal(0, 0.01 * kernel.std(), kernel.shape)
    return (kernel + noise).astype(np.float32)


def one_more(kernel: np.ndarray) -> np.ndarray:
    kernel[1, 1, 7, 11] += 0.2
    return kernel


def one_filter(kernel: np.ndarray) -> np.ndarray:
    kernel[..., 11] *= 1.1
    return kernel


def swapped(kernel: np.ndarray) -> np.ndarray:
    kernel[..., [3, 9]] = kernel[..., [9, 3]]
    return kernel


def half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


WEIGHTS = [
    pytest.param("padding", "block4_conv2", "1,1,1,1 (symmetric) in A, 0,0,2,2 (asymmetric",
                 with_node("block4_conv2/Conv", asymmetric), id="padding SAME"),
    pytest.param("pool type", "block2_pool", "MaxPool in A, AveragePool in B",
                 with_node("block2_pool", retyped("AveragePool")), id="pool"),
    pytest.param("activation", "block3_conv1", "Relu in A, Elu in B",
                 with_node("block3_conv1", retyped("Elu")), id="activation"),
    pytest.param("weights", "block2_conv1", "128 of 128 units",
                 with_weights("block2_conv1", kernel=noisy), id="noise of 1 %"),
    pytest.param("weights", "block5_conv2", "1 of 512 units (11)",
                 with_weights("block5_conv2", kernel=one_filter), id="a single filter"),
    pytest.param("bias", "block5_conv1", "the bias is missing in B",
                 with_weights("block5_conv1", bias=np.zeros_like), id="no bias"),
    pytest.param("swapped channels", "block4_conv1", "2 output channels are swapped (3->9, 9->3)",
                 with_weights("block4_conv1", kernel=swapped), id="two filters swapped"),
    pytest.param("flipped kernel", "block1_conv2", "180 degrees",
                 with_weights("block1_conv2", kernel=lambda k: k[::-1, ::-1].copy()), id="kernels turned"),
    pytest.param("transposed kernel", "block3_conv3", "rows and columns",
                 with_weights("block3_conv3", kernel=lambda k: k.swapaxes(0, 1).copy()), id="kernels transposed"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "layer", "words", "other"), WEIGHTS)
def test_a_change_is_named_with_its_layer(kind: str, layer: str, words: str, other: Callable[[], Graph]) -> None:
    result = compared(original(), other())
    assert result.verdict == "different"
    first = result.first_difference
    assert first is not None
    assert first.layer_a.removesuffix("/Conv") == first.layer_b.removesuffix("/Conv") == layer
    assert first.causes[0].kind == kind
    assert words in first.causes[0].text
    assert first.causes[0].confirmed is True


def test_a_weight_that_these_pictures_do_not_reach_is_noted() -> None:
    """The input channel is silent on both pictures, so that no result differs at all, yet the weights do."""
    result = compared(original(), from_onnx(changed("block5_conv2", kernel=one_more)))
    assert result.verdict == "identical on these pictures, weights differ"
    first = result.first_difference
    assert first is not None
    assert first.layer_a == first.layer_b == "block5_conv2/Conv"
    assert "1 of 512 units (11)" in first.causes[0].text


PREPARED = [
    pytest.param("channel order", replace(INPUT, order="RGB", mean=INPUT.mean[::-1]), id="RGB for BGR"),
    pytest.param("mean", replace(INPUT, mean=(0.0,)), id="no mean"),
    pytest.param("mean", replace(INPUT, mean=(128.0,)), id="another mean"),
    pytest.param("range", replace(INPUT, std=(58.0,)), id="another std"),
]


@pytest.mark.parametrize(("kind", "preprocessing"), PREPARED)
def test_other_preprocessing_is_named(kind: str, preprocessing: Preprocessing) -> None:
    """Between the ONNX and the Torch form."""
    result = compared(original(), replace(graph("torch"), preprocessing=preprocessing))
    assert result.verdict == "equal up to preprocessing"
    assert result.first_difference is not None
    assert [c.kind for c in result.first_difference.causes] == [kind]


def test_a_first_layer_for_rgb_is_equal_up_to_preprocessing() -> None:
    result = compared(original(), from_onnx(changed("block1_conv1", kernel=lambda k: k[:, :, ::-1].copy())))
    assert result.verdict == "equal up to preprocessing"
    assert result.first_difference is not None
    assert result.first_difference.causes[0].kind == "channel order"


def normed(epsilon: float, folded: bool = False) -> Graph:
    """The trunk with a batch-norm behind block3_conv1, as a node or folded into the convolution."""
    rng = np.random.default_rng(3)
    scale, bias, mean = rng.uniform(0.5, 1.5, 256), rng.normal(0, 0.1, 256), rng.normal(0, 0.1, 256)
    var = rng.uniform(0.005, 0.02, 256)  # small, so that epsilon matters
    values, i = weights(), CONVOLUTIONS.index("block3_conv1")
    if folded:
        factor = scale / np.sqrt(var + epsilon)
        kernel, old = values[i]
        values[i] = ((kernel * factor).astype(np.float32), ((old - mean) * factor + bias).astype(np.float32))
        return from_onnx(values)
    model = vgg16_onnx(values)
    names = []
    for name, value in {"scale": scale, "bias": bias, "mean": mean, "var": var}.items():
        names.append(f"block3_bn1.{name}")
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), names[-1]))
    relu = nodes(model)["block3_conv1"]
    norm = helper.make_node("BatchNormalization", [relu.input[0], *names], ["block3_bn1"], epsilon=epsilon)
    relu.input[0] = "block3_bn1"
    model.graph.node.insert(list(model.graph.node).index(relu), norm)
    return load(model)


normed_once = functools.cache(lambda: normed(1e-3))


@pytest.mark.parametrize("folded", [False, True], ids=["as a node", "folded"])
def test_an_altered_epsilon_is_named(folded: bool) -> None:
    result = compared(normed_once(), normed(1e-5, folded))
    assert result.verdict == "different"
    first = result.first_difference
    assert first is not None and first.layer_a == "block3_bn1"
    assert first.causes[0].kind == "epsilon"


def test_a_folded_copy_with_the_same_epsilon_is_identical() -> None:
    assert compared(normed_once(), normed(1e-3, folded=True)).verdict == "identical"


def test_the_command_guards_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a CI job calls it: 0 for the export as it is, 1 and the reason for one with another padding."""
    model = vgg16_onnx(weights())
    onnx.save(model, str(tmp_path / "a.onnx"))
    example = (torch.zeros(2, 3, *INPUT.size),) if INPUT.size else ()
    torch.onnx.export(vgg16_torch(weights()), example, str(tmp_path / "b.onnx"), dynamo=False, input_names=["x"])
    asymmetric(nodes(model)["block4_conv2/Conv"])
    onnx.save(model, str(tmp_path / "c.onnx"))
    flags = ["--range", "0,255", "--mean", ",".join(map(str, INPUT.mean)), "--order", "BGR", "--image-size", "64"]
    photo = photographs.FOLDER / "cat.jpg"
    flags += ["--no-check", "--max-rel", "1e-4", "--images", str(photo)]
    assert run(["compare", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"), *flags]) == 0
    assert capsys.readouterr().out.startswith("identical\n")
    assert run(["compare", str(tmp_path / "b.onnx"), str(tmp_path / "c.onnx"), *flags, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["first_difference"]["layer_b"]) == ("different", "block4_conv2/Conv")
    assert "padding" in answer["first_difference"]["cause"]


def test_a_float16_export_is_different_and_says_so() -> None:
    """The weakest of the changes: 1.1e-4 at the first layer, 6.4e-4 at the last; a bound of 1e-2 passes it."""
    result = compared(original(), from_onnx([(half(kernel), half(bias)) for kernel, bias in weights()]))
    assert result.verdict == "different"
    assert result.first_difference is not None
    assert result.first_difference.causes[0].kind == "float16"
    assert max(result.rel) < 1e-2
