"""Hostile and broken ONNX files are refused in one line; each has a harmless twin that loads.

The files are built here, byte by byte where needed. `convscope.load` runs without the parity check, so what
refuses them is the reading and the normalization.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convscope
from convscope.adapters.load import load_here
from convscope.engine.graph.graph import Graph
from convscope.errors import ConvscopeError, RefusedInput, UnsafeFile, UsageError
from tests import tiny

Edit = Callable[[onnx.ModelProto], None]


def load(path: Path) -> convscope.Graph:
    return convscope.load(path, check=False)


def refused(path: Path, *, kind: type[ConvscopeError] = RefusedInput) -> str:
    """Loads, expects a refusal, and returns its one line."""
    with pytest.raises(kind) as caught:
        load(path)
    line = str(caught.value)
    assert "\n" not in line
    assert line.isprintable()
    assert len(line) < 400
    return line


def written(folder: Path, edit: Edit, name: str = "model.onnx") -> Path:
    model = tiny.small_cnn()
    edit(model)
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def test_the_harmless_twin_of_every_file_here_loads(tmp_path: Path) -> None:
    assert len(load(written(tmp_path, lambda m: None)).layers) == 10


# --- external data -----------------------------------------------------------------------------------------


def external(location: str, **entries: str) -> Edit:
    """Moves conv2.weight out of the file; offset and length can lie."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "conv2.weight")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=value)

    return edit


WEIGHT_BYTES = 12 * 8 * 9 * 4


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "a/../../secret.bin",
        "/etc/passwd",
        "/dev/zero",
        "C:\\secret.bin",
        "\\\\host\\share\\secret.bin",
        "..\\secret.bin",
        "nul\0byte",
        "",
    ],
)
def test_external_data_never_leaves_the_models_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(WEIGHT_BYTES))
    folder = tmp_path / "model"
    folder.mkdir()
    assert "outside" in refused(written(folder, external(location)), kind=UnsafeFile)


@pytest.mark.parametrize("how", ["symlink", "folder symlink", "hard link", "fifo", "folder"])
def test_external_data_behind_links_and_devices_is_refused(tmp_path: Path, how: str) -> None:
    (tmp_path / "away").mkdir()
    secret = tmp_path / "away" / "secret.bin"
    secret.write_bytes(bytes(WEIGHT_BYTES))
    folder = tmp_path / "model"
    folder.mkdir()
    location = "data.bin"
    if how == "symlink":
        (folder / "data.bin").symlink_to(secret)
    elif how == "folder symlink":
        (folder / "sub").symlink_to(tmp_path / "away")
        location = "sub/secret.bin"
    elif how == "hard link":
        os.link(secret, folder / "data.bin")
    elif how == "fifo":
        os.mkfifo(folder / "data.bin")
    else:
        (folder / "data.bin").mkdir()
    refused(written(folder, external(location)), kind=UnsafeFile)


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "-1"},
        {"offset": "99999999"},
        {"length": "-5"},
        {"length": "9999999999999999999"},
        {"length": "8"},
        {"offset": "1e3"},
    ],
)
def test_offsets_and_lengths_that_lie_are_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(WEIGHT_BYTES))
    refused(written(tmp_path, external("data.bin", **entries)))


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    assert "data.bin" in refused(written(tmp_path, external("data.bin")))


def test_external_data_in_a_memory_marker_is_refused(tmp_path: Path) -> None:
    refused(written(tmp_path, external("*/_ORT_MEM_ADDR_/*", offset="4096", length=str(WEIGHT_BYTES))))


def test_external_data_beside_the_model_loads_with_its_values(tmp_path: Path) -> None:
    values = np.random.default_rng(5).normal(size=(12, 8, 3, 3)).astype(np.float32)
    (tmp_path / "data.bin").write_bytes(b"pad!" * 4 + values.tobytes())
    graph = load(written(tmp_path, external("./data.bin", offset="16", length=str(WEIGHT_BYTES))))
    stored = next(t for t in graph.model.graph.initializer if t.name == "conv2.weight")
    np.testing.assert_array_equal(numpy_helper.to_array(stored), values)


def test_a_hub_cache_with_links_into_its_own_blobs_loads(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "1111").write_bytes(bytes(WEIGHT_BYTES))
    written(blobs, external("model.onnx_data"), "2222")
    (snapshot / "model.onnx").symlink_to("../../blobs/2222")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/1111")
    assert len(load(snapshot / "model.onnx").layers) == 10


# --- not a model -------------------------------------------------------------------------------------------

NOT_MODELS = {
    "empty": (b"", "empty"),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git-lfs"),
    "gzip": (b"\x1f\x8b\x08\x00" + b"\0" * 40, "gzip"),
    "text": (b'ir_version: 8\ngraph {\n  node { op_type: "Relu" }\n}\n', "not a model"),
    "zeros": (b"\0" * 1000, "not a model"),
    "noise": (np.random.default_rng(0).bytes(5000), ""),
    "length lie": (b"\x08\x08\x3a\xff\xff\xff\xff\x0f", "not a model"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, "zip"),
    "unknown fields only": (b"\xf8\x07\x01" * 20, "no ONNX graph"),
}


@pytest.mark.parametrize("name", NOT_MODELS)
def test_what_is_not_a_model_gets_its_own_message(tmp_path: Path, name: str) -> None:
    data, expected = NOT_MODELS[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    assert expected in refused(path)


@pytest.mark.parametrize("share", [i / 16 for i in range(1, 16)])
def test_a_truncated_model_is_refused_at_every_point(tmp_path: Path, share: float) -> None:
    data = tiny.small_cnn().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)


def test_a_huge_sparse_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    os.truncate(path, 3 * 2**30)
    refused(path)


def test_folders_pipes_and_missing_files_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "folder" in refused(tmp_path)
    assert "regular" in refused(tmp_path / "pipe")
    assert "does not exist" in refused(tmp_path / "none.onnx", kind=UsageError)


# --- lies about tensors ------------------------------------------------------------------------------------


def weight(change: Callable[[TensorProto], None]) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        change(next(t for t in model.graph.initializer if t.name == "conv2.weight"))

    return edit


def set_dims(*dims: int) -> Callable[[TensorProto], None]:
    def change(tensor: TensorProto) -> None:
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


TENSOR_LIES = {
    "more than is there": set_dims(12, 8, 3, 4),
    "less than is there": set_dims(12, 8, 3, 2),
    "negative": set_dims(-12, 8, 3, 3),
    "overflow to zero": set_dims(2**32, 2**32),
    "petabyte": set_dims(2**50),
    "unknown type": lambda t: setattr(t, "data_type", 999),
    "no data": lambda t: t.ClearField("raw_data"),
    "string": lambda t: setattr(t, "data_type", TensorProto.STRING),
}


@pytest.mark.parametrize("name", TENSOR_LIES)
def test_tensors_whose_bytes_do_not_fit_their_shape_are_refused(tmp_path: Path, name: str) -> None:
    assert "conv2.weight" in refused(written(tmp_path, weight(TENSOR_LIES[name])))


def test_weights_in_typed_fields_load_with_their_values(tmp_path: Path) -> None:
    values = np.random.default_rng(3).normal(size=12 * 8 * 9).astype(np.float32)

    def change(tensor: TensorProto) -> None:
        tensor.ClearField("raw_data")
        tensor.float_data.extend(values.tolist())

    graph = load(written(tmp_path, weight(change)))
    stored = next(t for t in graph.model.graph.initializer if t.name == "conv2.weight")
    np.testing.assert_array_equal(numpy_helper.to_array(stored).ravel(), values)


# --- structure ---------------------------------------------------------------------------------------------


def add(*nodes: onnx.NodeProto, weights: dict[str, np.ndarray] | None = None) -> Edit:
    """Puts nodes between the input and conv1: they read 'x' and write 'z'."""

    def edit(model: onnx.ModelProto) -> None:
        first = model.graph.node[0]
        first.input[0] = "z"
        rest = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *rest])
        model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in (weights or {}).items())

    return edit


def nested_functions(depth: int) -> Edit:
    """``depth`` functions, each calling the next twice: 2^depth nodes in a few kilobytes."""

    def edit(model: onnx.ModelProto) -> None:
        for i in range(depth):
            last = i == depth - 1
            call = (lambda a, b: helper.make_node("Relu", [a], [b])) if last else None
            inner = [
                call("a", "b") if call else helper.make_node(f"F{i + 1}", ["a"], ["b"], domain="bomb"),
                call("b", "c") if call else helper.make_node(f"F{i + 1}", ["b"], ["c"], domain="bomb"),
            ]
            opsets = [helper.make_opsetid("", 17), helper.make_opsetid("bomb", 1)]
            model.functions.append(helper.make_function("bomb", f"F{i}", ["a"], ["c"], inner, opsets))
        model.opset_import.append(helper.make_opsetid("bomb", 1))
        add(helper.make_node("F0", ["x"], ["z"], domain="bomb"))(model)

    return edit


def recursive_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("F", ["a"], ["b"], domain="bomb")
    model.functions.append(helper.make_function("bomb", "F", ["a"], ["b"], [node], [helper.make_opsetid("bomb", 1)]))
    model.opset_import.append(helper.make_opsetid("bomb", 1))
    add(helper.make_node("F", ["x"], ["z"], domain="bomb"))(model)


def opset(version: int) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return edit


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def no_output(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def no_input(model: onnx.ModelProto) -> None:
    del model.graph.input[:]


STRUCTURE: dict[str, tuple[Edit, str]] = {
    "cycle": (add(helper.make_node("Add", ["x", "z"], ["q"]), helper.make_node("Relu", ["q"], ["z"])), "cycle"),
    "dangling": (add(helper.make_node("Add", ["x", "nowhere"], ["z"])), "nowhere"),
    "twice": (add(helper.make_node("Relu", ["x"], ["z"]), helper.make_node("Neg", ["x"], ["z"])), "twice"),
    "unknown domain": (add(helper.make_node("Evil", ["x"], ["z"], domain="evil.corp")), "Evil"),
    "function bomb": (nested_functions(31), "nodes"),
    "recursive function": (recursive_function, "calls itself"),
    "opset 9999": (opset(9999), "9999"),
    "opset 3": (opset(3), "opset 3"),
    "no opset": (no_opset, "operator set"),
    "no output": (no_output, "output"),
    "no input": (no_input, ""),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_graphs_that_are_none_are_refused(tmp_path: Path, name: str) -> None:
    edit, expected = STRUCTURE[name]
    assert expected in refused(written(tmp_path, edit))


def test_a_cycle_is_said_before_any_size_is_tried(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    found = tiny.model([*nodes, helper.make_node("Neg", ["b"], ["y"])], {})
    for side in (2, 3):  # left open, so that sizes would be tried
        found.graph.input[0].type.tensor_type.shape.dim[side].dim_param = f"side{side}"
    onnx.save(found, tmp_path / "circle.onnx")
    with pytest.raises(RefusedInput, match=r"circle\.onnx: the graph has a cycle through tensor '[ab]'; it can never"):
        load(tmp_path / "circle.onnx")


def test_what_the_runtime_refuses_is_refused_by_the_check_and_said_without_it() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64)]
    for kind, message in (("Softplus", "Softplus"), ("Add", "different types")):
        inputs = ["whole"] if kind == "Softplus" else ["x", "whole"]
        made = tiny.model([*nodes, helper.make_node(kind, inputs, ["y"])], {})
        with pytest.raises(RefusedInput, match=message):
            convscope.load(made)
        made = tiny.model([*nodes, helper.make_node(kind, inputs, ["y"])], {})
        (note,) = [note for note in convscope.load(made, check=False).source.notes if "refuses" in note]
        assert message in note and note.endswith("only what the torch twin computes works")


def test_without_the_check_nothing_is_prepared_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(*_: object, **__: object) -> None:
        raise AssertionError("a session was prepared")

    monkeypatch.setattr(Graph, "session", session)
    graph = load_here(tiny.small_cnn(), check=False)
    assert graph.layers and not any("refuses" in note for note in graph.source.notes)


def test_a_few_nested_functions_load(tmp_path: Path) -> None:
    graph = load(written(tmp_path, nested_functions(3)))
    assert sum(layer.op == "Relu" for layer in graph.layers) == 8 + 2


# --- shapes and work that explode --------------------------------------------------------------------------

BOMBS: dict[str, Edit] = {
    "ConstantOfShape": add(
        helper.make_node("ConstantOfShape", ["s"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["z"]),
        weights={"s": np.array([2**18, 2**18])},
    ),
    "Expand": add(helper.make_node("Expand", ["x", "s"], ["z"]), weights={"s": np.array([2**30, 3, 16, 16])}),
    "Tile": add(helper.make_node("Tile", ["x", "s"], ["z"]), weights={"s": np.array([1, 1, 2**16, 2**16])}),
    "Range": add(
        helper.make_node("Range", ["a", "b", "c"], ["i"]),
        helper.make_node("ReduceSum", ["i"], ["r"], keepdims=0),
        helper.make_node("Cast", ["r"], ["q"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "q"], ["z"]),
        weights={"a": np.array(0), "b": np.array(2**40), "c": np.array(1)},
    ),
    "Pad": add(
        helper.make_node("Pad", ["x", "p"], ["z"]), weights={"p": np.array([0, 0, 2**20, 2**20, 0, 0, 2**20, 2**20])}
    ),
    "Conv pads": add(
        helper.make_node("Conv", ["x", "w1"], ["z"], pads=[2**20] * 4),
        weights={"w1": np.ones((3, 3, 1, 1), np.float32)},
    ),
    "Resize": add(
        helper.make_node("Resize", ["x", "", "s"], ["z"]), weights={"s": np.array([1, 1, 1e5, 1e5], np.float32)}
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_graphs_that_would_fill_the_memory_are_refused(tmp_path: Path, name: str) -> None:
    refused(written(tmp_path, BOMBS[name]), kind=UnsafeFile)


def test_an_absurd_input_shape_is_refused(tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        for axis in (2, 3):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 2**30

    refused(written(tmp_path, edit), kind=UnsafeFile)


# --- names are free text -----------------------------------------------------------------------------------

NAMES = ["a\0b", "../../etc/passwd", "\x1b[31mred", "right\u202eleft", "n" * 5000, "</script><script>alert(1)</script>"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_hostile_layer_names_load_and_are_kept_whole(tmp_path: Path, name: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.node[0].name = name
        for node in model.graph.node:
            for names in (node.input, node.output):
                for i, tensor in enumerate(names):
                    names[i] = name if tensor == "c1" else tensor

    graph = load(written(tmp_path, edit))
    assert any(layer.tensor == name for layer in graph.layers)


def test_a_name_of_a_megabyte_is_refused(tmp_path: Path) -> None:
    refused(
        written(
            tmp_path, add(helper.make_node("Relu", ["x"], ["z"], "n"), helper.make_node("Relu", ["z"], ["m" * 2**20]))
        )
    )
