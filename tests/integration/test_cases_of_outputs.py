"""More of tests/cases: outputs that are no classes, labels and ranks, names that are double and inputs nobody reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from convscope.adapters.verify import verify
from convscope.engine.attribution.explain import explain
from convscope.engine.outputs.registry import read_outputs
from convscope.engine.pictures.photographs import photographs
from convscope.engine.pictures.read import model_input, read_image
from convscope.engine.runs import predict

from .test_cases import CASES, case

CAT = photographs()[1]


def answer(name: str) -> dict[str, Any]:
    """What `predict` says of one photograph."""
    found: dict[str, Any] = predict.run(case(name), CAT).content["images"][0]
    return found


def original(name: str, output: str) -> np.ndarray:
    """ONNX Runtime on the file itself, on the same photograph; any other input is zeros."""
    file = onnx.load(CASES / f"{name}.onnx")
    for number, node in enumerate(file.graph.node):  # of one name, the runtime takes none of two
        node.name = str(number)
    session = onnxruntime.InferenceSession(file.SerializeToString())
    graph = case(name)
    feeds = {i.name: np.zeros([1, *i.shape[1:]], np.float32) for i in session.get_inputs()}
    feeds[graph.inputs[0].name] = model_input(read_image(CAT), graph)
    return np.asarray(session.run([output], feeds)[0])


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values.astype(np.float64) - values.max())
    found: np.ndarray = powers / powers.sum()
    return found


def test_regressions_are_shown_as_the_values_that_the_file_gives() -> None:
    expected = original("reg34", "14")[0]
    found = answer("reg34")["values"]
    assert [row["index"] for row in found] == list(range(34))
    assert [row["value"] for row in found] == pytest.approx(expected.tolist(), abs=1e-5)


def test_one_channel_of_positions_is_a_mask_and_explained_at_the_last_feature_map_before_its_head() -> None:
    graph = case("seg1")
    assert read_outputs(graph).form == "segmentation"
    assert answer("seg1")["masks"] == []
    assert (original("seg1", "16") < 0).all()  # nothing is inside
    attribution = explain(graph, model_input(read_image(CAT), graph), "gradcam")
    assert (
        graph.layer(attribution.layers[0]).tensor == "/Relu_1_output_0"
    )  # before the 1 x 1 convolution to one channel


@pytest.mark.parametrize(("name", "output"), [("argmax", "label"), ("argmax_only", "label"), ("topk", "ti")])
def test_labels_and_ranks_are_read_and_the_scores_before_them_explained(name: str, output: str) -> None:
    found = answer(name)["predictions"]
    label = original(name, output).reshape(-1)
    assert found[0]["index"] == int(label[0])
    if name == "topk":
        assert [p["index"] for p in found] == label.tolist()
        assert [p["logit"] for p in found] == pytest.approx(original(name, "tv")[0].tolist(), abs=1e-5)
    if name == "argmax":
        probabilities = original(name, "p")[0]
        assert [p["probability"] for p in found] == pytest.approx(
            [float(probabilities[p["index"]]) for p in found], abs=1e-6
        )
    graph = case(name)
    attribution = explain(graph, model_input(read_image(CAT), graph), "gradcam")
    assert attribution.target.index == int(label[0]) and np.abs(attribution.values).max() > 0
    assert {graph.index.producer[name].op_type for name in attribution.target.tensors} == {"Gemm"}


@pytest.mark.parametrize(("name", "classes"), [("yolo", 2), ("yolo5", 1)])
def test_boxes_of_both_layouts_have_their_places_and_scores_never_a_softmax(name: str, classes: int) -> None:
    table = original(name, "output0")[0]
    rows = table.T if name == "yolo" else table  # (256, 4 + K), (256, 4 + 1 + K)
    scores = rows[:, 4:] if name == "yolo" else rows[:, 4:5] * rows[:, 5:]
    assert scores.shape == (256, classes)
    found = answer(name)["boxes"]
    assert found[0]["score"] == pytest.approx(float(scores.max()), abs=1e-6)
    best = rows[int(scores.max(axis=1).argmax())]
    corners = [best[0] - best[2] / 2, best[1] - best[3] / 2, best[0] + best[2] / 2, best[1] + best[3] / 2]
    assert found[0]["box"] == pytest.approx([float(c) for c in corners], abs=1e-2)


def test_an_input_that_nothing_reads_is_left_out_and_said() -> None:
    graph = case("unused")
    assert [spec.name for spec in graph.inputs] == ["x"]
    assert any("nothing reads the input 'unused'" in note for note in graph.source.notes)
    values = [row["value"] for row in answer("unused")["values"]]
    assert values == pytest.approx(original("unused", "y")[0].tolist(), abs=1e-5)
    assert verify(graph).ok


def test_nodes_of_one_name_become_layers_of_their_own_and_the_file_still_proves_it() -> None:
    assert {node.name for node in onnx.load(CASES / "dupnames.onnx").graph.node} == {"n"}
    graph = case("dupnames")
    names = [layer.name for layer in graph.layers]
    assert len(set(names)) == len(names) == 7
    found = verify(graph)
    assert found.ok and found.source_tensors == 7
    values = [row["value"] for row in answer("dupnames")["values"]]
    assert values == pytest.approx(original("dupnames", "y")[0].tolist(), abs=1e-5)
