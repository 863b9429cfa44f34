"""A whole network exported: its map is the twin's, its outputs are the old ones, for any class, batch and size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import convscope
from convscope.adapters.verify import heatmap_difference
from convscope.engine.attribution.batch import Batch, Executors
from convscope.engine.attribution.registry import METHODS
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.preprocessing import PREPROCESSINGS
from convscope.engine.outputs.reads import Channel
from convscope.engine.outputs.target import Target
from convscope.engine.pictures.read import model_input
from convscope.errors import UsageError

from ...tiny import model, small_cnn
from .alone import shape_of_map

LAYER_METHODS = ("gradcam", "gradcam++", "hirescam", "xgradcam", "layercam")


@pytest.fixture(scope="module")
def graph() -> Graph:
    return convscope.load(small_cnn())


def run(path: Path, x: np.ndarray, classes: list[int] | None = None) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: x, **({"class": np.array(classes)} if classes else {})}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def twin_map(graph: Graph, x: np.ndarray, method: str, layer: str | None, classes: list[int]) -> np.ndarray:
    batch = Batch(Executors(graph, device="cpu"), x)
    targets = [Target(Channel(graph.logits, c), "") for c in classes]
    where = (graph.layer(layer),) if layer else ()
    return np.maximum(METHODS[method].run(batch, targets, *where).evidence, 0)


def images(count: int, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, height, width)).astype(np.float32)


@pytest.mark.parametrize("method", LAYER_METHODS)
@pytest.mark.parametrize("layer", ["relu2", "relu1", "conv1"])
def test_the_map_is_the_twin_s_for_every_class_batch_and_size(
    graph: Graph, tmp_path: Path, method: str, layer: str
) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", method, layer)
    assert done.verification.difference < 1e-5
    close = 5e-5 if (method, layer) == ("xgradcam", "conv1") else 1e-5  # it divides by sums that nearly vanish there
    for x, classes in ((images(1), [3]), (images(3), [0, 4, 2]), (images(2, 22, 30), [1, 1])):
        found = run(done.path, x, classes)["heatmap"]
        expected = twin_map(graph, x, method, layer, classes)
        np.testing.assert_allclose(found, expected, atol=close * max(expected.max(), 1e-3))


def test_a_large_map_is_as_exact_as_a_small_one(graph: Graph, tmp_path: Path) -> None:
    """ONNX Runtime adds up a plane in one row, which alone is 3e-5 off here."""
    for layer in ("conv1", "relu2"):
        done = convscope.export(graph, tmp_path / "out.onnx", layer=layer)
        x = images(1, 320, 320)
        expected = twin_map(graph, x, "gradcam", layer, [1])
        np.testing.assert_allclose(run(done.path, x, [1])["heatmap"], expected, rtol=0, atol=2e-6 * expected.max())


def test_layers_of_which_one_lies_behind_the_other_share_the_places_of_a_maximum(tmp_path: Path) -> None:
    graph = convscope.load("lenet")
    done = convscope.export(graph, tmp_path / "out.onnx", layer="relu1,relu2")  # pool2 lies on the way to both
    assert done.layer == "relu1, relu2" and done.verification.difference < 1e-5


@pytest.mark.parametrize("method", ["saliency", "inputxgradient"])
def test_the_whole_backward_pass_is_in_the_file(graph: Graph, tmp_path: Path, method: str) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", method)
    found = run(done.path, images(3), [0, 4, 2])["heatmap"]
    np.testing.assert_allclose(found, twin_map(graph, images(3), method, None, [0, 4, 2]), atol=1e-5)


def test_a_network_without_a_feature_map_gets_the_method_that_explain_takes(tmp_path: Path) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "m"], ["y"])]
    weights = {"m": np.random.default_rng(0).normal(0, 1, (3 * 8 * 8, 4)).astype(np.float32)}
    flat = convscope.load(model(nodes, weights, ("N", 3, 8, 8)))
    done = convscope.export(flat, tmp_path / "out.onnx")
    assert (done.method, done.verification.ok) == ("saliency", True)
    with pytest.raises(UsageError, match="no feature map"):
        convscope.export(flat, tmp_path / "out.onnx", "gradcam")


def test_without_a_class_the_predicted_one_is_explained(graph: Graph, tmp_path: Path) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", layer="relu1")
    found = run(done.path, images(4))
    predicted = [int(c) for c in found["y"].argmax(axis=1)]
    np.testing.assert_array_equal(found["heatmap"], run(done.path, images(4), predicted)["heatmap"])
    mixed = run(done.path, images(4), [predicted[0], -1, 2, -7])["heatmap"]
    np.testing.assert_array_equal(mixed[[0, 1, 3]], found["heatmap"][[0, 1, 3]])


@pytest.mark.parametrize("layer", ["relu2", "relu1"])
def test_a_class_that_there_is_not_stops_the_run_and_gives_no_empty_map(
    graph: Graph, tmp_path: Path, layer: str
) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", layer=layer)
    run(done.path, images(2), [4, 0])
    with pytest.raises(Exception, match="idx=5 must be within"):
        run(done.path, images(2), [5, 0])


def test_the_old_outputs_are_kept_to_the_bit(graph: Graph, tmp_path: Path) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx")
    plain = onnxruntime.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(run(done.path, images(2))["y"], plain.run(None, {"x": images(2)})[0])


def test_the_file_is_standard_onnx_and_says_what_it_is(graph: Graph, tmp_path: Path) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", "layercam", "relu1")
    file = onnx.load(done.path)
    onnx.checker.check_model(file, full_check=True)
    assert {n.domain for n in file.graph.node} == {""} and [e.domain for e in file.opset_import] == [""]
    stated = {p.key: p.value for p in file.metadata_props}
    assert stated["convscope.method"] == "layercam" and stated["convscope.layer"] == "relu1"
    assert stated["convscope.graph_sha256"] == graph.sha256 and "8 pictures x 3 classes" in stated["convscope.verified"]
    assert len(file.graph.node) == done.nodes + done.added


def test_a_linear_head_needs_no_backward_pass(graph: Graph, tmp_path: Path) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", "gradcam", "relu2")
    added = {n.op_type for n in onnx.load(done.path).graph.node if n.name.startswith("heatmap/")}
    assert "Gather" in added and not added & {"Gemm", "ConvTranspose", "OneHot"}


def test_cam_is_the_closed_form(graph: Graph, tmp_path: Path) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", "cam")
    found = run(done.path, images(2), [1, 3])["heatmap"]
    np.testing.assert_allclose(found, twin_map(graph, images(2), "cam", "relu2", [1, 3]), rtol=1e-4, atol=1e-6)
    with pytest.raises(convscope.UsageError, match="global average pooling"):
        convscope.export(graph, tmp_path / "no.onnx", "cam", "relu1")


def test_the_map_in_the_picture_s_size_and_divided_by_its_maximum(graph: Graph, tmp_path: Path) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", layer="pool1", resize="input", normalize=True)
    x = images(2, 20, 24)
    found = run(done.path, x, [1, 2])["heatmap"]
    explained = [
        convscope.explain(graph, x[i : i + 1], "gradcam", i + 1, "pool1", preprocessed=True).heatmap for i in (0, 1)
    ]
    np.testing.assert_allclose(found, explained, atol=1e-5)


@pytest.mark.parametrize("target", ["3", "unit:relu2:5", "unit:conv2:2@3,4", "output:y:1"])
def test_a_fixed_target_needs_no_class(graph: Graph, tmp_path: Path, target: str) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", "hirescam", "relu1", target=target)
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert not session.get_overridable_initializers() and [i.name for i in session.get_inputs()] == ["x"]
    wanted = convscope.explain(graph, images(1), "hirescam", target, "relu1", preprocessed=True).values
    np.testing.assert_allclose(run(done.path, images(1))["heatmap"][0], np.maximum(wanted, 0), atol=1e-5)


def test_the_class_can_be_made_an_input_that_has_to_be_given(graph: Graph, tmp_path: Path) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", class_input=True)
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["x", "class"]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "said"),
    [
        ("Resize", ["r1", "", "", "eight"], {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"},
         r"Resize .*: policy 'not_larger'; the deepest layer that works is 'pool1'"),
        ("Det", ["r1"], {}, r"Det .*: it has none in convscope; no layer of it works"),
    ],
    ids=["a form", "an operator"],
)  # fmt: skip
def test_what_has_no_gradient_is_refused_by_name_with_a_layer_that_works(
    tmp_path: Path, op: str, inputs: list[str], attributes: dict[str, Any], said: str
) -> None:
    plain = small_cnn()
    nodes = list(plain.graph.node)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in plain.graph.initializer} | {"eight": np.array([8, 8])}
    if op == "Det":  # (N, 8): what follows is dense
        weights["fc.weight"] = weights["fc.weight"][:, :8]
        head = next(n for n in nodes if n.op_type == "Gemm")
        head.input[0] = "p1"
        nodes = [*nodes[:4], *nodes[nodes.index(head) :]]
    nodes[3].CopyFrom(helper.make_node(op, inputs, ["p1"], "/pool1/Op", **attributes))
    graph = convscope.load(model(nodes, weights, opset=18))
    with pytest.raises(convscope.RefusedInput, match=f"operator {said}"):
        convscope.export(graph, tmp_path / "out.onnx", layer="relu1")
    assert not list(tmp_path.iterdir())


def test_a_map_that_is_zero_in_both_is_an_answer_and_said(graph: Graph, tmp_path: Path) -> None:
    """Of a plane normalized by its own mean, the mean is the same whatever the layer adds: rounding is left alone."""
    plain = small_cnn()
    norm = helper.make_node("InstanceNormalization", ["r2", "one", "two"], ["n"], "/norm/InstanceNormalization")
    nodes = list(plain.graph.node)
    place = next(i for i, n in enumerate(nodes) if "r2" in n.input)
    nodes[place].input[:] = ["n" if name == "r2" else name for name in nodes[place].input]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in plain.graph.initializer}
    weights |= {"one": np.ones(12, np.float32), "two": np.ones(12, np.float32)}
    done = convscope.export(
        convscope.load(model([*nodes[:place], norm, *nodes[place:]], weights)),
        tmp_path / "out.onnx",
        layer="relu2",
        target=2,
    )
    check = done.verification
    assert check.zeros >= 0.8 * check.pictures * check.classes  # the rest is within the bound, or within a kink's
    assert f"{check.zeros} maps zero in both" in done.lines[0]
    assert done.to_json()["zero_maps"] == check.zeros
    assert convscope.export(graph, tmp_path / "other.onnx").verification.zeros == 0


def test_an_attention_s_node_is_written_out_where_the_gradient_goes_through_it(tmp_path: Path) -> None:
    """The rest of the file, and what it gives, stay as they were."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {
        "w": rng.normal(0, 0.3, (8, 3, 4, 4)).astype(np.float32), "rows": np.array([0, 8, -1]),
        "head": rng.normal(0, 0.5, (8, 5)).astype(np.float32), "one": np.array([1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "/conv/Conv", strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["r"], "/relu/Relu"),
        helper.make_node("Reshape", ["r", "rows"], ["flat"], "/flat/Reshape"),
        helper.make_node("Transpose", ["flat"], ["t"], "/tokens/Transpose", perm=[0, 2, 1]),
        helper.make_node("Attention", ["t", "t", "t"], ["a"], "/attend/Attention", q_num_heads=2, kv_num_heads=2),
        helper.make_node("ReduceMean", ["a", "one"], ["m"], "/mean/ReduceMean", keepdims=0),
        helper.make_node("MatMul", ["m", "head"], ["y"], "/head/MatMul"),
    ]
    attending = convscope.load(model(nodes, weights, opset=23))
    x = images(2)
    plain = attending.session(["y"]).run(x)["y"]
    done = convscope.export(attending, tmp_path / "out.onnx", layer="relu")
    assert done.verification.difference < 1e-5
    assert {n.domain for n in onnx.load(done.path).graph.node} == {""}
    found = run(done.path, x, [1, 4])
    np.testing.assert_allclose(found[attending.outputs[0].name], plain, atol=1e-5)


def test_a_map_that_is_not_the_twin_s_is_not_written(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convscope.engine.export import gradients

    monkeypatch.setitem(gradients.GRADIENTS, "Relu", lambda v: {0: v.dy})
    with pytest.raises(convscope.ConvscopeError, match="nothing was written"):
        convscope.export(graph, tmp_path / "out.onnx", layer="relu1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "eigencam"}, "cannot be exported; choose one of"),
        ({"layer": "fc"}, "no feature maps"),
        ({"resize": "twice"}, "resize 'twice' is unknown"),
        ({"target": "3", "class_input": True}, "leave class_input= out"),
        ({"target": "top:3"}, "not one number"),
        ({"target": "99"}, "out of range"),
        ({"method": "saliency", "layer": "relu1"}, "takes no layer"),
    ],
    ids=str,
)
def test_wrong_use_is_said(graph: Graph, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(convscope.UsageError, match=message):
        convscope.export(graph, tmp_path / "out.onnx", **options)  # type: ignore[arg-type]


def test_the_file_runs_where_neither_torch_nor_convscope_is(graph: Graph, tmp_path: Path) -> None:
    convscope.export(graph, tmp_path / "out.onnx", layer="relu1")
    assert shape_of_map(tmp_path / "out.onnx", {"x": (1, 3, 16, 16)}) == "(1, 16, 16)"


def test_integrated_gradients_are_python_s(graph: Graph, tmp_path: Path) -> None:
    done = convscope.export(graph, tmp_path / "out.onnx", "integratedgradients", steps=7)
    batch = Batch(Executors(graph, device="cpu"), images(2))
    targets = [Target(Channel(graph.logits, c), "") for c in (1, 4)]
    expected = np.maximum(METHODS["integratedgradients"].run(batch, targets, steps=7).evidence, 0)
    found = run(done.path, images(2), [1, 4])["heatmap"]
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    with pytest.raises(convscope.UsageError, match="alone takes steps"):
        convscope.export(graph, tmp_path / "no.onnx", "saliency", steps=7)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "order"), [("squash", "BGR"), ("crop", "RGB")])
def test_with_the_preprocessing_inside_a_file_takes_pictures(
    graph: Graph, tmp_path: Path, interpolation: str, resize: str, order: str
) -> None:
    p = replace(
        PREPROCESSINGS["caffe"], interpolation=interpolation, resize=resize, order=order, crop=0.875, size=(16, 16)
    )
    done = convscope.export(replace(graph, preprocessing=p), tmp_path / "out.onnx", preprocessing="inside")
    assert done.preprocessing_difference is not None and done.preprocessing_difference < 0.01
    pixels = np.random.default_rng(0).integers(0, 256, (2, 37, 51, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert [(i.name, i.type) for i in session.get_inputs()] == [("picture", "tensor(uint8)")]
    found = session.run(["heatmap"], {"picture": pixels, "class": np.array([1, 2])})[0]
    x = np.concatenate([model_input(one, replace(graph, preprocessing=p)) for one in pixels])
    expected = twin_map(graph, x, "gradcam", "relu2", [1, 2])
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.max())


@pytest.mark.parametrize("interpolation", ["lanczos", "nearest"])
def test_resampling_that_onnx_has_not_is_refused(graph: Graph, tmp_path: Path, interpolation: str) -> None:
    changed = replace(graph, preprocessing=replace(graph.preprocessing, interpolation=interpolation))
    with pytest.raises(convscope.UsageError, match=interpolation):
        convscope.export(changed, tmp_path / "out.onnx", preprocessing="inside")


def test_a_keras_file_s_order_of_axes_is_kept(tmp_path: Path) -> None:
    plain = small_cnn()
    plain.graph.node.insert(0, helper.make_node("Transpose", ["picture"], ["x"], "first", perm=[0, 3, 1, 2]))
    plain.graph.input[0].CopyFrom(helper.make_tensor_value_info("picture", 1, ["N", 16, 16, 3]))
    graph = convscope.load(plain)
    done = convscope.export(graph, tmp_path / "out.onnx", layer="relu1")
    x = images(2)
    found = run(done.path, np.ascontiguousarray(x.transpose(0, 2, 3, 1)), [1, 2])["heatmap"]
    expected = twin_map(graph, x, "gradcam", "relu1", [1, 2])
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize("name", ["Gather", "Shape", "OneHot"])
def test_inputs_and_outputs_may_be_called_as_the_nodes_that_are_added(tmp_path: Path, name: str) -> None:
    """Where they are turned or cast they get a name of their own inside."""
    plain = small_cnn()
    plain.graph.node.insert(0, helper.make_node("Transpose", [name], ["x"], "first", perm=[0, 3, 1, 2]))
    plain.graph.input[0].CopyFrom(helper.make_tensor_value_info(name, 1, ["N", 16, 16, 3]))
    graph = convscope.load(plain)
    done = convscope.export(graph, tmp_path / "out.onnx", layer="relu1")
    found = run(done.path, np.ascontiguousarray(images(2).transpose(0, 2, 3, 1)), [1, 2])["heatmap"]
    expected = twin_map(graph, images(2), "gradcam", "relu1", [1, 2])
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


def test_a_batch_norm_in_training_mode_is_refused_with_what_to_do(tmp_path: Path) -> None:
    net = small_cnn()
    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)  # equal, as those of a fresh network
    values = {"scale": ones, "bias": zeros, "mean": zeros, "variance": ones}
    net.graph.initializer.extend(onnx.numpy_helper.from_array(v, name) for name, v in values.items())
    outputs = ["normal", "running mean", "running variance"]
    norm = helper.make_node("BatchNormalization", ["r1", *values], outputs, "bn", training_mode=1)
    at = next(i for i, node in enumerate(net.graph.node) if "r1" in node.input)
    net.graph.node[at].input[0] = "normal"
    net.graph.node.insert(at, norm)
    graph = convscope.load(net, check=False)
    session = graph.session(["y"], device="cpu")  # that a run changes nothing of the next
    np.testing.assert_array_equal(session.run(images(1))["y"], session.run(images(1))["y"])
    with pytest.raises(convscope.RefusedInput, match=r"batch-norm 'bn' is in training mode.*model\.eval\(\)"):
        convscope.export(graph, tmp_path / "out.onnx")


def test_a_layer_without_a_row_for_each_picture_is_refused(tmp_path: Path) -> None:
    """As the tensors of a pool that an exporter wrote as indexing: rows and columns first, pictures behind."""
    net = small_cnn()
    turned = helper.make_node("Transpose", ["r2"], ["turned"], "turned", perm=[2, 3, 0, 1])
    bent = helper.make_node("Tanh", ["turned"], ["bent"], "bent")
    back = helper.make_node("Transpose", ["bent"], ["again"], "again", perm=[2, 3, 0, 1])
    at = next(i for i, node in enumerate(net.graph.node) if "r2" in node.input)
    net.graph.node[at].input[:] = ["again" if name == "r2" else name for name in net.graph.node[at].input]
    for i, node in enumerate((turned, bent, back)):
        net.graph.node.insert(at + i, node)
    graph = convscope.load(net, check=False)
    assert convscope.export(graph, tmp_path / "out.onnx").layer not in ("turned", "bent")
    with pytest.raises(convscope.UsageError, match="layer 'bent' counts the pictures on axis 2, not on its first"):
        convscope.export(graph, tmp_path / "out.onnx", layer="bent")


def test_a_file_with_a_map_of_tokens_takes_the_size_of_their_grid(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(8, 3, 4, 4)), "m": rng.normal(size=(8, 8)), "f": rng.normal(size=(8, 5)),
        "lines": np.array([0, 8, -1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "patches", strides=[4, 4]),
        helper.make_node("Reshape", ["c", "lines"], ["r"], "lines"),
        helper.make_node("Transpose", ["r"], ["t"], "turned", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "m"], ["p"], "mixed"),
        helper.make_node("Relu", ["p"], ["a"], "tokens"),
        helper.make_node("ReduceMean", ["a"], ["g"], "mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["g", "f"], ["y"], "fc"),
    ]
    kept = {k: v if v.dtype.kind == "i" else v.astype(np.float32) for k, v in weights.items()}
    graph = convscope.load(model(nodes, kept, ("N", 3, "H", "W")), size=(16, 24))
    assert graph.layer("tokens").tokens is not None
    done = convscope.export(graph, tmp_path / "out.onnx", layer="tokens")
    found = run(done.path, images(3, 16, 24), [1, 4, 0])["heatmap"]
    expected = twin_map(graph, images(3, 16, 24), "gradcam", "tokens", [1, 4, 0])
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    with pytest.raises(Exception, match="Got: 32 Expected: 24"):
        run(done.path, images(1, 16, 32))


@pytest.mark.parametrize("sides", [(16,), (4, 8, 6)], ids=["signal", "volume"])
@pytest.mark.parametrize("choice", [{"layer": "r1"}, {"method": "saliency"}, {"resize": "input"}], ids=str)
def test_a_signal_s_and_a_volume_s_own_input_are_kept_and_verify_knows_the_file(
    tmp_path: Path, sides: tuple[int, ...], choice: dict[str, str]
) -> None:
    rng, rank = np.random.default_rng(0), len(sides)
    weights = {"w1": rng.normal(size=(6, 2) + (3,) * rank), "w2": rng.normal(size=(8, 6) + (3,) * rank)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1] * 2 * rank),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1] * 2 * rank),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "fc"], ["y"], "fc"),
    ]
    weights = {k: v.astype(np.float32) for k, v in {**weights, "fc": rng.normal(size=(8, 5))}.items()}
    plain = model(nodes, weights, ("N", 2, *sides))
    done = convscope.export(convscope.load(plain), tmp_path / "out.onnx", **choice)  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("x", ["N", 2, *sides])]
    x = rng.normal(size=(3, 2, *sides)).astype(np.float32)
    own = onnxruntime.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(run(done.path, x)["y"], own.run(["y"], {"x": x})[0], rtol=1e-4, atol=1e-5)
    difference = heatmap_difference(convscope.load(done.path))
    assert difference is not None and difference < 1e-5


def test_outputs_are_the_source_s_behind_pictures_too(tmp_path: Path) -> None:
    """As a segmentation of Keras: classes last."""
    nodes = [
        helper.make_node("Transpose", ["picture values"], ["x"], "first", perm=[0, 3, 1, 2]),
        *small_cnn().graph.node[:6],
        helper.make_node("Transpose", ["r2"], ["y"], "last", perm=[0, 2, 3, 1]),
    ]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in small_cnn().graph.initializer}
    plain = model(nodes, weights, ("N", 16, 16, 3), input_name="picture values")
    done = convscope.export(
        convscope.load(plain), tmp_path / "out.onnx", preprocessing="inside", decoder="segmentation"
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert session.run(["y"], {"picture": pixels})[0].shape == (2, 8, 8, 12)
