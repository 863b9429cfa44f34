"""Causes that are more than one changed setting: each is named as what it is, at the layer where the networks part."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from convscope.engine.compare import compare
from convscope.engine.compare.result import FirstDifference
from tests.engine.compare.nets import load, vgg, weights
from tests.tiny import model

Node = tuple[str, list[str], str, dict[str, Any]]


def _net(nodes: list[Node], values: dict[str, np.ndarray], opset: int = 17) -> onnx.ModelProto:
    made = [helper.make_node(op, inputs, [out], f"/{out}/{op}", **options) for op, inputs, out, options in nodes]
    return model(made, {k: np.asarray(v, np.float32) for k, v in values.items()}, opset=opset)


def _first(a: onnx.ModelProto, b: onnx.ModelProto) -> FirstDifference:
    result = compare(load(a), load(b))
    assert result.verdict == "different"
    assert result.first_difference is not None
    assert result.first_difference.causes
    return result.first_difference


PAD: dict[str, Any] = {"pads": [1, 1, 1, 1]}


def _chain(middle: list[Node], last: str, values: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    table = {"w": rng.normal(size=(6, 3, 3, 3)), "v": rng.normal(size=(4, 6, 3, 3)), **(values or {})}
    return _net([("Conv", ["x", "w"], "c", PAD), *middle, ("Conv", [last, "v"], "y", PAD)], table)


def test_two_convolutions_in_exchanged_places_are_swapped_layers() -> None:
    rng = np.random.default_rng(0)
    table = {"w": rng.normal(size=(6, 3, 3, 3)), "u": rng.normal(size=(6, 6, 3, 3)), "v": rng.normal(size=(6, 6, 3, 3))}

    def network(one: str, two: str) -> onnx.ModelProto:
        return _net(
            [
                ("Conv", ["x", "w"], "c", PAD),
                ("Relu", ["c"], "r", {}),
                ("Conv", ["r", one], "d", PAD),
                ("Relu", ["d"], "s", {}),
                ("Conv", ["s", two], "y", PAD),
            ],
            table,
        )

    first = _first(network("u", "v"), network("v", "u"))
    assert (first.layer_a, first.causes[0].kind) == ("d", "swapped layers")
    assert "'d' is in front of 'y' in A and behind it in B" in first.causes[0].text


def test_parallel_branches_written_in_another_order_are_identical() -> None:
    rng = np.random.default_rng(0)
    table = {"w": rng.normal(size=(6, 3, 3, 3)), "v": rng.normal(size=(6, 3, 3, 3))}
    branches: list[Node] = [("Conv", ["x", "w"], "c", PAD), ("Conv", ["x", "v"], "d", PAD)]
    end: Node = ("Add", ["c", "d"], "y", {})
    assert (
        compare(load(_net([*branches, end], table)), load(_net([*branches[::-1], end], table))).verdict == "identical"
    )


def test_batch_norm_behind_the_activation_is_a_swapped_layer() -> None:
    rng = np.random.default_rng(1)
    table = {"s": rng.uniform(0.5, 1.5, 6), "o": rng.normal(size=6), "m": rng.normal(size=6), "q": np.full(6, 0.5)}
    norm = ["s", "o", "m", "q"]
    a = _chain([("BatchNormalization", ["c", *norm], "n", {}), ("Relu", ["n"], "r", {})], "r", table)
    b = _chain([("Relu", ["c"], "r", {}), ("BatchNormalization", ["r", *norm], "n", {})], "n", table)
    first = _first(a, b)
    assert (first.layer_a, first.causes[0].kind) == ("n", "swapped layers")
    assert "the batch-norm is in front of Relu in A and behind it in B" in first.causes[0].text
    assert "the batch-norm is in front of Relu in B and behind it in A" in _first(b, a).causes[0].text


def test_pooling_in_front_of_the_activation_is_a_swapped_layer() -> None:
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    a = _chain([("Relu", ["c"], "r", {}), ("AveragePool", ["r"], "p", pool)], "p")
    b = _chain([("AveragePool", ["c"], "p", pool), ("Relu", ["p"], "r", {})], "r")
    assert _first(a, b).causes[0].kind == "swapped layers"


@pytest.mark.parametrize("folded", [False, True])
def test_a_missing_bias_in_front_of_batch_norm_is_named(folded: bool) -> None:
    values = {k: v for k, v in weights().items() if k != "conv1.bias"}
    proto = vgg(values)
    if folded:
        factor = values["bn.scale"] / np.sqrt(values["bn.var"] + 1e-3)
        values["conv1.weight"] = values["conv1.weight"] * factor.reshape(-1, 1, 1, 1)
        values["conv1.bias"] = values["bn.bias"] - values["bn.mean"] * factor
        proto = vgg(values)
        nodes = [n for n in proto.graph.node if n.op_type != "BatchNormalization"]
        next(n for n in nodes if n.output[0] == "conv1").output[0] = "bn"
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
    first = _first(vgg(), proto)
    assert (first.layer_a, first.causes[0].kind) == ("bn", "bias")
    assert first.causes[0].text == "the bias in front of the batch-norm is missing in B"


def test_a_bias_that_the_mean_takes_up_is_no_difference() -> None:
    values = weights()
    values["bn.mean"] = values["bn.mean"] - values.pop("conv1.bias")
    result = compare(load(vgg()), load(vgg(values)))
    assert (result.verdict, result.notes) == ("identical", ())


def test_a_transposed_dense_layer_is_named() -> None:
    rng = np.random.default_rng(2)
    table = {"w": rng.normal(size=(8, 3, 3, 3)), "d": rng.normal(size=(8, 8)), "e": rng.normal(size=(5, 8))}

    def network(dense: np.ndarray) -> onnx.ModelProto:
        return _net(
            [
                ("Conv", ["x", "w"], "c", {}),
                ("GlobalAveragePool", ["c"], "g", {}),
                ("Flatten", ["g"], "f", {}),
                ("Gemm", ["f", "d"], "h", {"transB": 1}),
                ("Relu", ["h"], "r", {}),
                ("Gemm", ["r", "e"], "y", {"transB": 1}),
            ],
            {**table, "d": dense},
        )

    first = _first(network(table["d"]), network(table["d"].T.copy()))
    assert (first.layer_a, first.causes[0].kind, first.causes[0].confirmed) == ("h", "transposed dense", True)


RESIZED = [
    ({"mode": "nearest"}, {"mode": "linear"}, "mode nearest in A, linear in B"),
    (
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        {"mode": "linear"},
        "coordinates align corners in A, half pixel in B",
    ),
    (
        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
        {"mode": "linear"},
        "coordinates asymmetric in A, half pixel in B",
    ),
    ({"mode": "cubic"}, {"mode": "cubic", "cubic_coeff_a": -0.5}, "cubic coefficient -0.75 in A, -0.5 in B"),
]


@pytest.mark.parametrize(("one", "two", "words"), RESIZED)
def test_another_way_to_resize_is_named(one: dict[str, Any], two: dict[str, Any], words: str) -> None:
    def network(options: dict[str, Any]) -> onnx.ModelProto:
        resize: Node = ("Resize", ["c", "", "scales"], "u", options)
        return _chain([resize], "u", {"scales": np.array([1, 1, 2, 2])})

    first = _first(network(one), network(two))
    assert (first.layer_a, first.causes[0].kind) == ("u", "resize mode")
    assert words in first.causes[0].text


def test_scales_against_sizes_are_no_difference() -> None:
    table = {"scales": np.array([1, 1, 2, 2])}
    one = _chain([("Resize", ["c", "", "scales"], "u", {"mode": "linear"})], "u", table)
    two = _chain([("Resize", ["c", "", "", "sizes"], "u", {"mode": "linear"})], "u")
    two.graph.initializer.append(helper.make_tensor("sizes", onnx.TensorProto.INT64, [4], [1, 6, 32, 32]))
    two.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    result = compare(load(one), load(two))
    assert (result.verdict, result.notes) == ("identical", ())


def test_gelu_exact_and_by_tanh_are_told_apart() -> None:
    rng = np.random.default_rng(3)
    table = {"w": 0.01 * rng.normal(size=(6, 3, 3, 3)), "v": rng.normal(size=(4, 6, 3, 3))}

    def network(how: str) -> onnx.ModelProto:
        nodes: list[Node] = [
            ("Conv", ["x", "w"], "c", PAD),
            ("Gelu", ["c"], "g", {"approximate": how}),
            ("Conv", ["g", "v"], "y", PAD),
        ]
        return _net(nodes, table, opset=20)

    result = compare(load(network("none")), load(network("tanh")), max_rel=1e-6)
    first = result.first_difference
    assert first is not None
    assert (first.layer_a, first.causes[0].kind, first.causes[0].confirmed) == ("g", "activation", True)
    assert first.causes[0].text == "activation: GELU is exact (erf) in A, approximated by tanh in B"


def test_another_variance_is_no_other_range() -> None:
    values = weights()
    values["bn.var"] = values["bn.var"] * 4 + np.float32(3e-3)  # with epsilon 1e-3 every factor is half
    first = _first(vgg(), vgg(values))
    assert first.layer_a == "bn"
    assert [c.kind for c in first.causes] == ["batch-norm"]
    assert "variance differs" in first.causes[0].text


def _written(how: str, halved_first: bool) -> onnx.ModelProto:
    """A GELU of elementary operators between two convolutions, with the factor 0.5 at its beginning or end."""
    rng = np.random.default_rng(3)
    numbers = {"one": 1.0, "half": 0.5, "root": 2**0.5, "three": 3.0, "k": 0.044715, "p": (2 / np.pi) ** 0.5}
    table = {name: np.asarray(value) for name, value in numbers.items()}
    table |= {"w": 0.01 * rng.normal(size=(6, 3, 3, 3)), "v": rng.normal(size=(4, 6, 3, 3))}
    if how == "none":
        nodes: list[Node] = [("Div", ["c", "root"], "z", {}), ("Erf", ["z"], "e", {})]
    else:
        nodes = [
            ("Pow", ["c", "three"], "cube", {}),
            ("Mul", ["cube", "k"], "part", {}),
            ("Add", ["c", "part"], "sum", {}),
            ("Mul", ["sum", "p"], "z", {}),
            ("Tanh", ["z"], "e", {}),
        ]
    nodes.append(("Add", ["e", "one"], "plus", {}))
    if halved_first:
        nodes += [("Mul", ["c", "half"], "h", {}), ("Mul", ["h", "plus"], "g", {})]
    else:
        nodes += [("Mul", ["c", "plus"], "h", {}), ("Mul", ["h", "half"], "g", {})]
    return _net([("Conv", ["x", "w"], "c", PAD), *nodes, ("Conv", ["g", "v"], "y", PAD)], table, opset=20)


def test_written_out_gelus_are_told_apart_at_their_result() -> None:
    result = compare(load(_written("none", True)), load(_written("tanh", False)), max_rel=1e-6)
    assert [p.a.kind for p in result.pairs] == ["convolution", "Gelu", "convolution"]
    first = result.first_difference
    assert first is not None
    assert (first.layer_a, first.causes[0].kind, first.causes[0].confirmed) == ("g", "activation", None)
    assert first.causes[0].text == "activation: GELU is exact (erf) in A, approximated by tanh in B"


@pytest.mark.parametrize("how", ["none", "tanh"])
def test_a_gelu_is_the_same_however_it_is_written(how: str) -> None:
    one, two = _written(how, True), _written(how, False)
    result = compare(load(one), load(two))
    assert (result.verdict, result.notes, result.only_a, result.only_b) == ("identical", (), (), ())


_FORMS: dict[str, tuple[list[Node], list[Node]]] = {
    "HardSwish": (
        [("HardSwish", ["c"], "g", {})],
        [
            ("Add", ["c", "three"], "a", {}), ("Clip", ["a", "zero", "six"], "b", {}), ("Mul", ["c", "b"], "d", {}),
            ("Div", ["d", "six"], "g", {}),
        ],
    ),
    "HardSwish of a HardSigmoid": (
        [("HardSigmoid", ["c"], "h", {"alpha": 1 / 6}), ("Mul", ["h", "c"], "g", {})],
        [
            ("Add", ["c", "three"], "a", {}), ("Clip", ["a", "zero", "six"], "b", {}),
            ("Mul", ["b", "sixth"], "d", {}), ("Mul", ["c", "d"], "g", {}),
        ],
    ),
    "HardSigmoid": (
        [("HardSigmoid", ["c"], "g", {"alpha": 1 / 6})],
        [("Add", ["c", "three"], "a", {}), ("Clip", ["a", "zero", "six"], "b", {}), ("Div", ["b", "six"], "g", {})],
    ),
    "Swish": (
        [("Sigmoid", ["c"], "s", {}), ("Mul", ["c", "s"], "g", {})],
        [
            ("Neg", ["c"], "n", {}), ("Exp", ["n"], "e", {}), ("Add", ["e", "one"], "f", {}),
            ("Div", ["c", "f"], "g", {}),
        ],
    ),
    "Mish": (
        [("Mish", ["c"], "g", {})],
        [("Softplus", ["c"], "s", {}), ("Tanh", ["s"], "t", {}), ("Mul", ["c", "t"], "g", {})],
    ),
    "LeakyRelu": (
        [("LeakyRelu", ["c"], "g", {"alpha": 0.2})],
        [("Mul", ["c", "fifth"], "m", {}), ("Max", ["m", "c"], "g", {})],
    ),
    "Sigmoid": (
        [("Sigmoid", ["c"], "g", {})],
        [
            ("Neg", ["c"], "n", {}), ("Exp", ["n"], "e", {}), ("Add", ["e", "one"], "f", {}),
            ("Reciprocal", ["f"], "g", {}),
        ],
    ),
    "Softplus": (
        [("Softplus", ["c"], "g", {})],
        [("Exp", ["c"], "e", {}), ("Add", ["e", "one"], "f", {}), ("Log", ["f"], "g", {})],
    ),
    "Softsign": (
        [("Softsign", ["c"], "g", {})],
        [("Abs", ["c"], "e", {}), ("Add", ["e", "one"], "f", {}), ("Div", ["c", "f"], "g", {})],
    ),
}  # fmt: skip


def _with_numbers(nodes: list[Node]) -> onnx.ModelProto:
    numbers = {"zero": 0.0, "one": 1.0, "three": 3.0, "six": 6.0, "fifth": 0.2, "sixth": 1 / 6}
    rng = np.random.default_rng(3)
    table = {name: np.asarray(value) for name, value in numbers.items()}
    table |= {"w": rng.normal(size=(6, 3, 3, 3)), "v": rng.normal(size=(4, 6, 3, 3))}
    before = [("Conv", ["x", "w"], "k", PAD), ("Tanh", ["k"], "c", {})]  # no bias that a summand could go into
    return _net([*before, *nodes, ("Conv", ["g", "v"], "y", PAD)], table, opset=20)


@pytest.mark.parametrize("name", list(_FORMS))
def test_an_activation_is_the_same_however_it_is_written(name: str) -> None:
    one, two = (_with_numbers(nodes) for nodes in _FORMS[name])
    result = compare(load(one), load(two))
    assert [p.a.kind for p in result.pairs] == ["convolution", "Tanh", name.split()[0], "convolution"]
    assert (result.verdict, result.notes, result.only_a, result.only_b) == ("identical", (), (), ())


def test_another_activation_is_named_by_what_it_is_not_by_its_parts() -> None:
    relu, swish = _with_numbers([("Relu", ["c"], "g", {})]), _with_numbers(_FORMS["Swish"][0])
    first = compare(load(relu), load(swish)).first_difference
    assert first is not None
    assert (first.layer_a, first.layer_b) == ("g", "g")
    assert [c.text for c in first.causes] == ["activation: Relu in A, Swish in B"]


def test_a_slope_that_is_the_default_is_no_difference() -> None:
    one, two = (_with_numbers([("LeakyRelu", ["c"], "g", how)]) for how in ({}, {"alpha": 0.01}))
    assert compare(load(one), load(two)).notes == ()


def test_a_tanh_that_is_no_gelu_stays_a_tanh() -> None:
    network = load(_chain([("Tanh", ["c"], "t", {}), ("Mul", ["t", "c"], "g", {})], "g"))
    assert [p.a.kind for p in compare(network, network).pairs] == ["convolution", "Tanh", "Mul", "convolution"]


def _shuffling(groups: int) -> onnx.ModelProto:
    """A convolution, a channel shuffle of so many groups (1: the nodes, without effect), a grouped convolution."""
    rng = np.random.default_rng(0)
    table = {
        "w": rng.normal(size=(12, 3, 3, 3)).astype(np.float32), "v": rng.normal(size=(12, 4, 3, 3)).astype(np.float32),
        "apart": np.array([0, groups, 12 // groups, 16, 16]), "together": np.array([0, 12, 16, 16]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "/c/Conv", **PAD),
        helper.make_node("Relu", ["c"], ["r"], "/r/Relu"),
        helper.make_node("Reshape", ["r", "apart"], ["p"], "/p/Reshape"),
        helper.make_node("Transpose", ["p"], ["t"], "/t/Transpose", perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["t", "together"], ["s"], "/s/Reshape"),
        helper.make_node("Conv", ["s", "v"], ["y"], "/y/Conv", group=3, **PAD),
    ]
    return model(nodes, table)


def test_a_channel_shuffle_of_another_number_of_groups_is_named() -> None:
    plain = _shuffling(1)
    del plain.graph.node[2:5]
    plain.graph.node[2].input[0] = "r"
    for one, two, words in (
        (_shuffling(3), _shuffling(4), "shuffled in 3 groups in A and shuffled in 4 groups in B"),
        (_shuffling(3), plain, "shuffled in 3 groups in A and in their own order in B"),
        (plain, _shuffling(2), "in their own order in A and shuffled in 2 groups in B"),
    ):
        first = _first(one, two)
        assert first.layer_a == "y"
        (cause,) = first.causes
        assert (cause.kind, cause.confirmed) == ("channel shuffle", True)
        assert words in cause.text


def test_a_shuffle_written_in_other_nodes_is_the_same() -> None:
    gathered = _shuffling(3)
    order = np.arange(12).reshape(3, 4).T.reshape(-1)
    del gathered.graph.node[3:5]
    gathered.graph.node[2].CopyFrom(helper.make_node("Gather", ["r", "order"], ["s"], "/s/Gather", axis=1))
    gathered.graph.initializer.append(onnx.numpy_helper.from_array(order, "order"))
    assert compare(load(_shuffling(3)), load(gathered)).verdict == "identical"


def test_exchanged_inputs_and_outputs_are_told_behind_a_batch_norm_too() -> None:
    rng = np.random.default_rng(3)
    norm = {"s": rng.uniform(0.5, 2, 6), "b": rng.normal(size=6), "m": rng.normal(size=6), "r": rng.uniform(1, 2, 6)}
    table = norm | {"w": rng.normal(size=(6, 3, 3, 3)), "v": rng.normal(size=(6, 6, 3, 3))}

    def network(second: np.ndarray) -> onnx.ModelProto:
        nodes: list[Node] = [
            ("Conv", ["x", "w"], "c", PAD),
            ("Conv", ["c", "v"], "d", PAD),
            ("BatchNormalization", ["d", "s", "b", "m", "r"], "y", {}),
        ]
        return _net(nodes, table | {"v": second})

    first = compare(load(network(table["v"])), load(network(table["v"].swapaxes(0, 1)))).first_difference
    assert first is not None
    assert [c.text for c in first.causes] == ["the kernels' input and output channels are exchanged"]
