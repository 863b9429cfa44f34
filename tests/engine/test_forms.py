"""Networks of other forms than a classifier of pictures: what each verb does with them, what its refusals advise."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from onnx import TensorProto, helper

import convscope
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs.registry import read_outputs
from convscope.engine.pages.explanation import page_entry
from convscope.engine.runs import attack as attack_run
from convscope.engine.runs import stats as stats_run
from convscope.errors import UnsupportedOperator, UsageError

from .. import tiny

PHOTO = np.random.default_rng(5).random((8, 8, 3)).astype(np.float32)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(0, 0.4, shape).astype(np.float32)


@cache
def scores(last: str = "none") -> Graph:
    """conv - relu - (batch-norm in training mode) - mean - Gemm of 4 numbers - (ArgMax), on (N, 3, 8, 8)."""
    norm = last == "training"
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "/conv/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "/relu/Relu"),
        helper.make_node("BatchNormalization", ["r", "s", "b", "b", "s"], ["n", "m", "v"], "/norm/N", training_mode=1),
        helper.make_node("GlobalAveragePool", ["n" if norm else "r"], ["p"], "/mean/Pool"),
        helper.make_node("Flatten", ["p"], ["f"], "/flat/Flatten"),
        helper.make_node("Gemm", ["f", "h", "z"], ["y"], "/head/Gemm", transB=1),
        helper.make_node("ArgMax", ["y"], ["label"], "/label/ArgMax", axis=1, keepdims=0),
    ]
    if not norm:
        del nodes[2]
    if last != "label":
        del nodes[-1]
    weights = {
        "w": _normal(5, 3, 3, 3),
        "b": np.zeros(5, np.float32),
        "s": np.ones(5, np.float32),
        "h": _normal(4, 5),
        "z": _normal(4),
    }
    if not norm:
        del weights["s"]
    model = tiny.model(nodes, weights, ("N", 3, 8, 8), ["label" if last == "label" else "y"])
    if last == "label":
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return convscope.load(model)


@cache
def one_convolution() -> Graph:
    """One convolution: 4 maps of (N, 3, 8, 8), and nothing else."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], "/conv/Conv", pads=[1, 1, 1, 1])
    return convscope.load(tiny.model([node], {"w": _normal(4, 3, 3, 3)}, ("N", 3, 8, 8)))


def test_a_label_is_maximized_and_attacked_by_the_scores_that_it_is_chosen_from() -> None:
    plain, label = scores(), scores("label")
    assert label.logits == plain.logits == "y"
    made = [convscope.maximize(graph, [2], steps=3, size=8) for graph in (plain, label)]
    np.testing.assert_array_equal(made[0][0].image, made[1][0].image)
    found = convscope.attack(label, PHOTO, method="fgsm")
    known = convscope.predict(label, PHOTO).content["images"][0]["predictions"]
    assert [p["index"] for p in found.content["before"]] == [p["index"] for p in known]
    assert found.content["before"][0]["probability"] == pytest.approx(known[0]["probability"], abs=1e-6)
    with pytest.raises(UsageError, match="has 4 classes"):
        convscope.maximize(label, "9", steps=1)


def test_numbers_of_unknown_meaning_never_go_through_a_softmax_in_an_attack() -> None:
    notes: list[str] = []
    found = attack_run.run(
        scores(), PHOTO, attack_run.Options(method="fgsm"), on_event=lambda e: notes.append(getattr(e, "text", ""))
    )
    told = convscope.predict(scores(), PHOTO).content["images"][0]["values"]
    first = found.content["before"][0]
    assert first["value"] == pytest.approx(max(v["value"] for v in told), abs=1e-6)
    assert "probability" not in first and "%" not in notes[-1] and "class" not in notes[-1]


def test_only_a_classes_number_is_called_a_logit_on_the_page() -> None:
    value = "value as the file gives it"
    for graph, decoder, said in ((scores(), None, value), (scores(), "softmax", "logit, before the softmax")):
        found = convscope.explain(graph, PHOTO, "saliency", decoder=decoder)
        reading = read_outputs(graph, decoder)
        answer = reading.answer({"y": np.arange(4.0)})
        drawn = np.zeros((8, 8, 3), np.float32)
        row = page_entry(graph, "x", PHOTO, answer, "", [(found.to_json(), drawn, drawn)], [])
        assert row["maps"][0]["meaning"] == said


@pytest.mark.parametrize(
    ("ask", "advice"),
    [
        (lambda g: convscope.filters(g, "mean", [0], steps=1, size=8), "choose a layer below"),
        (lambda g: convscope.attack(g, PHOTO, method="fgsm"), "method=pixels"),
        (lambda g: convscope.explain(g, PHOTO, "saliency"), "rise, occlusion, sobol"),
    ],
)
def test_without_a_gradient_each_verb_advises_what_its_own_user_can_do(ask, advice) -> None:
    with pytest.raises(UnsupportedOperator, match=r"model\.eval") as error:
        ask(scores("training"))
    assert advice in str(error.value)
    others = {"choose a layer below", "method=pixels", "rise, occlusion, sobol"} - {advice}
    assert not any(other in str(error.value) for other in others)


def test_the_only_map_of_a_network_is_where_its_heatmap_is_taken() -> None:
    graph = one_convolution()
    found = convscope.explain(graph, PHOTO, target=1)
    assert found.layers == (graph.layers[0].name,) and found.heatmap.max() == 1
    with pytest.raises(UsageError, match="take dream"):
        convscope.accent(graph, PHOTO, graph.layers[0].name, 0)


def test_a_glob_leaves_out_layers_without_units_and_a_name_does_not() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "/conv/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "flat"], ["t"], "/lines/Reshape"),
        helper.make_node("Transpose", ["t"], ["u"], "/turned/Transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["u", "t"], ["y"], "/products/MatMul"),
    ]
    weights = {"w": _normal(4, 3, 3, 3), "flat": np.array([0, 4, 64])}
    graph = convscope.load(tiny.model(nodes, weights, ("N", 3, 8, 8)))
    bare = [la.name for la in graph.layers if la.channels is None]
    assert bare
    notes: list[str] = []
    convscope.activations(graph, PHOTO, "*")
    stats_run.run(graph, [PHOTO], stats_run.Options(layer="*"), on_event=lambda e: notes.append(getattr(e, "text", "")))
    assert any(bare[0] in note and "no units" in note for note in notes)
    convscope.top(graph, [PHOTO], "*", k=1)
    for verb in (convscope.activations, convscope.stats):
        with pytest.raises(UsageError, match=f"layer '{bare[0]}' has no units"):
            verb(graph, [PHOTO], bare[0])


def test_values_and_channels_that_no_picture_has_are_refused_with_a_way() -> None:
    with pytest.raises(UsageError, match=r"\(values \+ 1\) / 2"):
        convscope.predict(scores(), PHOTO * 2 - 1)
    with pytest.raises(UsageError, match=r"divide one of 0\.\.255"):
        convscope.predict(scores(), PHOTO * 255)
    node = helper.make_node("Conv", ["x", "w"], ["y"], "/conv/Conv")
    five = convscope.load(tiny.model([node], {"w": _normal(4, 5, 3, 3)}, ("N", 5, 8, 8)))
    with pytest.raises(UsageError, match=r"\(height, width, 5\)"):
        convscope.predict(five, PHOTO)
