"""Operators without a converter or a gradient: all that runs forward works, and only what needs them is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import convscope
from convscope.errors import UnsupportedOperator

RNG = np.random.default_rng(0)
PICTURE = RNG.random((16, 16, 3), dtype=np.float32)
FORWARD = ("rise", "occlusion", "sobol", "hsic", "kernelshap", "lime")
FEW: dict[str, dict[str, int]] = {
    "rise": {"masks": 20},
    "sobol": {"designs": 2},
    "hsic": {"designs": 20},
    "kernelshap": {"samples": 99},
    "lime": {"samples": 99},
}
WEIGHTS = {
    "w1": RNG.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32),
    "w2": RNG.normal(0, 0.3, (6, 6, 3, 3)).astype(np.float32),
    "fc": RNG.normal(0, 0.3, (4, 6)).astype(np.float32),
}


def net(place: str, odd: onnx.NodeProto) -> onnx.ModelProto:
    """Conv - Relu - Conv - Relu - pool - dense, with ``odd`` at the end, in the middle or at the side."""
    node = helper.make_node
    read = {"end": "logits", "middle": "r1", "side": "r1"}[place]
    made = onnx.NodeProto()
    made.CopyFrom(odd)
    made.input[0] = read
    nodes = [node("Conv", ["x", "w1"], ["c1"], "c1", pads=[1] * 4), node("Relu", ["c1"], ["r1"], "r1")]
    nodes += [made] if place != "end" else []
    nodes += [
        node("Conv", ["odd" if place == "middle" else "r1", "w2"], ["c2"], "c2", pads=[1] * 4),
        node("Relu", ["c2"], ["r2"], "r2"),
        *([node("Add", ["r2", "odd"], ["sum"], "sum")] if place == "side" else []),
        node("GlobalAveragePool", ["sum" if place == "side" else "r2"], ["g"], "g"),
        node("Flatten", ["g"], ["f"], "f"),
        node("Gemm", ["f", "fc"], ["logits"], "dense", transB=1),
    ]
    nodes += [made] if place == "end" else []
    return _model(nodes, "odd" if place == "end" else "logits")


def _model(nodes: Sequence[onnx.NodeProto], output: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


UNKNOWN = helper.make_node("FastGelu", ["in"], ["odd"], "node of the unknown", domain="com.microsoft")
KNOWN = helper.make_node("Gelu", ["in"], ["odd"], "gelu", approximate="tanh")  # the same function
FLAT = helper.make_node("Round", ["in"], ["odd"], "node without slope")


@pytest.fixture(autouse=True)
def _no_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator keeps its kernel in ONNX Runtime and has no converter, whatever this version learns."""
    from convscope.adapters.twin.converters import CONVERTERS
    from convscope.engine.graph.operators import OPERATORS

    monkeypatch.delitem(CONVERTERS, ("com.microsoft", "FastGelu"), raising=False)
    monkeypatch.delitem(OPERATORS, ("com.microsoft", "FastGelu"), raising=False)


@pytest.mark.parametrize("place", ["end", "middle", "side"])
def test_a_file_with_an_unknown_operator_is_imported_verified_and_explained_by_forward_passes(place: str) -> None:
    model = net(place, UNKNOWN)
    graph = convscope.load(model)
    assert any("FastGelu" in note and "node of the unknown" in note for note in graph.source.notes)
    verified = convscope.verify(graph)
    assert verified.ok
    assert verified.tensors_compared == verified.tensors_total - 1  # those behind the operator too
    assert verified.gradient_rel is not None
    assert any("FastGelu" in said for said in verified.opaque)
    x = np.stack([PICTURE, PICTURE[::-1]]).transpose(0, 3, 1, 2).copy()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    original = session.run(None, {"x": graph.preprocessing.normalize(x)})[0]
    found = graph.session([graph.outputs[0].name]).run(graph.preprocessing.normalize(x))[graph.outputs[0].name]
    np.testing.assert_allclose(found, original, rtol=1e-5, atol=1e-6)
    same = convscope.load(net(place, KNOWN))
    for method in FORWARD:
        ours, theirs = (convscope.explain(g, PICTURE, method, 1, **FEW.get(method, {})) for g in (graph, same))
        np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-3, atol=1e-4, err_msg=method)
    assert convscope.info(graph)["parameters"] == convscope.info(same)["parameters"]
    pictures = [PICTURE, PICTURE[::-1].copy()]
    assert len(convscope.predict(graph, pictures).to_json()["images"]) == 2
    assert convscope.stats(graph, pictures, "r2").to_json()["images"] == 2
    assert convscope.top(graph, pictures, "r2", k=1).to_json()["layers"]
    np.testing.assert_allclose(
        convscope.activations(graph, pictures, "r2")["r2"], convscope.activations(same, pictures, "r2")["r2"], atol=1e-5
    )


@pytest.mark.parametrize("place", ["end", "middle", "side"])
def test_cut_first_then_ask_what_does_not_pass_the_operator_has_its_gradient(place: str) -> None:
    graph, same = convscope.load(net(place, UNKNOWN)), convscope.load(net(place, KNOWN))
    ours, theirs = (convscope.explain(g, PICTURE, "saliency", "unit:r1:0").values for g in (graph, same))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert convscope.filters(graph, "r1", "0", steps=2, size=16)[0].image.shape[0] == 16
    if place != "end":  # the operator lies below or beside what Grad-CAM differentiates
        ours, theirs = (convscope.explain(g, PICTURE, "gradcam", 1, layer="r2").values for g in (graph, same))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        assert convscope.explain(graph, PICTURE, target=1).method == "gradcam"


@pytest.mark.parametrize("place", ["end", "middle", "side"])
def test_what_passes_the_operator_is_refused_in_a_line_that_names_it(place: str) -> None:
    graph = convscope.load(net(place, UNKNOWN))
    with pytest.raises(UnsupportedOperator, match=r"operator FastGelu .*node of the unknown.*rise") as refused:
        convscope.explain(graph, PICTURE, "saliency", 1)
    assert "\n" not in str(refused.value)
    if place == "middle":
        with pytest.raises(UnsupportedOperator, match="FastGelu"):
            convscope.filters(graph, "r2", "0", steps=2, size=16)


def test_the_default_method_runs_forward_where_no_gradient_leads_back() -> None:
    graph = convscope.load(net("end", UNKNOWN))
    assert convscope.explain(graph, PICTURE, target=1, masks=20).method == "rise"


@pytest.mark.parametrize("place", ["end", "middle"])
def test_an_operator_that_the_twin_computes_without_a_gradient_is_named_too(place: str) -> None:
    graph = convscope.load(net(place, FLAT))
    assert convscope.verify(graph).ok
    with pytest.raises(UnsupportedOperator, match=r"operator Round .*node without slope.*has no gradient"):
        convscope.explain(graph, PICTURE, "saliency", 1)
    assert convscope.explain(graph, PICTURE, "saliency", "unit:r1:0").heatmap.max() == 1
    assert convscope.explain(graph, PICTURE, "rise", 1, masks=20).values.shape == (16, 16)


def test_beside_the_way_an_operator_without_gradient_stops_nothing() -> None:
    graph = convscope.load(net("side", FLAT))
    assert convscope.explain(graph, PICTURE, "saliency", 1).heatmap.max() == 1


def test_an_operator_of_chance_is_refused() -> None:
    noise = helper.make_node("RandomNormalLike", ["in"], ["odd"], "dice")
    with pytest.raises(UnsupportedOperator, match=r"operator RandomNormalLike .*dice"):
        convscope.load(net("middle", noise))


def test_boxes_that_are_an_output_and_go_into_the_suppression_are_what_the_file_gives(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c"], strides=[4, 4]),
        node("Sigmoid", ["c"], ["s"]),
        node("Reshape", ["s", "rows"], ["r"]),
        node("Split", ["r", "parts"], ["xywh", "scores"], axis=1),
        node("Transpose", ["xywh"], ["boxes"], perm=[0, 2, 1]),
        node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["chosen"], center_point_box=1),
    ]
    constants = {
        "rows": np.array([0, 6, -1]), "parts": np.array([4, 2]), "most": np.array([5]),
        "overlap": np.array([0.5], np.float32), "least": np.array([0.1], np.float32),
    }  # fmt: skip
    made = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_empty_tensor_value_info(name) for name in ("boxes", "scores", "chosen")],
        [numpy_helper.from_array(value, name) for name, value in {"w1": WEIGHTS["w1"], **constants}.items()],
    )
    path = tmp_path / "detector.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    graph = convscope.load(path)
    x = RNG.random((1, 3, 16, 16), dtype=np.float32)
    names = [output.name for output in graph.outputs]
    ours = graph.session(names, device="cpu").run({"x": x})
    for name, theirs in zip(names, onnxruntime.InferenceSession(path).run(names, {"x": x}), strict=True):
        assert np.allclose(ours[name], theirs, atol=1e-6)
    assert convscope.verify(
        graph
    ).ok  # the rows that are kept say which picture they are of: a batch has them in one list


def colour_detector(odd: onnx.NodeProto) -> onnx.ModelProto:
    """YOLOv8's table of a red and a blue cell of 8 x 8 pixels, exact by construction, with ``odd`` in its scores."""
    node = helper.make_node
    rows, columns = np.mgrid[0:4, 0:4]
    boxes = np.stack([columns.ravel() * 8 + 4, rows.ravel() * 8 + 4, *np.full((2, 16), 8)])[None]
    weights = {
        "colours": np.array([[1.0, -1, -1], [-1, -1, 1]]).reshape(2, 3, 1, 1),
        "twelve": np.eye(2).reshape(2, 2, 1, 1) * 12, "level": np.full(2, -6.0), "boxes": boxes, "nothing": np.zeros(1),
        "less": np.full(1, -3.0),
    }  # fmt: skip
    made = onnx.NodeProto()
    made.CopyFrom(odd)
    made.input[0] = "scores"
    nodes = [
        node("Conv", ["x", "colours"], ["c"]),
        node("AveragePool", ["c"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        node("Conv", ["cells", "twelve", "level"], ["scores"]),
        made,
        node("Add", ["odd", "less"], ["logits"]),
        node("Reshape", ["logits", "shape"], ["flat"]),
        node("Sigmoid", ["flat"], ["sure"]),
        node("ReduceMean", ["sure", "axis"], ["mean"]),
        node("Mul", ["mean", "nothing"], ["zero"]),
        node("Add", ["zero", "boxes"], ["placed"]),
        node("Concat", ["placed", "sure"], ["table"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("table", TensorProto.FLOAT, ["N", 6, 16])],
        [
            *(numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()),
            numpy_helper.from_array(np.array([0, 2, 16]), "shape"),
            numpy_helper.from_array(np.array([1]), "axis"),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_boxes_of_a_detector_with_an_unknown_operator_are_explained_by_d_rise_without_a_flag() -> None:
    picture = np.zeros((32, 32, 3), np.float32)
    picture[8:16, 16:24, 0] = 1
    picture[24:32, 0:8, 2] = 0.95
    graph = convscope.load(colour_detector(UNKNOWN), preprocessing="unit", check=False)
    found = convscope.explain(graph, picture, masks=400, cells=8)
    assert [(a.method, a.target.box) for a in found] == [("drise", (16, 8, 24, 16)), ("drise", (0, 24, 8, 32))]
    for attribution in found:
        left, top, right, bottom = (int(side) for side in attribution.target.box)
        row, column = np.unravel_index(int(attribution.heatmap.argmax()), attribution.heatmap.shape)
        assert top - 1 <= row <= bottom and left - 1 <= column <= right
        inside = attribution.heatmap[top:bottom, left:right].mean()
        assert inside > 1.5 * attribution.heatmap.mean()
    known = convscope.load(colour_detector(KNOWN), preprocessing="unit", check=False)
    assert convscope.explain(known, picture)[0].method == "odam"  # with a gradient
    same = convscope.explain(known, picture, "drise", masks=400, cells=8)
    for ours, theirs in zip(found, same, strict=True):
        np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-3, atol=1e-5)
