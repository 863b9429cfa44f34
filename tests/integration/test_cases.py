"""Files that users of neighbouring tools reported, rebuilt small: each with the value that is right.

The files in tests/cases are nobody's models; a forward number's right value is ONNX Runtime's on the file itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import convscope
from convscope.adapters.verify import verify
from convscope.engine.attribution.explain import explain
from convscope.engine.graph.company import mixing
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.index import Index
from convscope.engine.graph.labels import predictions
from convscope.engine.pictures.photographs import photographs
from convscope.engine.pictures.read import model_input, read_image

from ..tiny import model, small_cnn

CASES = Path(__file__).resolve().parents[1] / "cases"


def case(name: str) -> Graph:
    return convscope.load(str(CASES / f"{name}.onnx"))


def pictures(graph: Graph, count: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return graph.preprocessing.normalize(rng.random((count, graph.channels, *graph.image_size)).astype(np.float32))


def original(name: str, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(CASES / f"{name}.onnx"))
    found: list[Any] = session.run(None, {session.get_inputs()[0].name: x})
    return np.asarray(found[0])


@pytest.mark.parametrize("name", ["sat_reshape", "sat_prim"])
def test_a_saturated_softmax_however_written_has_its_closed_form_map_and_its_own_probabilities(name: str) -> None:
    graph = case(name)
    x = pictures(graph, 1)
    assert graph.head().kind == "softmax"
    logits = graph.session([graph.logits]).run(x)[graph.logits]
    expected = original(name, x)[0]
    found = predictions(graph, logits[0].reshape(-1), 4)
    assert [p.probability for p in found] == pytest.approx([float(expected[p.index]) for p in found], abs=1e-6)
    attribution = explain(graph, x, "gradcam")
    layer = graph.layer(attribution.layers[0])
    (weight,) = [w for n, w in _dense(graph) if n == graph.logits]
    maps = graph.session([layer.tensor]).run(x)[layer.tensor][0]
    closed = np.tensordot(weight[attribution.target.index] / maps[0].size, maps, axes=1)
    np.testing.assert_allclose(attribution.values, closed, rtol=1e-4, atol=1e-6 * np.abs(closed).max())
    assert np.abs(closed).max() > 0


def _dense(graph: Graph) -> list[tuple[str, np.ndarray]]:
    """(result, weights (K, C)) of dense layers."""
    found = []
    for node in graph.index.nodes:
        weight = graph.index.constant(node.input[1]) if node.op_type == "Gemm" else None
        if weight is not None:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            found.append((node.output[0], weight if transposed else weight.T))
    return found


def test_a_file_of_bytes_gives_what_the_runtime_gives_on_bytes_and_passes_gradients() -> None:
    graph = case("uint8")
    assert (graph.preprocessing.low, graph.preprocessing.high, graph.preprocessing.found) == (0, 255, "type")
    assert any("uint8" in note for note in graph.source.notes)
    x = model_input(read_image(photographs()[0]), graph)
    assert x.max() > 100 and np.array_equal(x, np.rint(x))
    expected = original("uint8", x.transpose(0, 2, 3, 1).astype(np.uint8))
    np.testing.assert_allclose(graph.session([graph.logits]).run(x)[graph.logits], expected, atol=1e-5)
    pixels = torch.rand(1, 3, *graph.image_size, requires_grad=True)
    value = graph.twin([graph.logits]).only(graph.preprocessing.normalize(pixels))
    assert torch.autograd.grad(value[0, 0], pixels)[0].abs().max() > 0
    found = verify(graph)
    assert found.ok and found.gradient_rel is not None and found.source_rel == 0


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.INT32], ids=["int8", "int32"])
def test_whole_numbers_of_other_types_are_moved_cut_and_cast_back_where_an_operator_needs_them(kind: int) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.1, (4, 3, 3, 3)).astype(np.float32),
        "two": np.array(2, helper.tensor_dtype_to_np_dtype(kind)),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["t", "two"], ["half"]),
        helper.make_node("Cast", ["half"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["f", "w"], ["y"]),
    ]  # fmt: skip
    made = model(nodes, weights, shape=("N", 12, 12, 3))
    made.graph.input[0].type.tensor_type.elem_type = kind
    graph = convscope.load(made)
    x = pictures(graph, 1)
    given = x.transpose(0, 2, 3, 1).astype(helper.tensor_dtype_to_np_dtype(kind))
    session = onnxruntime.InferenceSession(made.SerializeToString())
    expected: Any = session.run(None, {"x": given})[0]
    output = graph.outputs[0].name
    np.testing.assert_allclose(graph.session([output]).run(x)[output], expected, atol=1e-4)


def test_lines_with_time_first_that_mix_their_batch_are_read_as_each_alone_is() -> None:
    weights: dict[str, np.ndarray] = {
        "w": np.random.default_rng(0).normal(size=(6, 3, 8, 2)).astype(np.float32),
        "batch": np.asarray([0], np.int64),
        "rows": np.asarray([2], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["x", "batch"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["x", "mean"], ["mixed"]),
        helper.make_node("Conv", ["mixed", "w"], ["maps"], strides=[8, 2]),
        helper.make_node("Squeeze", ["maps", "rows"], ["line"]),
        helper.make_node("Transpose", ["line"], ["y"], perm=[2, 0, 1]),
    ]
    graph = convscope.load(model(nodes, weights, shape=("N", 3, 8, 32), opset=18))
    lines = list(np.random.default_rng(1).random((3, 8, 32, 3), dtype=np.float32))
    together = convscope.predict(graph, lines, decoder="ctc").content["images"]
    alone = [convscope.predict(graph, line, decoder="ctc").content["images"][0] for line in lines]
    assert [{**row, "file": ""} for row in together] == [{**row, "file": ""} for row in alone]
    maps = convscope.explain(graph, lines, "saliency", target="output:y:3")
    for line, found in zip(lines, maps, strict=True):
        np.testing.assert_array_equal(
            convscope.explain(graph, line, "saliency", target="output:y:3").values, found.values
        )


def test_statistics_of_the_batch_are_those_of_one_picture_whatever_its_company() -> None:
    graph = case("bn_nostats_dyn")
    assert graph.mixes_batch is not None
    assert sum("one at a time" in note for note in graph.source.notes) == 1
    x = pictures(graph)
    alone = np.concatenate([original("bn_nostats_dyn", x[i : i + 1]) for i in range(3)])
    together: Any = onnxruntime.InferenceSession(graph.model.SerializeToString()).run(None, {graph.inputs[0].name: x})
    assert not np.allclose(alone, together[0], atol=1e-3)  # the network itself depends on it
    np.testing.assert_allclose(graph.session([graph.logits]).run(x)[graph.logits], alone, atol=1e-5)
    with torch.no_grad():
        found = graph.twin([graph.logits])(torch.from_numpy(x))[graph.logits].numpy()
    np.testing.assert_allclose(found, alone, atol=1e-5)
    maps = explain(graph, x, "gradcam", 1)
    for i in range(3):
        np.testing.assert_allclose(
            maps[i].values, explain(graph, x[i : i + 1], "gradcam", 1).values, rtol=1e-4, atol=1e-7
        )
    found_all = verify(graph)
    assert found_all.ok and found_all.gradient_rel is not None and found_all.gradient_rel < 1e-6


@pytest.mark.parametrize(
    ("op", "options", "mixes"),
    [
        ("ReduceMean", {"axes": [0]}, True),
        ("ReduceMean", {"axes": [-4]}, True),
        ("ReduceMean", {}, True),
        ("ReduceMean", {"axes": [2, 3]}, False),
        ("Softmax", {"axis": 0}, True),
        ("Softmax", {"axis": 1}, False),
        ("ArgMax", {"axis": 1}, False),
        ("ArgMax", {}, True),
        ("GlobalAveragePool", {}, False),
        ("DynamicQuantizeLinear", {}, True),
    ],
)
@pytest.mark.parametrize("turned", [False, True], ids=["plain", "turned"])
def test_what_mixes_the_batch_is_found_by_its_axes(op: str, options: dict[str, Any], mixes: bool, turned: bool) -> None:
    outputs = ["y", "s", "z"] if op == "DynamicQuantizeLinear" else ["y"]
    nodes = [helper.make_node("Relu", ["x"], ["r"])]
    if turned and op == "ReduceMean" and options.get("axes") == [0]:
        nodes += [helper.make_node("Transpose", ["r"], ["t"], perm=[1, 0, 2, 3])]
        options = {"axes": [1]}
    elif turned:
        nodes += [helper.make_node("Transpose", ["r"], ["u"], perm=[1, 0, 2, 3])]
        nodes += [helper.make_node("Transpose", ["u"], ["t"], perm=[1, 0, 2, 3])]
    nodes += [helper.make_node(op, ["t" if turned else "r"], outputs, **options)]
    index = Index(model(nodes, {}).graph)
    found = mixing(index, "x", dict.fromkeys(("x", "r", "u", "t"), (None, 3, 4, 4)))
    assert found == (("y",) if mixes else ())


def test_ordinary_networks_mix_nothing() -> None:
    assert convscope.load(small_cnn(), check=False).mixes_batch is None
    assert case("k11").mixes_batch is None


def test_the_weight_that_holds_nan_is_named() -> None:
    name = next(
        t.name
        for t in onnx.load(CASES / "nanw.onnx").graph.initializer
        if t.data_type == 1 and np.isnan(onnx.numpy_helper.to_array(t)).any()
    )
    with pytest.raises(convscope.RefusedInput, match=f"weight '{name}' holds NaN"):
        case("nanw")


def test_one_sigmoid_and_maps_of_one_pixel_have_their_logits() -> None:
    assert case("bin_neg").head().kind == "sigmoid"
    graph = case("k11")
    x = pictures(graph, 1)
    logits = graph.session([graph.logits]).run(x)[graph.logits].reshape(-1)
    powers = np.exp(logits - logits.max())
    assert [p.probability for p in predictions(graph, logits, 6)] == pytest.approx(sorted(powers / powers.sum())[::-1])
