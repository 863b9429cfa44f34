"""What only the outputs show, values that are no numbers, and settings that are written in two ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from convscope.engine.compare import Comparison, compare
from tests.engine.compare.nets import load
from tests.tiny import model, small_cnn

node = helper.make_node


def _behind_logits(nodes: list[onnx.NodeProto], outputs: list[str], **more: Any) -> onnx.ModelProto:
    """The small network with other nodes in the place of its softmax."""
    small = small_cnn()
    weights = {t.name: numpy_helper.to_array(t) for t in small.graph.initializer}
    return model([*list(small.graph.node)[:-1], *nodes], {**weights, **more}, outputs=outputs)


def _verdict(a: onnx.ModelProto, b: onnx.ModelProto) -> Comparison:
    return compare(load(a), load(b))


PLAIN = _behind_logits([node("Identity", ["logits"], ["y"])], ["y"])
MOVES = {
    "classes in another order": [node("Gather", ["logits", "picked"], ["y"], axis=1)],
    "fewer classes": [node("Slice", ["logits", "first", "last", "axis"], ["y"])],
    "turned": [node("Transpose", ["logits"], ["y"], perm=[1, 0])],
}


@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES)
def test_what_moves_or_cuts_values_behind_the_last_layer_is_a_difference(moves: list[onnx.NodeProto]) -> None:
    more = {"picked": [1, 0, 2, 3, 4], "first": [0], "last": [3], "axis": [1]}
    result = _verdict(PLAIN, _behind_logits(moves, ["y"], **{k: np.array(v) for k, v in more.items()}))
    assert (result.verdict, result.first_difference and result.first_difference.causes[0].kind) == (
        "different",
        "output",
    )
    assert result.first_difference is not None
    assert f"nothing in A, {moves[0].op_type} in B" in result.first_difference.causes[0].text.replace(
        "Identity", "nothing"
    )
    assert len(result.rel) == len(result.pairs)  # outputs are no layers
    assert max(result.rel) == 0


def test_a_flattened_output_is_the_same_output() -> None:
    flat = _behind_logits([node("Reshape", ["logits", "shape"], ["y"])], ["y"], shape=np.array([0, 5, 1, 1]))
    assert _verdict(PLAIN, flat).verdict == "identical"


def test_an_order_that_is_undone_behind_the_last_layer_is_a_permutation_and_no_other_order_of_classes() -> None:
    order = np.array([1, 2, 0, 4, 3])
    small = small_cnn()
    weights = {t.name: numpy_helper.to_array(t) for t in small.graph.initializer}
    swapped = {"fc.weight": weights["fc.weight"][order], "fc.bias": weights["fc.bias"][order]}
    back = [node("Gather", ["logits", "back"], ["y"], axis=1)]
    result = _verdict(PLAIN, _behind_logits(back, ["y"], **swapped, back=np.argsort(order)))
    assert (result.verdict, result.permutations) == ("equal up to permutation", {"fc": list(np.argsort(order))})


def test_a_head_that_one_model_lacks_is_a_difference_and_a_tap_a_note() -> None:
    softmax = node("Softmax", ["logits"], ["y"], axis=1)
    two = _behind_logits([softmax, node("Relu", ["logits"], ["z"])], ["y", "z"])
    for result in (_verdict(two, small_cnn()), _verdict(small_cnn(), two)):
        assert result.verdict == "different"
        assert result.first_difference is not None and "no counterpart" in result.first_difference.causes[0].text
    tapped = _verdict(small_cnn(), _behind_logits([softmax], ["y", "logits"]))
    assert (tapped.verdict, tapped.notes) == (
        "identical",
        ("output 'logits' of B is none of A's outputs and was not compared",),
    )


def test_outputs_in_another_order_are_noted_unless_their_names_tell_them() -> None:
    softmax = node("Softmax", ["logits"], ["y"], axis=1)
    one = _behind_logits([softmax], ["y", "logits"])
    assert _verdict(one, _behind_logits([softmax], ["logits", "y"])).notes == ()
    renamed = [node("Softmax", ["logits"], ["s"], axis=1), node("Identity", ["logits"], ["t"])]
    result = _verdict(one, _behind_logits(renamed, ["t", "s"]))
    assert (result.verdict, result.notes) == (
        "identical",
        ("the outputs stand in another order: y of A is s of B, logits of A is t of B",),
    )


def test_names_that_mean_another_output_are_a_difference() -> None:

    def named(one: str, other: str) -> onnx.ModelProto:
        nodes = [node("Softmax", ["logits"], [one], axis=1), node("Identity", ["logits"], [other])]
        return _behind_logits(nodes, ["p", "q"])

    result = _verdict(named("p", "q"), named("q", "p"))
    assert (result.verdict, result.first_difference and result.first_difference.causes[0].text) == (
        "different",
        "the outputs stand in another order: p of A is q of B, q of A is p of B",
    )


def test_the_same_infinities_and_nan_are_no_difference_and_others_are() -> None:
    masked = _behind_logits([node("Relu", ["logits"], ["r"]), node("Log", ["r"], ["y"])], ["y"])
    unknown = _behind_logits([node("Log", ["logits"], ["y"])], ["y"])
    assert _verdict(masked, masked).verdict == _verdict(unknown, unknown).verdict == "identical"
    other = _behind_logits(
        [node("Relu", ["logits"], ["r"]), node("Add", ["r", "e"], ["more"]), node("Log", ["more"], ["y"])],
        ["y"], e=np.float32(1e-9),
    )  # fmt: skip
    assert _verdict(masked, other).verdict == "different"


def test_layers_behind_nan_are_left_out_of_what_is_measured_and_said() -> None:
    rng = np.random.default_rng(0)
    weights = {"v": rng.normal(size=(4, 3, 3, 3)), "w": rng.normal(size=(4, 4, 3, 3))}
    nodes = [node("Conv", ["x", "v"], ["c"]), node("Log", ["c"], ["l"]), node("Conv", ["l", "w"], ["y"])]
    graph = load(model(nodes, {k: v.astype(np.float32) for k, v in weights.items()}))
    result = compare(graph, graph, similarity=True)
    assert [result.pairs[i].a.name for i in result.agreement] == ["c"]
    assert result.cka_matrix is not None and result.cka_matrix.shape == (1, 1)
    assert any("infinite or NaN: y" in note for note in result.notes)


def test_the_matrix_has_a_row_for_each_layer_that_was_measured() -> None:
    """A signal whose maps are shorter in B cannot be matched place by place."""
    rng = np.random.default_rng(0)
    weights = {"v": rng.normal(size=(4, 1, 3)), "w": rng.normal(size=(6, 4, 3)), "f": rng.normal(size=(6, 3))}

    def signal(pads: list[int]) -> onnx.ModelProto:
        nodes = [
            node("Conv", ["x", "v"], ["c"], pads=[1, 1]),
            node("Conv", ["c", "w"], ["d"], pads=pads),
            node("ReduceMean", ["d"], ["g"], axes=[2], keepdims=0),
            node("MatMul", ["g", "f"], ["y"]),
        ]
        return model(nodes, {k: v.astype(np.float32) for k, v in weights.items()}, shape=("N", 1, 64))

    result = compare(load(signal([1, 1])), load(signal([0, 0])), similarity=True)
    table = result.to_json()["cka_matrix"]
    assert (table["a"], np.shape(table["values"])) == (["c", "y"], (2, 2))
    assert any("other numbers of places: d" in note for note in result.notes)


def _tail(nodes: list[onnx.NodeProto], opset: int = 17, **more: Any) -> onnx.ModelProto:
    weights = {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32), **more}
    return model([node("Conv", ["x", "w"], ["c"]), *nodes], weights, opset=opset)


def _head(alpha: float, beta: float, scale: float) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    dense, bias = rng.normal(size=(5, 4)) * scale / alpha, rng.normal(size=5) * scale / beta
    nodes = [
        node("GlobalAveragePool", ["c"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "d", "b"], ["y"], transB=1, alpha=alpha, beta=beta),
    ]
    return _tail(nodes, d=dense.astype(np.float32), b=bias.astype(np.float32))


def test_the_factors_of_a_gemm_belong_to_its_weights() -> None:
    assert _verdict(_head(1.0, 1.0, 1.0), _head(0.5, 0.25, 1.0)).verdict == "identical"
    part = _verdict(_head(1.0, 1.0, 1.0), _head(0.5, 0.5, 0.5)).first_difference
    assert part is not None and (part.layer_a, part.causes[0].kind) == ("y", "weights")


ONES: Any = np.ones(4, np.float32)
SAME = {
    "momentum": [
        _tail([node("Relu", ["c"], ["r"]), node("BatchNormalization", ["r", *"abde"], ["y"], momentum=m)],
              **dict.fromkeys("abde", ONES))
        for m in (0.9, 0.99)
    ],
    "negative axis": [_tail([node("Concat", ["c", "c"], ["y"], axis=axis)]) for axis in (1, -3)],
    "a default": [_tail([node("Pad", ["c", "p"], ["y"], **k)], p=np.array([0, 0, 1, 1] * 2))
                  for k in ({}, {"mode": "constant"})],
    "axes of a reduction": [
        _tail([node("ReduceMax", ["c"], ["y"], axes=[2, 3])]),
        _tail([node("ReduceMax", ["c", "axes"], ["y"])], opset=18, axes=np.array([-1, -2])),
    ],
    "bounds": [
        _tail([node("Clip", ["c"], ["y"], min=0.0, max=6.0)], opset=9),
        _tail([node("Clip", ["c", "low", "high"], ["y"])], low=np.float32(0), high=np.float32(6)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("both", SAME.values(), ids=SAME)
def test_what_means_the_same_is_no_setting_that_differs(both: list[onnx.ModelProto]) -> None:
    result = _verdict(*both)
    assert (result.verdict, result.notes, [c for cause in result.cause for c in cause]) == ("identical", (), [])


def test_the_axis_of_a_softmax_and_of_a_mean_are_named() -> None:
    one, other = (_verdict(_tail([node("Softmax", ["c"], ["y"], axis=1)]),
                           _tail([node("Softmax", ["c"], ["y"], axis=k)])) for k in (-3, -1))  # fmt: skip
    assert one.verdict == "identical"
    assert other.first_difference is not None and other.first_difference.causes[0].text == "axis: axis 1 in A, 3 in B"
    channels = _verdict(*(_tail([node("ReduceMean", ["c"], ["y"], axes=axes)]) for axes in ([2, 3], [1])))
    assert channels.first_difference is not None and "ReduceMean in B" in channels.first_difference.causes[0].text
