"""Hostile and broken ONNX files and, for each trick, a harmless twin; built here, never committed.

A builder writes into the folder it is given, and returns the path to hand to the command line.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests import tiny

Build = Callable[[Path], Path]
Edit = Callable[[onnx.ModelProto], None]
WEIGHT = "conv2.weight"
WEIGHT_BYTES = 12 * 8 * 9 * 4


def model(edit: Edit, name: str = "model.onnx") -> Build:
    """The small network with one change."""

    def build(folder: Path) -> Path:
        found = tiny.small_cnn()
        edit(found)
        (folder / name).write_bytes(found.SerializeToString())
        return folder / name

    return build


def raw(data: bytes, name: str = "model.onnx") -> Build:
    """A file of these bytes."""

    def build(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return build


def unchanged(found: onnx.ModelProto) -> None:
    """The harmless twin."""


def truncated(share: float) -> Build:
    data = tiny.small_cnn().SerializeToString()
    return raw(data[: int(len(data) * share)])


def sparse(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.touch()
    os.truncate(path, 3 * 2**30)
    return path


def a_folder(folder: Path) -> Path:
    (folder / "model.onnx").mkdir()
    return folder / "model.onnx"


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "model.onnx")
    return folder / "model.onnx"


# --- external data -------------------------------------------------------------------------------------------


def external(location: str, place: Callable[[Path], None], **entries: str) -> Build:
    """conv2.weight moved out to ``location``; ``place(folder)`` puts the files, the model lies in folder/model."""

    def edit(found: onnx.ModelProto) -> None:
        tensor = next(t for t in found.graph.initializer if t.name == WEIGHT)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=value)

    def build(folder: Path) -> Path:
        (folder / "model").mkdir()
        (folder / "secret.bin").write_bytes(bytes(WEIGHT_BYTES))
        place(folder)
        return model(edit)(folder / "model")

    return build


def nothing(folder: Path) -> None:
    """No further file."""


def beside(folder: Path) -> None:
    (folder / "model" / "data.bin").write_bytes(bytes(WEIGHT_BYTES))


def linked(folder: Path) -> None:
    (folder / "model" / "data.bin").symlink_to(folder / "secret.bin")


def folder_linked(folder: Path) -> None:
    (folder / "model" / "sub").symlink_to(folder)


def hard_linked(folder: Path) -> None:
    os.link(folder / "secret.bin", folder / "model" / "data.bin")


def piped(folder: Path) -> None:
    os.mkfifo(folder / "model" / "data.bin")


def absolute(folder: Path) -> Path:
    return external(str(folder / "secret.bin"), nothing)(folder)


# --- structure and size --------------------------------------------------------------------------------------


def before_conv1(*nodes: onnx.NodeProto, **weights: np.ndarray) -> Edit:
    """Nodes between the input and conv1: they read 'x' and write 'z'."""

    def edit(found: onnx.ModelProto) -> None:
        found.graph.node[0].input[0] = "z"
        rest = list(found.graph.node)
        del found.graph.node[:]
        found.graph.node.extend([*nodes, *rest])
        found.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in weights.items())

    return edit


def functions(depth: int) -> Edit:
    """``depth`` local functions, each calling the next twice: 2^depth nodes in a few kilobytes."""

    def edit(found: onnx.ModelProto) -> None:
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("bomb", 1)]
        for i in range(depth):
            op, domain = ("Relu", "") if i == depth - 1 else (f"F{i + 1}", "bomb")
            inner = [helper.make_node(op, [a], [b], domain=domain) for a, b in (("a", "b"), ("b", "c"))]
            found.functions.append(helper.make_function("bomb", f"F{i}", ["a"], ["c"], inner, opsets))
        found.opset_import.append(helper.make_opsetid("bomb", 1))
        before_conv1(helper.make_node("F0", ["x"], ["z"], domain="bomb"))(found)

    return edit


def chain(count: int) -> Edit:
    """So many Relu nodes in a row."""
    names = ["x", *(f"h{i}" for i in range(count - 1)), "z"]
    return lambda found: before_conv1(*(helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)))(
        found
    )


def doubling(count: int) -> Edit:
    """Each Concat doubles the rows, and a mean makes one picture of them again."""

    def edit(found: onnx.ModelProto) -> None:
        names = ["x", *(f"h{i}" for i in range(count))]
        nodes = [helper.make_node("Concat", [a, a], [b], axis=2) for a, b in itertools.pairwise(names)]
        mean = helper.make_node("ReduceMean", [names[-1]], ["m"], axes=[2], keepdims=1)
        before_conv1(*nodes, mean, helper.make_node("Add", ["x", "m"], ["z"]))(found)

    return edit


def nested_ifs(depth: int) -> Edit:
    def branch(level: int, name: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        if level == 0:
            return helper.make_graph([helper.make_node("Relu", ["x"], [name])], name, [], [output])
        return helper.make_graph([an_if(level, name)], name, [], [output])

    def an_if(level: int, name: str) -> onnx.NodeProto:
        then, other = (branch(level - 1, f"{name}{side}") if side == "t" else leaf(f"{name}e") for side in "te")
        return helper.make_node("If", ["cond"], [name], then_branch=then, else_branch=other)

    def leaf(name: str) -> onnx.GraphProto:
        return branch(0, name)

    return lambda found: before_conv1(an_if(depth, "z"), cond=np.array(True))(found)


def looped(times: int) -> Edit:
    """A Loop that adds one to the picture, ``times`` times."""

    def edit(found: onnx.ModelProto) -> None:
        info = helper.make_tensor_value_info
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Add", ["v", "one"], ["v2"])],
            "body",
            [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, None)],
            [info("c2", TensorProto.BOOL, []), info("v2", TensorProto.FLOAT, None)],
        )
        node = helper.make_node("Loop", ["times", "true", "x"], ["z"], body=body)
        values = {"times": np.array(times), "true": np.array(True), "one": np.array(1, np.float32)}
        before_conv1(node, **values)(found)

    return edit


def constant_loop(times: int) -> Edit:
    """The same on a constant: whoever folds constants runs it."""

    def edit(found: onnx.ModelProto) -> None:
        looped(times)(found)
        found.graph.node[0].input[2], found.graph.node[0].output[0] = "zero", "added"
        found.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, 1, 1), np.float32), "zero"))
        found.graph.node.insert(1, helper.make_node("Add", ["x", "added"], ["z"]))

    return edit


def input_shape(*dims: int | str) -> Edit:
    def edit(found: onnx.ModelProto) -> None:
        for slot, dim in zip(found.graph.input[0].type.tensor_type.shape.dim, dims, strict=True):
            slot.Clear()
            if isinstance(dim, int):
                slot.dim_value = dim
            else:
                slot.dim_param = dim

    return edit


def dims(*values: int) -> Edit:
    """The weight claims another shape than its bytes have."""

    def edit(found: onnx.ModelProto) -> None:
        tensor = next(t for t in found.graph.initializer if t.name == WEIGHT)
        del tensor.dims[:]
        tensor.dims.extend(values)

    return edit


def metadata(**entries: object) -> Edit:
    def edit(found: onnx.ModelProto) -> None:
        for key, value in entries.items():
            text = value if isinstance(value, str) else json.dumps(value)
            found.metadata_props.add(key=key.replace("__", "."), value=text)

    return edit


def renamed(name: str) -> Edit:
    """conv1, its tensor, the graph, the producer and the classes all carry this name."""

    def edit(found: onnx.ModelProto) -> None:
        found.graph.name = found.producer_name = found.doc_string = found.graph.node[0].name = name
        for node in found.graph.node:
            for names in (node.input, node.output):
                for i, tensor in enumerate(names):
                    names[i] = name if tensor == "c1" else tensor

    return edit


def zipped(folder: Path) -> Path:
    return raw(gzip.compress(tiny.small_cnn().SerializeToString()))(folder)


def sparse_weight(*shape: int) -> Edit:
    """A sparse tensor of one value, whose sum is added to the picture."""

    def edit(found: onnx.ModelProto) -> None:
        value = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
        index = helper.make_tensor("sparse.index", TensorProto.INT64, [1, len(shape)], [0] * len(shape))
        found.graph.sparse_initializer.append(helper.make_sparse_tensor(value, index, shape))
        add = helper.make_node("Add", ["x", "total"], ["z"])
        before_conv1(helper.make_node("ReduceSum", ["sparse"], ["total"], keepdims=0), add)(found)

    return edit


def beside_it(name: str, data: bytes | None) -> Build:
    """The small network with a companion file; None makes it a pipe, whose reader waits for ever."""

    def build(folder: Path) -> Path:
        if data is None:
            os.mkfifo(folder / name)
        else:
            (folder / name).write_bytes(data)
        return model(unchanged)(folder)

    return build
