"""Inputs of real exports: several of them, of any rank and open size; each against ONNX Runtime on the file itself."""

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
from convscope.adapters import sizes
from convscope.adapters.load import load_here
from convscope.adapters.sizes import candidates, stated_size
from convscope.adapters.verify import verify
from convscope.engine.runs import predict
from convscope.errors import RefusedInput, UsageError

Dims = list[int | str | None]


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Dims],
    weights: dict[str, np.ndarray],
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    """A model with one output 'y'; an input named ``sr`` is int64."""
    infos = [
        helper.make_tensor_value_info(n, TensorProto.INT64 if n == "sr" else TensorProto.FLOAT, dims)
        for n, dims in inputs.items()
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        infos,
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, metadata or {})
    return made


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.5, shape).astype(np.float32)


def run(m: onnx.ModelProto, **feeds: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], feeds)[0])


def output(graph: convscope.Graph, picture: np.ndarray) -> np.ndarray:
    """The graph's first output for a picture (N, C, H, W), alike in both executors."""
    name = graph.outputs[0].name
    found = graph.session([name], device="cpu").run(picture)[name]
    with torch.no_grad():
        np.testing.assert_allclose(
            graph.twin([name])(torch.from_numpy(picture))[name].numpy(), found, rtol=1e-4, atol=1e-5
        )
    return found


def two_inputs() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Concat", ["f", "age"], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "m"], ["y"]),
    ]
    return model(nodes, {"age": ["N", 2], "x": ["N", 3, 16, 16]}, {"w": normal(4, 3, 3, 3), "m": normal(6, 5)})


def test_inputs_beside_the_picture_become_constants_for_every_picture_of_a_batch() -> None:
    graph = convscope.load(two_inputs(), inputs={"age": [[0.5, -2.0]]})
    x = normal(3, 3, 16, 16)
    expected = run(two_inputs(), x=x, age=np.repeat([[0.5, -2.0]], 3, axis=0).astype(np.float32))
    np.testing.assert_allclose(output(graph, x), expected, rtol=1e-4, atol=1e-5)
    assert [spec.name for spec in graph.inputs] == ["x"]


def test_an_input_that_is_not_given_has_a_default_that_the_notes_say() -> None:
    graph = convscope.load(two_inputs())
    x = normal(1, 3, 16, 16)
    np.testing.assert_allclose(output(graph, x), run(two_inputs(), x=x, age=np.zeros((1, 2), np.float32)), rtol=1e-4)
    assert any("'age' (Nx2) is taken as zeros" in note and "inputs['age']=" in note for note in graph.source.notes)


@pytest.mark.parametrize(
    ("name", "shape", "picture"),
    [("widths", ["N"], ["N", 3, 8, "W"]), ("x_lens", ["N", 1], ["N", 3, 8, "W"]), ("length", [1], ["N", 3, 8, 12])],
)
def test_an_input_that_counts_what_of_a_padded_line_is_read_is_the_whole_line_at_any_width(
    name: str, shape: list[Any], picture: list[Any]
) -> None:
    """Zeros, as of other inputs, would have masked the picture away, and every answer would have been the same."""
    nodes = [
        helper.make_node("Shape", ["x"], ["all"]),
        helper.make_node("Gather", ["all", "three"], ["width"]),
        helper.make_node("Range", ["zero", "width", "step"], ["places"]),
        helper.make_node("Reshape", [name, "column"], ["count"]),
        helper.make_node("Less", ["places", "count"], ["counts"]),
        helper.make_node("Cast", ["counts"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "rows"], ["seen"]),
        helper.make_node("Mul", ["x", "seen"], ["masked"]),
        helper.make_node("Conv", ["masked", "w"], ["y"]),
    ]
    numbers = {"three": 3, "zero": 0, "step": 1, "column": [-1, 1], "rows": [1, 2]}
    weights = {key: np.array(value, np.int64) for key, value in numbers.items()}
    made = model(nodes, {"x": picture, name: shape}, {**weights, "w": normal(4, 3, 3, 3)})
    made.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    graph = convscope.load(made, size=(8, 12))
    assert any(f"'{name}' is taken as the picture's width, 12" in note for note in graph.source.notes)
    for width in (12, 20) if picture[3] == "W" else (12,):
        x = normal(2, 3, 8, width)
        counts = np.full([2 if d == "N" else d for d in shape], width)
        np.testing.assert_allclose(output(graph, x), run(made, **{"x": x, name: counts}), rtol=1e-4, atol=1e-5)
    assert convscope.verify(graph).ok
    halved = output(convscope.load(made, size=(8, 12), inputs={name: 6}), x := normal(1, 3, 8, 12))
    np.testing.assert_allclose(halved, run(made, **{"x": x, name: np.full([1 if d == "N" else d for d in shape], 6)}),
                               rtol=1e-4, atol=1e-5)  # fmt: skip


def test_an_answer_that_is_no_number_names_the_inputs_that_were_taken_as_zeros() -> None:
    """As a range of frequencies from 0 to 0 Hz, whose logarithm a pitch tracker takes."""
    made = two_inputs()
    made.graph.node[-1].output[0] = "l"
    made.graph.node.extend([
        helper.make_node("ReduceMax", ["age"], ["high"], axes=[1], keepdims=1),
        helper.make_node("Div", ["high", "high"], ["one"]),
        helper.make_node("Mul", ["l", "one"], ["y"]),
    ])  # fmt: skip
    picture = np.full((16, 16, 3), 0.5, np.float32)
    for given, told in (({}, True), ({"age": [[1.0, 2.0]]}, False)):
        said: list[Any] = []
        predict.run(convscope.load(made, inputs=given), [picture], on_event=said.append)
        assert any("not a number" in getattr(e, "text", "") and "inputs['age']=VALUE" in e.text for e in said) is told


@pytest.mark.parametrize("value", [[1.0, 2.0], np.array([1.0, 2.0]), [[1.0, 2.0]]])
def test_numbers_as_a_command_line_writes_them_fill_an_input_row_by_row(value: object) -> None:
    assert convscope.load(two_inputs(), inputs={"age": value}).given["age"].tolist() == [[1.0, 2.0]]


def test_an_input_may_come_from_a_file_and_must_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "age.npy", np.array([[1.0, 2.0]]))
    graph = convscope.load(two_inputs(), inputs={"age": tmp_path / "age.npy"})
    assert graph.given["age"].tolist() == [[1.0, 2.0]]
    with pytest.raises(UsageError, match=r"inputs\['age'\]: a value of shape \(3,\) does not fit"):
        convscope.load(two_inputs(), inputs={"age": [1, 2, 3]})
    with pytest.raises(UsageError, match="no such input; it has age, x"):
        convscope.load(two_inputs(), inputs={"size": 1})
    with pytest.raises(UsageError, match=r"no .npy file"):
        convscope.load(two_inputs(), inputs={"age": tmp_path / "none.npy"})


def test_verify_compares_with_the_file_itself_whatever_its_inputs(tmp_path: Path) -> None:
    onnx.save(two_inputs(), tmp_path / "two.onnx")
    result = verify(convscope.load(tmp_path / "two.onnx", check=False))
    assert result.ok and result.source_tensors == 5


def test_an_input_that_nothing_reads_is_left_out_and_said() -> None:
    made = two_inputs()
    made.graph.input.append(helper.make_tensor_value_info("unused", TensorProto.FLOAT, ["N", 7]))
    graph = convscope.load(made)
    assert any("nothing reads the input 'unused'" in note for note in graph.source.notes)
    assert "unused" not in graph.given


def test_the_state_of_a_recurrent_network_is_repeated_along_its_own_batch_axis() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["t", "w", "r", "", "", "state"], ["", "h"], hidden_size=3),
        helper.make_node("Squeeze", ["h", "first"], ["y"]),
    ]
    weights = {"w": normal(1, 9, 4), "r": normal(1, 9, 3), "first": np.array([0])}
    made = model(nodes, {"state": [1, "N", 3], "x": ["N", 6, 4]}, weights)
    graph = convscope.load(made, inputs={"state": np.full((1, 1, 3), 0.3)})
    x = normal(2, 6, 4)
    expected = run(made, x=x, state=np.full((1, 2, 3), 0.3, np.float32))
    np.testing.assert_allclose(output(graph, x[:, None]), expected, rtol=1e-4, atol=1e-5)


SHAPES: list[tuple[Dims, tuple[int, ...], list[onnx.NodeProto], dict[str, np.ndarray], tuple[int, ...]]] = [
    # declared shape, a value's shape, nodes from x to y, weights, the picture's (C, H, W)
    (["N", 40], (2, 40), [helper.make_node("MatMul", ["x", "m"], ["y"])], {"m": normal(40, 3)}, (1, 1, 40)),
    (
        ["N", 40, 1],
        (2, 40, 1),
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "m"], ["y"])],
        {"m": normal(40, 3)},
        (1, 1, 40),
    ),
    (["N", 5, 30], (2, 5, 30), [helper.make_node("Conv", ["x", "w"], ["y"])], {"w": normal(4, 5, 3)}, (5, 1, 30)),
    (
        ["N", 20, 8],
        (2, 20, 8),
        [helper.make_node("Unsqueeze", ["x", "one"], ["u"]), helper.make_node("Conv", ["u", "w"], ["y"])],
        {"one": np.array([1]), "w": normal(4, 1, 3, 3)},
        (1, 20, 8),
    ),
    (
        ["N", 2, 4, 6, 6],
        (2, 2, 4, 6, 6),
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        {"w": normal(3, 2, 3, 3, 3)},
        (2, 24, 6),
    ),
    (["N", 2, 3, 4, 5, 6], (2, 2, 3, 4, 5, 6), [helper.make_node("MatMul", ["x", "m"], ["y"])], {"m": normal(6, 3)},
     (1, 24, 30)),
]  # fmt: skip


@pytest.mark.parametrize(("dims", "shape", "nodes", "weights", "picture"), SHAPES)
def test_signals_spectra_and_volumes_are_seen_as_pictures_with_the_file_s_own_values(
    dims: Dims, shape: tuple[int, ...], nodes: list[onnx.NodeProto], weights: Any, picture: tuple[int, ...]
) -> None:
    made = model(nodes, {"x": dims}, weights)
    graph = convscope.load(made)
    assert graph.inputs[0].shape[1:] == picture
    x = normal(*shape)
    np.testing.assert_allclose(output(graph, x.reshape(len(x), *picture)), run(made, x=x), rtol=1e-4, atol=1e-5)
    assert graph.own_input is not None and graph.own_input[0] == "x"


def test_an_open_size_is_found_by_trying_and_said() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Add", ["p", "places"], ["a"]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("ReduceSum", ["f", "axes"], ["y"]),
    ]
    weights = {"places": normal(1, 3, 64, 64), "axes": np.array([1])}
    graph = convscope.load(model(nodes, {"x": ["N", 3, "h", "w"]}, weights))
    assert graph.image_size == (256, 256)
    assert any("256x256 is taken: the first usual size that it runs at, after 224x224" in n for n in graph.source.notes)


def test_a_size_at_which_nothing_runs_is_our_guess_and_the_message_says_so() -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "m"], ["y"])]
    made = model(nodes, {"x": ["N", 3, "h", "w"]}, {"m": normal(3 * 7 * 9, 2)})
    with pytest.raises(RefusedInput, match=r"runs at none of those tried .*224x224.*give load\(size="):
        convscope.load(made)
    assert convscope.load(made, size=(7, 9)).image_size == (7, 9)


def test_what_no_size_mends_is_not_blamed_on_the_size() -> None:
    made = model(
        [helper.make_node("MatMul", ["x", "m"], ["y"])], {"x": ["N", "t", 3, "h", "w", 4]}, {"m": normal(4, 2)}
    )
    with pytest.raises(RefusedInput, match=r"neither a picture, .* nor a volume of a stated size") as caught:
        convscope.load(made)
    assert "none of those tried" not in str(caught.value)


def test_a_size_is_a_side_or_both_and_anything_else_is_refused_before_the_import(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    made = model(nodes, {"x": ["N", 3, "h", "w"]}, {"w": normal(4, 3, 3, 3)})
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    assert convscope.load(path, size=24).image_size == (24, 24)
    for wrong in (0, -8, (8,), (8, 8, 8), 7.5, "24"):
        with pytest.raises(UsageError, match=r"size .* is (neither a number of pixels|not positive)"):
            convscope.load(path, size=wrong)


def exported_for_one(kind: str) -> onnx.ModelProto:
    """A class token joined to the places of a map, or a recurrence that begins at zero: both as constants for one."""
    node = helper.make_node
    weights = {"w": normal(4, 3, 3, 3), "flat": np.array([1, 4, -1])}
    nodes = [node("Conv", ["x", "w"], ["c"], strides=[4, 4]), node("Reshape", ["c", "flat"], ["r"])]
    if kind == "token":
        weights["token"] = normal(1, 4, 1)
        nodes += [node("Concat", ["token", "r"], ["t"], axis=2), node("Relu", ["t"], ["y"])]
    else:
        weights |= {"wx": normal(1, 20, 4), "wh": normal(1, 20, 5), "zero": np.zeros((1, 1, 5), np.float32)}
        nodes += [
            node("Transpose", ["r"], ["t"], perm=[2, 0, 1]),
            node("LSTM", ["t", "wx", "wh", "", "", "zero", "zero"], ["y"], hidden_size=5),
        ]
    return model(nodes, {"x": [1, 3, 16, 16]}, weights)


@pytest.mark.parametrize("kind", ["token", "state"])
def test_an_export_for_one_picture_takes_several_one_at_a_time(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    onnx.save(exported_for_one(kind), path)
    graph = convscope.load(path)
    assert any("holds a value for one picture: pictures are run one at a time" in note for note in graph.source.notes)
    assert convscope.verify(graph).ok
    x = normal(3, 3, 16, 16)
    session = onnxruntime.InferenceSession(path)
    alone = [session.run(None, {"x": x[i : i + 1]})[0] for i in range(3)]
    ours = graph.session(["y"], device="cpu").run({"x": x})["y"]
    axis = 0 if kind == "token" else 2  # an LSTM's steps come first, then its directions
    assert np.allclose(ours, np.concatenate(alone, axis), atol=1e-6)


def test_a_size_in_the_metadata_is_taken() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    made = model(nodes, {"x": ["N", 3, "h", "w"]}, {"w": normal(2, 3, 3, 3)}, {"imgsz": "[96, 160]"})
    assert convscope.load(made).image_size == (96, 160)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("320", (320, 320)),
        ("[3, 48, 320]", (48, 320)),
        ("(1, 3, 64, 96)", (64, 96)),
        ("[0, 1]", None),
        ("x" * 300, None),
    ],
)
def test_what_metadata_says_of_the_size_is_checked(text: str, size: tuple[int, int] | None) -> None:
    assert stated_size({"input_shape": text}) == size


def test_lines_of_text_and_signals_are_tried_before_squares() -> None:
    assert next(candidates((None, 3, 48, None), False)) == (48, 320)
    assert next(candidates((None, 3, None, None), True)) == (48, 320)
    assert next(candidates((None, 1, 1, None), False)) == (1, 512)
    assert next(candidates((None, 3, None, None), False)) == (224, 224)


def test_an_input_of_text_is_refused_by_its_name() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Identity", ["caption"], ["said"])]
    made = model(nodes, {"x": ["N", 3, 8, 8]}, {"w": normal(4, 3, 3, 3)})
    made.graph.output.append(helper.make_tensor_value_info("said", onnx.TensorProto.STRING, [1]))
    made.graph.input.append(helper.make_tensor_value_info("caption", onnx.TensorProto.STRING, [1]))
    with pytest.raises(RefusedInput, match="input 'caption' takes text"):
        convscope.load(made, check=False)


def test_of_the_usual_sizes_one_is_taken_whose_values_can_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention between all pixels makes 2 thousand million values of a picture of 224 x 224, and was refused."""
    monkeypatch.setattr(sizes, "check_values", lambda graph, size: size[0] * size[1] * 10_000)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    made = model(nodes, {"x": ["N", 3, "H", "W"]}, {"w": normal(2, 3, 3, 3)})
    graph = load_here(made, check=False)
    assert graph.image_size == (128, 128)
    assert any("128x128 is taken" in note and "after 224x224" in note for note in graph.source.notes)
    monkeypatch.setattr(sizes, "check_values", lambda graph, size: 10**12)
    assert load_here(made, check=False).image_size == (224, 224)  # none is small enough: the first, as before
