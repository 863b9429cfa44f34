"""Normalization keeps every value and every name, and leaves the clean chain."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convscope.adapters.normalize import normalize
from convscope.errors import RefusedInput, UnsafeFile
from tests import tiny, zoo


def run(model: onnx.ModelProto, x: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    import onnxruntime as ort

    model = onnx.ModelProto.FromString(model.SerializeToString())
    have = {o.name for o in model.graph.output}
    model.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names if n not in have)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    weights = {t.name for t in model.graph.initializer}
    name = next(i.name for i in model.graph.input if i.name not in weights)
    return dict(zip(names, session.run(names, {name: x}), strict=True))


def tensors(model: onnx.ModelProto) -> list[str]:
    return [o for n in model.graph.node for o in n.output if o]


def ops(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


@pytest.mark.parametrize("name", ["bvlc_alexnet", "densenet121", "inception_v2", "shufflenet", "squeezenet"])
def test_every_surviving_tensor_of_a_zoo_graph_keeps_its_name_and_value(name: str) -> None:
    source = zoo.light_model(name)
    draft, canonical = normalize(copied(source))
    shape = [1 if i == 0 else s for i, s in enumerate(draft.shapes[draft.inputs[0].name])]
    declared = next(i for i in source.graph.input if i.name == draft.inputs[0].name)
    batch = declared.type.tensor_type.shape.dim[0].dim_value
    x = np.repeat(np.random.default_rng(0).random(shape, dtype=np.float32), batch, axis=0)
    shared = sorted(set(tensors(source)) & set(tensors(canonical)))
    assert len(shared) > 0.9 * len(canonical.graph.node)
    expected, found = run(source, x, shared), run(canonical, x, shared)
    for tensor in shared:
        np.testing.assert_allclose(found[tensor], expected[tensor], rtol=0, atol=1e-4 * np.abs(expected[tensor]).max())


@pytest.mark.parametrize("name", ["resnet50", "inception_v1", "shufflenet"])
def test_a_batch_that_the_export_fixed_becomes_free(name: str) -> None:
    draft, canonical = normalize(zoo.light_model(name))
    shape = [3 if i == 0 else s for i, s in enumerate(draft.shapes[draft.inputs[0].name])]
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    last = tensors(canonical)[-1]
    assert run(canonical, x, [last])[last].shape[0] == 3


def channels_last_pair(layers: int = 2) -> onnx.ModelProto:
    """Convolutions wrapped in Transposes, as Keras writes them, with a per-channel scale between."""
    rng = np.random.default_rng(1)
    weights: dict[str, np.ndarray] = {}
    nodes, tensor, channels = [], "x", 3
    for i in range(layers):
        weights[f"w{i}"] = rng.normal(0, 0.3, (4, channels, 3, 3)).astype(np.float32)
        weights[f"b{i}"] = rng.normal(0, 0.3, 4).astype(np.float32)
        nodes += [
            helper.make_node("Transpose", [tensor], [f"t{i}"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", [f"t{i}", f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]),
            helper.make_node("Transpose", [f"c{i}"], [f"u{i}"], perm=[0, 2, 3, 1]),
            helper.make_node("Add", [f"u{i}", f"b{i}"], [f"a{i}"]),
            helper.make_node("Relu", [f"a{i}"], [f"r{i}"]),
        ]
        tensor, channels = f"r{i}", 4
    nodes += [
        helper.make_node("ReduceMean", [tensor], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("Identity", ["m"], ["y"]),
    ]
    return tiny.model(nodes, weights, ("N", 16, 16, 3))


def test_channels_last_exports_become_the_chain_that_torch_writes() -> None:
    source = channels_last_pair()
    draft, canonical = normalize(copied(source))
    assert [n.op_type for n in canonical.graph.node] == ["Conv", "Relu", "Conv", "Relu", "ReduceMean"]
    x = np.random.default_rng(0).random((2, 16, 16, 3), dtype=np.float32)
    expected = run(source, x, ["r0", "r1", "y"])
    found = run(canonical, x.transpose(0, 3, 1, 2), ["r0", "r1", "y"])
    for name in ("r0", "r1"):
        assert draft.permuted[name] == (0, 3, 1, 2)
        np.testing.assert_allclose(found[name], expected[name].transpose(draft.permuted[name]), atol=1e-6)
    np.testing.assert_allclose(found["y"], expected["y"], atol=1e-6)


@pytest.mark.parametrize("also_read_as_it_is", [False, True])
def test_squeeze_and_excitation_of_a_channels_last_model_is_one_pixel_of_channels(also_read_as_it_is: bool) -> None:
    rng = np.random.default_rng(2)
    weights = {"w": rng.normal(size=(4, 3, 3, 3)), "e": rng.normal(size=(4, 4, 1, 1))}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("Reshape", ["m", "shape"], ["s"]),  # (N, 1, 1, 4)
        helper.make_node("Transpose", ["s"], ["st"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["st", "e"], ["g"]),
        helper.make_node("Mul", ["c", "g"], ["y"]),
    ]
    if also_read_as_it_is:
        nodes += [helper.make_node("Flatten", ["s"], ["f"]), helper.make_node("ReduceSum", ["f"], ["z"], keepdims=0)]
    arrays = {k: v.astype(np.float32) for k, v in weights.items()} | {"shape": np.array([-1, 1, 1, 4])}
    outputs = ("y", "z") if also_read_as_it_is else ("y",)
    source = tiny.model(nodes, arrays, ("N", 16, 16, 3), outputs)
    draft, canonical = normalize(copied(source))
    assert "Transpose" not in ops(canonical)
    assert draft.permuted["s"] == (0, 3, 1, 2)
    x = rng.random((2, 16, 16, 3), dtype=np.float32)
    expected, found = run(source, x, ["s", *outputs]), run(canonical, x.transpose(0, 3, 1, 2), ["s", *outputs])
    np.testing.assert_allclose(found["s"], expected["s"].transpose(0, 3, 1, 2), atol=1e-6)
    for name in outputs:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_a_transpose_that_an_operator_needs_stays() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "shape"], ["y"]),
    ]
    weights = {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32), "shape": np.array([0, -1])}
    source = tiny.model(nodes, weights)
    _, canonical = normalize(copied(source))
    x = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    assert ops(canonical)["Transpose"] == 1
    np.testing.assert_allclose(run(canonical, x, ["y"])["y"], run(source, x, ["y"])["y"])


def test_weights_as_constants_and_as_inputs_become_initializers() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    as_constant = tiny.model(
        [
            helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight)),
            helper.make_node("Conv", ["x", "w"], ["y"]),
        ],
        {},
    )
    as_input = tiny.model([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": weight})
    as_input.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, weight.shape))
    for source in (as_constant, as_input):
        _, canonical = normalize(source)
        assert [i.name for i in canonical.graph.input] == ["x"]
        assert [t.name for t in canonical.graph.initializer] == ["w"]
        assert list(ops(canonical)) == ["Conv"]


def test_identity_dropout_and_idle_cast_vanish_and_leave_aliases() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Identity", ["r"], ["i"]),
        helper.make_node("Dropout", ["i"], ["d"]),
        helper.make_node("Cast", ["d"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["c"], ["n"]),
        helper.make_node("Identity", ["n"], ["y"]),
    ]
    draft, canonical = normalize(tiny.model(nodes, {}))
    assert [n.op_type for n in canonical.graph.node] == ["Relu", "Neg"]
    assert canonical.graph.output[0].name == "y"
    assert draft.aliases == {"i": "r", "d": "r", "c": "r", "n": "y"}


def test_float16_models_are_computed_in_float32_and_say_so() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float16)
    source = tiny.model([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": weight})
    source.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    source.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    draft, canonical = normalize(source)
    x = np.random.default_rng(0).random((1, 3, 16, 16), dtype=np.float32)
    assert run(canonical, x, ["y"])["y"].dtype == np.float32
    assert any("float16" in note for note in draft.notes)


def test_batch_norm_taken_apart_becomes_one_node_unless_its_pieces_are_named() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Sub", ["c", "mean"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["m"]),
        helper.make_node("Add", ["m", "bias"], ["y"]),
    ]
    weights = {"w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32)}
    weights |= {k: rng.uniform(0.5, 1.5, (4, 1, 1)).astype(np.float32) for k in ("mean", "scale", "bias")}
    source = tiny.model(nodes, weights)
    x = rng.random((1, 3, 16, 16), dtype=np.float32)
    expected = run(source, x, ["y"])["y"]
    for keep, chain in (([], ["Conv", "BatchNormalization"]), (["s"], ["Conv", "BatchNormalization"])):
        _, canonical = normalize(copied(source), keep=keep)
        assert set(keep) <= set(tensors(canonical))
        assert keep or [n.op_type for n in canonical.graph.node] == chain
        np.testing.assert_allclose(run(canonical, x, ["y"])["y"], expected, atol=1e-5)


def test_products_of_constants_are_computed_once_up_to_a_bound_and_casts_to_a_known_type_are_dropped() -> None:
    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(size=(3, 8)).astype(np.float32), "b": rng.normal(size=(8, 27)).astype(np.float32)}
    weights["shape"], weights["long"] = np.array([3, 3, 3, 3]), np.ones((2**15, 1), np.float32)
    weights["line"] = np.ones((1, 2**15), np.float32)
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["made"]),
        helper.make_node("CastLike", ["made", "x"], ["kernel"]),
        helper.make_node("Conv", ["x", "kernel"], ["c"]),
        helper.make_node("MatMul", ["long", "line"], ["huge"]),  # four GiB
        helper.make_node("ReduceMax", ["huge"], ["one"], keepdims=0),
        helper.make_node("Mul", ["c", "one"], ["y"]),
    ]
    draft, canonical = normalize(tiny.model(nodes, weights))
    assert sorted(n.op_type for n in canonical.graph.node) == ["Conv", "MatMul", "Mul", "ReduceMax"]
    kernel = next(n.input[1] for n in canonical.graph.node if n.op_type == "Conv")
    wanted = (weights["a"] @ weights["b"]).reshape(3, 3, 3, 3)
    np.testing.assert_allclose(draft.constant(kernel), wanted, rtol=1e-6)


def test_a_cycle_is_refused() -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(RefusedInput, match="cycle"):
        normalize(tiny.model(nodes, {}, outputs=("b",)))


@pytest.mark.parametrize(
    ("op", "inputs", "weights"),
    [
        ("ConstantOfShape", ["s"], {"s": np.array([2**20, 2**20])}),
        ("Expand", ["v", "s"], {"v": np.ones(1, np.float32), "s": np.array([2**32])}),
        ("Tile", ["v", "s"], {"v": np.ones(1000, np.float32), "s": np.array([2**40])}),
        ("Range", ["a", "b", "c"], {"a": np.array(0), "b": np.array(2**40), "c": np.array(1)}),
    ],
)
def test_constants_that_would_grow_without_bound_are_refused(
    op: str, inputs: list[str], weights: dict[str, np.ndarray]
) -> None:
    nodes = [
        helper.make_node(op, inputs, ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    with pytest.raises(UnsafeFile, match="at most"):
        normalize(tiny.model(nodes, weights))
