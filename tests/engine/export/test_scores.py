"""A file explains what `explain` explains: boxes, masks, lines, vectors, contrasts; asked by its own inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import convscope
from convscope.adapters.verify import heatmap_difference
from convscope.engine.attribution import Question
from convscope.engine.export.scores.reads import target_gradients
from convscope.engine.export.trace import Trace
from convscope.engine.export.writer import Writer
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs import Target
from convscope.engine.outputs.reads import (
    Box,
    Channel,
    Cosine,
    Distance,
    Entry,
    Function,
    Logsumexp,
    Masked,
    Read,
    Symbol,
)
from convscope.engine.outputs.target import scores

from ...tiny import model, small_cnn
from ..outputs import proof
from ..outputs.test_questions import black_box
from .alone import shape_of_map

RNG = np.random.default_rng(0)
MASK = RNG.random((5, 6)).astype(np.float32)
VECTOR = RNG.normal(size=12).astype(np.float32)
READS: dict[str, tuple[tuple[int, ...], Read]] = {
    "entry of a vector": ((3, 7), Channel("y", 4)),
    "mean of a channel": ((3, 4, 5, 6), Channel("y", 2)),
    "mean of a channel that is last": ((3, 5, 6, 4), Channel("y", 2, axis=3)),
    "channel with time first": ((5, 3, 6), Channel("y", 2, axis=2, batch_axis=1)),
    "mask of a channel": ((3, 4, 5, 6), Masked("y", 1, MASK)),
    "mask of a map": ((3, 5, 6), Masked("y", None, MASK)),
    "two entries": ((3, 4, 5), Entry((("y", (1, 2)), ("y", (3, 0))))),
    "logits of two probabilities": ((3, 4, 5), Entry((("y", (1, 2)), ("y", (3, 0))), log_odds=True)),
    "left side": ((3, 6, 9), Box("y", ((0, 4), (1, 4), (2, 4), (3, 4)), "cxcywh", "left", (2.0, 3.0))),
    "bottom side": ((3, 9, 6), Box("y", ((4, 0), (4, 1), (4, 2), (4, 3)), "cxcywh", "bottom", (2.0, 3.0))),
    "top of corners": ((3, 9, 4), Box("y", ((4, 0), (4, 1), (4, 2), (4, 3)), "tlbr", "top", (2.0, 3.0))),
    "cosine": ((3, 12), Cosine("y", VECTOR)),
    "cosine of a map": ((3, 3, 2, 2), Cosine("y", VECTOR)),
    "distance": ((3, 12), Distance("y", VECTOR)),
    "distance of one": ((3, 12), Distance("y", VECTOR[:1], 5)),
    "anywhere": ((3, 4, 9), Logsumexp("y", 2)),
    "anywhere, with objectness": ((3, 9, 4), Logsumexp("y", 2, axis=2, log_odds=True, plus=1)),
    "anywhere, of probabilities": ((3, 9, 4), Logsumexp("y", 2, axis=2, log_odds=True)),
    "character": ((3, 8, 5), Symbol("y", (2, 3), 4)),
    "character of probabilities, time first": ((8, 3, 5), Symbol("y", (2, 6), 1, log=True, batch_axis=1)),
    "character of columns": ((3, 5, 8), Symbol("y", (2,), 0, axis=0)),
}


def written(target: Target, value: np.ndarray) -> np.ndarray:
    """The gradient of the target's score for the tensor, by the nodes that a file gets."""
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, value.shape)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    one = helper.make_model(
        helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "one", [info], [out]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    w = Writer(17)
    found = target_gradients(w, Trace(one, {"x": value}), target, {"y": "y"})["y"]
    one.graph.node.extend(w.nodes)
    one.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in w.constants.items())
    one.graph.output.append(helper.make_tensor_value_info(found.name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run([found.name], {"x": value})[0]
    return result


@pytest.mark.parametrize("kind", READS)
@pytest.mark.parametrize("contrast", [False, True], ids=["alone", "against"])
def test_the_gradient_of_every_read_is_torch_s(kind: str, contrast: bool) -> None:
    shape, read = READS[kind]
    value = RNG.uniform(0.05, 0.95, shape).astype(np.float32)
    others = (Target(Logsumexp("y", batch_axis=read.batch_axis), ""), Target(read, ""))
    target = Target(read, "", sign=-1.0, against=others if contrast else ())
    y = torch.from_numpy(value.copy()).requires_grad_()
    scores({"y": y}, [target], 3).sum().backward()
    assert y.grad is not None
    np.testing.assert_allclose(written(target, value), y.grad, atol=2e-6 * float(y.grad.abs().max()))


def test_a_read_that_is_a_python_function_or_compares_with_one_box_is_refused() -> None:
    value = np.zeros((3, 4, 9), np.float32)
    with pytest.raises(convscope.UsageError, match="a function cannot be written into a file"):
        written(Target(Function(("y",), lambda rows: rows["y"].sum()), ""), value)
    iou = Box("y", ((0, 4), (1, 4), (2, 4), (3, 4)), "cxcywh", "iou", reference=(0, 0, 1, 1))
    with pytest.raises(convscope.UsageError, match="of=iou compares with a box of one picture"):
        written(Target(iou, ""), value)


def loaded(net: Any, size: tuple[int, int], name: str, labels: list[str] | None) -> Graph:
    trained = proof.trained(net, name)
    return convscope.load(trained, example_input=torch.zeros(1, 3, *size), check=False, labels=labels)


@pytest.fixture(scope="module")
def detector() -> Graph:
    return loaded(proof.Detector(), (64, 64), "detector", ["red", "green", "blue"])


@pytest.fixture(scope="module")
def segmenter() -> Graph:
    return loaded(proof.Segmenter(), (64, 64), "segmenter", ["background", "square", "disc"])


@pytest.fixture(scope="module")
def reader() -> Graph:
    return loaded(proof.Reader(), (16, 96), "reader", None)


def run(path: Path, x: np.ndarray, **asked: int) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: x, **{name: np.array([value]) for name, value in asked.items()}}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def scaled(heatmap: np.ndarray) -> np.ndarray:
    return heatmap / heatmap.max()


def test_a_detector_s_file_explains_the_box_that_it_is_asked_for(detector: Graph, tmp_path: Path) -> None:
    done = convscope.export(detector, tmp_path / "out.onnx", resize="input")
    assert (done.method, done.inputs) == ("odam", ("box", "class")) and done.verification.difference < 1e-5
    stated = {p.key: p.value for p in onnx.load(done.path).metadata_props}
    assert stated["convscope.verified"].endswith("8 pictures x 3 boxes")
    x = np.stack([proof.squares(4)[0]])
    explained = convscope.explain(detector, x, preprocessed=True)
    assert len(explained) == 3
    for number, attribution in enumerate(explained, 1):
        place = attribution.target.read.entries[0][1][-1]
        asked = {"box": -1, "class": -1} if number == 1 else {"box": place}
        found = run(done.path, x, **asked)["heatmap"][0]
        np.testing.assert_allclose(scaled(found), attribution.heatmap, atol=1e-4)
        same = run(done.path, x, **{"box": place, "class": attribution.target.index or 0})["heatmap"][0]
        np.testing.assert_allclose(same, found, atol=1e-5 * found.max())
    surest = {a.target.index: a for a in reversed(explained)}
    for index, attribution in surest.items():
        found = run(done.path, x, **{"class": index or 0})["heatmap"][0]
        np.testing.assert_allclose(scaled(found), attribution.heatmap, atol=1e-4)
    for asked in ({"class": 3}, {"box": 10**6}):  # what there is not
        with pytest.raises(Exception, match=r"idx=3 must be within|invalid index found"):
            run(done.path, x, **asked)


@pytest.mark.parametrize(
    "question",
    [
        Question(of="left"),
        Question(of="bottom"),
        Question(against="top:2"),
        Question(against="blue"),
        Question(target="red", against=2),
    ],
    ids=str,
)
def test_a_box_s_sides_and_contrasts_are_the_twin_s(detector: Graph, tmp_path: Path, question: Question) -> None:
    done = convscope.export(detector, tmp_path / "out.onnx", "layercam", target=question)
    assert done.verification.difference < 1e-5


def test_a_segmenter_s_file_explains_the_mask_that_it_predicts(segmenter: Graph, tmp_path: Path) -> None:
    done = convscope.export(segmenter, tmp_path / "out.onnx", "hirescam")
    x = np.stack([proof.shapes(2)[0]])
    for attribution in convscope.explain(segmenter, x, "hirescam", preprocessed=True):
        found = run(done.path, x, **{"class": attribution.target.index})["heatmap"][0]
        np.testing.assert_allclose(found, np.maximum(attribution.values, 0), atol=1e-4 * found.max())
    region = Question(target="disc", region=(10, 20, 40, 50), against="top:1")
    stored = convscope.export(segmenter, tmp_path / "region.onnx", "hirescam", target=region)
    wanted = convscope.explain(segmenter, x, "hirescam", region, preprocessed=True).values
    np.testing.assert_allclose(run(stored.path, x)["heatmap"][0], np.maximum(wanted, 0), atol=1e-4 * wanted.max())


def test_a_file_of_masks_that_overlap_explains_each_where_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(6, 4, 3, padding=1), torch.nn.Sigmoid()
    )
    graph = convscope.load(net.eval(), example_input=torch.zeros(1, 3, 16, 16), check=False)
    done = convscope.export(graph, tmp_path / "out.onnx", "hirescam")
    x = np.random.default_rng(0).random((1, 3, 16, 16)).astype(np.float32)
    predicted = convscope.explain(graph, x, "hirescam", preprocessed=True)
    first = predicted[0] if isinstance(predicted, list) else predicted
    for index in (-1, 0, 1, 2, 3):
        wanted = first if index < 0 else convscope.explain(graph, x, "hirescam", index, preprocessed=True)
        expected = np.maximum(wanted.values, 0)
        found = run(done.path, x, **{"class": index})["heatmap"][0]
        np.testing.assert_allclose(found, expected, atol=1e-4 * max(expected.max(), 1e-6))


@pytest.mark.parametrize(("made", "asks"), [("detector", {"box", "class"}), ("reader", {"character"})])
def test_a_file_that_takes_pictures_may_have_to_be_asked(
    made: str, asks: set[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    graph = request.getfixturevalue(made)
    done = convscope.export(graph, tmp_path / "out.onnx", class_input=True, preprocessing="inside")
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert {i.name for i in session.get_inputs()} == {"picture", *asks}
    assert done.preprocessing_difference is not None and done.preprocessing_difference < 0.1


def test_a_reader_s_file_explains_each_character_and_the_line(reader: Graph, tmp_path: Path) -> None:
    done = convscope.export(reader, tmp_path / "out.onnx")
    assert (done.method, done.inputs) == ("hirescam", ("character",))
    x = np.stack([proof.line(5)[0]])
    each = convscope.explain(reader, x, preprocessed=True)
    assert len(each) > 2
    for number, attribution in enumerate(each, 1):
        found = run(done.path, x, character=number)["heatmap"][0]
        np.testing.assert_allclose(found, np.maximum(attribution.values, 0), atol=1e-4 * found.max())
    whole = np.maximum(sum(a.values for a in each), 0)
    np.testing.assert_allclose(run(done.path, x)["heatmap"][0], whole, atol=1e-4 * whole.max())
    assert not run(done.path, x, character=len(each) + 1)["heatmap"].any()


def squares_picture(*cells: tuple[int, int, int]) -> np.ndarray:
    """(1, 3, 32, 32): a square of a colour in each (row, column, channel) of a grid of four."""
    x = np.zeros((1, 3, 32, 32), np.float32)
    for row, column, channel in cells:
        x[0, channel, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 1 - 0.1 * (channel == 2)
    return x


def test_a_list_that_suppression_chose_is_explained_before_it(tmp_path: Path) -> None:
    graph = black_box(tmp_path / "table.onnx")
    done = convscope.export(graph, tmp_path / "out.onnx", layer="colours")
    assert done.inputs == ("box", "class") and done.verification.compared == "8 pictures x 2 boxes"
    x = squares_picture((1, 2, 0), (3, 0, 2))
    each = convscope.explain(graph, x[0], "odam", layer="colours", preprocessed=True)
    maps = [np.maximum(a.values, 0) for a in each]
    assert [a.target.name for a in each] == ["box 1: red", "box 2: blue"] and not np.allclose(maps[0], maps[1])
    for asked, wanted in (({}, 0), ({"box": 0}, 0), ({"box": 1}, 1), ({"class": 1}, 1), ({"box": -1, "class": 0}, 0)):
        found = run(done.path, x, **asked)["heatmap"][0]
        np.testing.assert_allclose(found, maps[wanted], atol=1e-5 * maps[wanted].max())
    assert not run(done.path, squares_picture())["heatmap"].any()  # no box at all
    assert not run(done.path, squares_picture((1, 2, 0)), **{"class": 1})["heatmap"].any()
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        run(done.path, np.concatenate([x, x]))
    difference = heatmap_difference(convscope.load(done.path, check=False, trust=True))
    assert difference is not None and difference < 1e-5
    for question, said in (
        (Question(of="left"), "of=: the boxes of"),
        (Question(against="red"), "against=: the boxes"),
    ):
        with pytest.raises(convscope.UsageError, match=said):
            convscope.export(graph, tmp_path / "out.onnx", target=question)


class Faces(torch.nn.Module):
    """MTCNN's form: offsets of four sides and probabilities (other, face), at every place or of one crop."""

    def __init__(self, *, is_map: bool) -> None:
        super().__init__()
        self.body = torch.nn.Conv2d(3, 8, 5, stride=2)
        self.offsets, self.faces = (torch.nn.Conv2d(8, n, 4 if is_map else 6) for n in (4, 2))
        self.is_map = is_map

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.body(x).relu()
        offsets, faces = self.offsets(maps), self.faces(maps)
        if not self.is_map:
            offsets, faces = offsets.flatten(1), faces.flatten(1)
        return offsets, faces.softmax(1)


@pytest.mark.parametrize("is_map", [True, False], ids=["every place", "one crop"])
def test_a_face_of_mtcnn_s_maps_is_explained_as_explain_does(is_map: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    side = 24 if is_map else 16
    graph = convscope.load(Faces(is_map=is_map).eval(), example_input=torch.rand(1, 3, side, side), check=False)
    done = convscope.export(graph, tmp_path / "out.onnx")
    assert (done.method, done.inputs) == ("odam", ("box",)) and "MTCNN" in str(done.reading)
    x = np.random.default_rng(0).random((2, 3, side, side), dtype=np.float32)
    found = run(done.path, x)["heatmap"]
    for own, attribution in zip(
        found, convscope.explain(graph, x, target=Question(box=1), preprocessed=True), strict=True
    ):
        wanted = np.maximum(attribution.values, 0)
        np.testing.assert_allclose(own, wanted, atol=1e-5 * wanted.max())


def vector_net(head: str) -> onnx.ModelProto:
    """The small net, its five numbers an embedding, a value, or one yes-or-no."""
    plain = small_cnn()
    nodes = [n for n in plain.graph.node if n.op_type != "Softmax"]
    weights = {t.name: numpy_helper.to_array(t) for t in plain.graph.initializer}
    last = nodes[-1].output[0]
    if head == "embedding":
        nodes.append(helper.make_node("LpNormalization", [last], ["embedding"], axis=1))
    else:
        weights["column"] = np.array([[1.0], [-0.5], [0.3], [0.2], [0.4]], np.float32)
        nodes.append(helper.make_node("MatMul", [last, "column"], ["one" if head == "sigmoid" else "age"]))
    if head == "sigmoid":
        nodes.append(helper.make_node("Sigmoid", ["one"], ["yes"]))
    return model(nodes, weights, outputs=(nodes[-1].output[0],))


@pytest.mark.parametrize(
    ("head", "questions"),
    [
        ("embedding", [None, Question(like=VECTOR[:5])]),
        ("age", [None, Question(to=2.5)]),
        ("sigmoid", [None, "0", "1"]),
    ],
    ids=["embedding", "age", "sigmoid"],
)
def test_vectors_values_and_yes_or_no_are_explained_as_explain_does(
    head: str, questions: list[Any], tmp_path: Path
) -> None:
    graph = convscope.load(vector_net(head), check=False)
    x = np.random.default_rng(3).normal(size=(1, 3, 16, 16)).astype(np.float32)
    for question in questions:
        done = convscope.export(graph, tmp_path / "out.onnx", "hirescam", "relu1", target=question)
        wanted = np.maximum(convscope.explain(graph, x, "hirescam", question, "relu1", preprocessed=True).values, 0)
        np.testing.assert_allclose(run(done.path, x)["heatmap"][0], wanted, atol=1e-5 * max(wanted.max(), 1e-6))


def test_a_contrast_of_classes_is_finer_cam_s(tmp_path: Path) -> None:
    graph = convscope.load(small_cnn())
    done = convscope.export(graph, tmp_path / "out.onnx", target=Question(against="top:2"))
    x = np.random.default_rng(3).normal(size=(1, 3, 16, 16)).astype(np.float32)
    for index in range(5):
        question = Question(target=index, against="top:2")
        wanted = np.maximum(convscope.explain(graph, x, "gradcam", question, preprocessed=True).values, 0)
        found = run(done.path, x, **{"class": index})["heatmap"][0]
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_only_as_many_classes_are_said_as_there_are(tmp_path: Path) -> None:
    done = convscope.export(convscope.load(small_cnn(classes=2)), tmp_path / "out.onnx")
    assert done.verification.compared == "8 pictures x 2 classes"
    fixed = convscope.export(convscope.load(small_cnn(classes=2)), tmp_path / "out.onnx", target=1)
    assert fixed.verification.compared == "8 pictures"


def test_nothing_is_begun_before_the_question_is_understood(tmp_path: Path) -> None:
    stages: list[str] = []
    for options in ({"target": "no such class"}, {"layer": "fc"}, {"target": Question(to=3)}):
        with pytest.raises(convscope.UsageError):
            convscope.export(convscope.load(small_cnn()), tmp_path / "out.onnx", progress=stages.append, **options)  # type: ignore[arg-type]
    assert not stages


def test_what_was_asked_is_read_back_from_the_file(detector: Graph, tmp_path: Path) -> None:
    question = Question(target="red", against="top:2")
    done = convscope.export(detector, tmp_path / "out.onnx", "layercam", target=question)
    difference = heatmap_difference(convscope.load(done.path, check=False, trust=True))
    assert difference is not None and difference < 1e-5


def test_a_stored_target_s_vector_is_read_back_from_the_file(tmp_path: Path) -> None:
    graph = convscope.load(vector_net("embedding"), check=False)
    for question in (Question(like=VECTOR[:5]), Target(Channel("r1", 3), "unit")):
        done = convscope.export(graph, tmp_path / "out.onnx", "hirescam", "conv1", target=question)
        difference = heatmap_difference(convscope.load(done.path, check=False, trust=True))
        assert difference is not None and difference < 1e-5


@pytest.mark.parametrize(
    "target",
    [
        np.int64(3),
        np.array([3]),
        [3],
        Target(Channel("y", np.int64(3)), "y 3"),  # type: ignore[arg-type]
        [Target(Channel("y", np.int64(3)), "y 3")],  # type: ignore[arg-type]
        Question(target=np.int64(3), against=np.int32(1)),
    ],
    ids=["number", "array", "list", "target", "list of a target", "contrast"],
)
def test_a_target_of_numpy_s_numbers_or_alone_in_a_list_is_written_and_read_back(target: Any, tmp_path: Path) -> None:
    graph = convscope.load(small_cnn(), check=False)
    done = convscope.export(graph, tmp_path / "out.onnx", target=target)
    difference = heatmap_difference(convscope.load(done.path, check=False, trust=True))
    assert difference is not None and difference < 1e-4
    x = np.random.default_rng(3).normal(size=(1, 3, 16, 16)).astype(np.float32)
    given = target[0] if isinstance(target, (list, np.ndarray)) else target
    wanted = Question(target=3, against=1) if isinstance(target, Question) else given
    expected = np.maximum(convscope.explain(graph, x, "gradcam", wanted, preprocessed=True).values, 0)
    np.testing.assert_allclose(run(done.path, x)["heatmap"][0], expected, atol=1e-5)


@pytest.mark.parametrize("targets", [[], [1, 2], (Target(Channel("y", 1), ""),) * 2], ids=["none", "two", "objects"])
def test_a_file_explains_one_target(targets: Any, tmp_path: Path) -> None:
    with pytest.raises(convscope.UsageError, match="targets are given; an exported file explains one"):
        convscope.export(convscope.load(small_cnn(), check=False), tmp_path / "out.onnx", target=targets)


def half(plain: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in plain.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for info in (*plain.graph.input, *plain.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    return plain


def test_a_float16_file_stays_one_outside_with_its_gradient_in_float32(tmp_path: Path) -> None:
    onnx.save(half(small_cnn()), tmp_path / "half.onnx")
    graph = convscope.load(tmp_path / "half.onnx", trust=True)
    done = convscope.export(graph, tmp_path / "out.onnx", layer="pool1")
    file = onnx.load(done.path)
    types = {i.name: i.type.tensor_type.elem_type for i in (*file.graph.input, *file.graph.output)}
    assert types == {"x": 10, "class": 7, "y": 10, "heatmap": 1}
    stored = {t.name: t.data_type for t in file.graph.initializer}
    assert stored["heatmap/conv2.weight/float16"] == 10 and "conv2.weight" not in stored
    x = np.random.default_rng(1).random((2, 3, 16, 16)).astype(np.float16)
    found = run(done.path, x, **{"class": 2})
    wanted = convscope.explain(graph, x.astype(np.float32), "gradcam", 2, "pool1", preprocessed=True)
    for heatmap, attribution in zip(found["heatmap"], wanted, strict=True):
        np.testing.assert_allclose(heatmap, np.maximum(attribution.values, 0), atol=1e-5)
    assert heatmap_difference(convscope.load(done.path, check=False, trust=True)) < 1e-4  # type: ignore[operator]


def test_a_file_of_whole_numbers_takes_whole_numbers(tmp_path: Path) -> None:
    plain = small_cnn()
    plain.graph.node.insert(0, helper.make_node("Cast", ["pixels"], ["x"], "first", to=1))
    plain.graph.input[0].CopyFrom(helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 3, 16, 16]))
    graph = convscope.load(plain)
    done = convscope.export(graph, tmp_path / "out.onnx", layer="relu1", method="hirescam")
    pixels = np.random.default_rng(1).integers(0, 256, (1, 3, 16, 16), dtype=np.uint8)
    found = run(done.path, pixels, **{"class": 2})["heatmap"][0]
    image = pixels[0].transpose(1, 2, 0)
    wanted = np.maximum(convscope.explain(graph, image, "hirescam", 2, "relu1").values, 0)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * wanted.max())


def test_inputs_beside_the_picture_are_constants_of_the_file(tmp_path: Path) -> None:
    plain = small_cnn()
    plain.graph.input.append(helper.make_tensor_value_info("temperature", TensorProto.FLOAT, [1]))
    plain.graph.node[-1].input[0] = "scaled"
    plain.graph.node.insert(
        len(plain.graph.node) - 1, helper.make_node("Mul", [plain.graph.node[-2].output[0], "temperature"], ["scaled"])
    )
    graph = convscope.load(plain, inputs={"temperature": np.array([2.0], np.float32)})
    done = convscope.export(graph, tmp_path / "out.onnx")
    assert [i.name for i in onnx.load(done.path).graph.input] == ["x", "class"]
    assert done.constants == ("temperature",)


def test_tokens_of_a_transformer_are_explained_on_their_grid(tmp_path: Path) -> None:
    from ...torchvision_schemas import declare

    declare()
    timm = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    net = timm.VisionTransformer((32, 48), 8, embed_dim=16, depth=2, num_heads=2, num_classes=5, reg_tokens=2).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    graph = convscope.load(net, size=(32, 48), check=False, labels=list("abcde"))
    done = convscope.export(graph, tmp_path / "out.onnx")
    assert done.layer == "blocks.1.norm1" and done.verification.difference < 1e-4
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 48)).astype(np.float32)
    found = run(done.path, x, **{"class": 3})["heatmap"]
    assert found.shape == (2, 4, 6)
    for heatmap, attribution in zip(found, convscope.explain(graph, x, target=3, preprocessed=True), strict=True):
        np.testing.assert_allclose(heatmap, np.maximum(attribution.values, 0), atol=1e-4 * heatmap.max())


def test_boxes_that_a_file_chooses_by_topk_are_explained_through_it(tmp_path: Path) -> None:
    """Scores of a map, the four highest chosen by TopK, their corners gathered: (N, 4, 6) as YOLOv10 gives it."""
    rng = np.random.default_rng(0)
    weights = {
        "first": rng.normal(0, 0.4, (6, 3, 3, 3)).astype(np.float32),
        "scores": rng.normal(0, 0.8, (1, 6, 1, 1)).astype(np.float32),
        "sides": rng.normal(0, 2, (4, 6, 1, 1)).astype(np.float32),
        "flat": np.array([0, 1, -1]), "four": np.array([0, 4, -1]), "k": np.array([4]), "axis": np.array([2]),
        "times": np.array([1, 1, 4]), "zero": np.zeros(1, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["c"], "/body/Conv", pads=[1, 1, 1, 1], strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["features"], "/body/Relu"),
        helper.make_node("Conv", ["features", "scores"], ["s"], "/scores/Conv"),
        helper.make_node("Reshape", ["s", "flat"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["p"]),
        helper.make_node("TopK", ["p", "k"], ["best", "places"], axis=2),
        helper.make_node("Conv", ["features", "sides"], ["b"], "/sides/Conv"),
        helper.make_node("Reshape", ["b", "four"], ["fours"]),
        helper.make_node("Transpose", ["fours"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("Transpose", ["places"], ["column"], perm=[0, 2, 1]),
        helper.make_node("Tile", ["column", "times"], ["indices"]),
        helper.make_node("GatherElements", ["rows", "indices"], ["corners"], axis=1),
        helper.make_node("Transpose", ["best"], ["sure"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["sure", "zero"], ["classes"]),
        helper.make_node("Concat", ["corners", "sure", "classes"], ["output0"], axis=2),
    ]
    graph = convscope.load(model(nodes, weights, (1, 3, 16, 16), ("output0",)), check=False)
    done = convscope.export(graph, tmp_path / "out.onnx")
    assert (done.method, done.inputs) == ("odam", ("box",)) and done.verification.difference < 1e-4


def test_a_detector_s_file_runs_where_nothing_of_ours_is(detector: Graph, tmp_path: Path) -> None:
    convscope.export(detector, tmp_path / "out.onnx")
    picture = {detector.inputs[0].name: (1, 3, 64, 64)}
    assert shape_of_map(tmp_path / "out.onnx", picture, {"box": [7]}) == "(1, 16, 16)"
