"""Small ONNX files that would grow without bound, and their harmless twins: one builder a trick, its size the dial."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from . import hostile_onnx as o

F = TensorProto.FLOAT


def _message(*fields: tuple[int, bytes]) -> bytes:
    """Length-delimited protobuf fields."""
    parts = []
    for number, data in fields:
        parts += [_varint(number << 3 | 2), _varint(len(data)), data]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def overloads(depth: int) -> o.Edit:
    """Functions of one domain and name, told apart by their overload alone; each calls the next twice."""

    def edit(found: onnx.ModelProto) -> None:
        found.ir_version = 10
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("bomb", 1)]
        for i in range(depth):
            last = i == depth - 1
            inner = [
                helper.make_node("Relu" if last else "F", [a], [b], domain="" if last else "bomb",
                                 overload="" if last else f"o{i + 1}")
                for a, b in (("a", "b"), ("b", "c"))
            ]  # fmt: skip
            made = helper.make_function("bomb", "F", ["a"], ["c"], inner, opsets, overload=f"o{i}")
            found.functions.append(made)
        found.opset_import.append(helper.make_opsetid("bomb", 1))
        o.before_conv1(helper.make_node("F", ["x"], ["z"], domain="bomb", overload="o0"))(found)

    return edit


def one_data_file(tensors: int, megabytes: int) -> o.Build:
    """So many weights that all name the whole of one external file."""

    def build(folder: Path) -> Path:
        (folder / "data.bin").write_bytes(b"")
        with (folder / "data.bin").open("r+b") as file:
            file.truncate(megabytes * 2**20)

        def edit(found: onnx.ModelProto) -> None:
            names = []
            for i in range(tensors):
                tensor = found.graph.initializer.add(name=f"w{i}", data_type=F, data_location=TensorProto.EXTERNAL)
                tensor.dims.append(megabytes * 2**18)
                tensor.external_data.add(key="location", value="data.bin")
                names.append(f"w{i}")
            sums = [helper.make_node("ReduceSum", [name], [f"{name}/sum"], keepdims=0) for name in names]
            total = helper.make_node("Sum", ["x", *(f"{name}/sum" for name in names)], ["z"])
            o.before_conv1(*sums, total)(found)

        return o.model(edit)(folder)

    return build


def branch(op: str, *inputs: np.ndarray) -> o.Edit:
    """An If whose other branch, which never runs, computes this of constants."""

    def edit(found: onnx.ModelProto) -> None:
        then = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["t"])], "then", [], [helper.make_tensor_value_info("t", F, None)]
        )
        names = [f"i{k}" for k in range(len(inputs))]
        nodes = [
            helper.make_node(op, names, ["made"]),
            helper.make_node("Cast", ["made"], ["cast"], to=F),
            helper.make_node("ReduceSum", ["cast"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["e"]),
        ]
        weights = [numpy_helper.from_array(v, n) for v, n in zip(inputs, names, strict=True)]
        other = helper.make_graph(nodes, "other", [], [helper.make_tensor_value_info("e", F, None)], weights)
        most = helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0)
        asked = helper.make_node("Greater", ["most", "least"], ["cond"])
        node = helper.make_node("If", ["cond"], ["z"], then_branch=then, else_branch=other)
        o.before_conv1(most, asked, node, least=np.array(-1e9, np.float32))(found)

    return edit


def outer(size: int) -> o.Edit:
    """The outer product of two vectors of the picture."""
    return o.before_conv1(
        helper.make_node("Expand", ["one", "tall"], ["a"]),
        helper.make_node("Expand", ["one", "wide"], ["b"]),
        helper.make_node("Mul", ["a", "b"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["z"]),
        one=np.ones((1, 1), np.float32), tall=np.array([size, 1]), wide=np.array([1, size]),
    )  # fmt: skip


def product(size: int, times: int) -> o.Edit:
    """Square matrices of constants multiplied: work, not memory."""
    nodes = [helper.make_node("Expand", ["one", "square"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(times)]
    nodes += [
        helper.make_node("ReduceSum", [f"m{times}"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["z"]),
    ]
    return o.before_conv1(*nodes, one=np.ones((1, 1), np.float32), square=np.array([size, size]))


def grown_batch(rows: int) -> o.Edit:
    """The picture repeated along the batch, where no layer's shape shows it, and its mean."""
    return o.before_conv1(
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "shape"], ["many"]),
        helper.make_node("ReduceMean", ["many"], ["again"], keepdims=0),
        helper.make_node("Add", ["x", "again"], ["z"]),
        shape=np.array([rows]),
    )


def one_hot(depth: int) -> o.Edit:
    return o.before_conv1(
        helper.make_node("ArgMax", ["x"], ["index"], axis=1, keepdims=0),
        helper.make_node("OneHot", ["index", "depth", "values"], ["hot"]),
        helper.make_node("ReduceSum", ["hot"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["z"]),
        depth=np.array(depth), values=np.array([0, 1], np.float32),
    )  # fmt: skip


def einsum(size: int) -> o.Edit:
    return o.before_conv1(
        helper.make_node("Expand", ["one", "shape"], ["a"]),
        helper.make_node("Einsum", ["a", "a"], ["product"], equation="i,j->ij"),
        helper.make_node("ReduceSum", ["product"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["z"]),
        one=np.ones(1, np.float32), shape=np.array([size]),
    )  # fmt: skip


def size_from_pixels(op: str, from_values: bool) -> o.Edit:
    """A tensor whose size is the picture's brightest pixel times a million, or (harmless) the picture's height."""
    if from_values:
        number = [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Mul", ["most", "million"], ["large"]),
            helper.make_node("Cast", ["large"], ["whole"], to=TensorProto.INT64),
        ]
    else:
        number = [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "two"], ["whole"]),
        ]
    vector = helper.make_node("Reshape", ["whole", "flat"], ["size"])
    made = {
        "ConstantOfShape": [helper.make_node("ConstantOfShape", ["size"], ["made"])],
        "Expand": [helper.make_node("Expand", ["unit", "size"], ["made"])],
        "Tile": [helper.make_node("Tile", ["unit", "size"], ["made"])],
        "Range": [
            helper.make_node("Range", ["zero", "whole", "step"], ["numbers"]),
            helper.make_node("Cast", ["numbers"], ["made"], to=F),
        ],
        "Pad": [
            helper.make_node("Concat", ["none", "size"], ["pads"], axis=0),
            helper.make_node("Pad", ["unit", "pads"], ["made"]),
        ],
    }[op]
    rest = [helper.make_node("ReduceSum", ["made"], ["sum"], keepdims=0), helper.make_node("Add", ["x", "sum"], ["z"])]
    return o.before_conv1(
        *number, vector, *made, *rest,
        million=np.array(1e6, np.float32), two=np.array(2), flat=np.array([1]), unit=np.ones(1, np.float32),
        zero=np.array(0), step=np.array(1), none=np.array([0]),
    )  # fmt: skip


def many_dims(count: int, size: int) -> o.Edit:
    return o.dims(*([size] * count))


def amplified(field: int, count: int) -> o.Build:
    """Empty parts of the graph, or of the model (functions: field 25), two or three bytes each."""

    def build(folder: Path) -> Path:
        path = o.model(o.unchanged)(folder)
        extra = _message((field, b"")) * count
        whole = extra if field == 25 else _message((7, extra))
        path.write_bytes(path.read_bytes() + whole)
        return path

    return build


def many_inputs(count: int) -> o.Edit:
    def edit(found: onnx.ModelProto) -> None:
        for i in range(count):
            found.graph.input.append(helper.make_tensor_value_info(f"extra{i}", F, [1]))

    return edit


def many_opsets(count: int) -> o.Edit:
    """Operator sets that no node uses."""

    def edit(found: onnx.ModelProto) -> None:
        for i in range(count):
            found.opset_import.append(helper.make_opsetid(f"unused{i}", 1))

    return edit


def much_metadata(count: int) -> o.Edit:
    """So many entries of metadata."""

    def edit(found: onnx.ModelProto) -> None:
        helper.set_model_props(found, {f"key{i}": "value" for i in range(count)})

    return edit


def folded(kind: int, size: int) -> o.Edit:
    """A constant of wide values out of nothing."""
    value = helper.make_tensor("value", kind, [1], [1])
    return o.before_conv1(
        helper.make_node("ConstantOfShape", ["shape"], ["made"], value=value),
        helper.make_node("Cast", ["made"], ["cast"], to=F),
        helper.make_node("ReduceSum", ["cast"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["z"]),
        shape=np.array([size]),
    )


def sparse_constant(*shape: int) -> o.Edit:
    value = helper.make_tensor("v", F, [1], [1.0])
    index = helper.make_tensor("v.index", TensorProto.INT64, [1, len(shape)], [0] * len(shape))
    sparse = helper.make_sparse_tensor(value, index, shape)
    return o.before_conv1(
        helper.make_node("Constant", [], ["made"], sparse_value=sparse),
        helper.make_node("ReduceSum", ["made"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["z"]),
    )


def divided(op: str, by: int) -> o.Edit:
    """The smallest integer divided by -1, which the processor answers with a signal; computed from the picture."""
    return o.before_conv1(
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Add", ["whole", "least"], ["number"]),
        helper.make_node(op, ["number", "by"], ["result"]),
        helper.make_node("Cast", ["result"], ["cast"], to=F),
        helper.make_node("Mul", ["cast", "zero"], ["again"]),
        helper.make_node("Add", ["x", "again"], ["z"]),
        zero=np.array(0, np.float32), least=np.array(-(2**31), np.int32), by=np.array(by, np.int32),
    )  # fmt: skip


def blocks(size: int) -> o.Edit:
    return o.before_conv1(
        helper.make_node("Concat", ["x"] * 4, ["wide"], axis=1),
        helper.make_node("DepthToSpace", ["wide"], ["large"], blocksize=size),
        helper.make_node("ReduceMean", ["large"], ["mean"], keepdims=0),
        helper.make_node("Add", ["x", "mean"], ["z"]),
    )


def doubled_shape(times: int) -> o.Edit:
    """A vector of sizes that each Concat doubles: inference computes its values."""
    names = [f"s{i}" for i in range(times + 1)]
    doubled = [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in itertools.pairwise(names)]
    return o.before_conv1(
        helper.make_node("Shape", ["x"], ["s0"]),
        *doubled,
        helper.make_node("Cast", [names[-1]], ["cast"], to=F),
        helper.make_node("ReduceSum", ["cast"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Add", ["x", "zero"], ["z"]),
        nothing=np.array(0, np.float32),
    )


def long_operator(length: int) -> o.Edit:
    return o.before_conv1(helper.make_node("Relu" + "x" * length if length else "Relu", ["x"], ["z"]))


def long_names(where: str, length: int) -> o.Edit:
    """A node, a weight or an input by a name of this length."""

    def edit(found: onnx.ModelProto) -> None:
        text = "n" * length
        if where == "node":
            found.graph.node[0].name = text
        elif where == "weight":
            found.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), text))
        elif where == "domain":
            found.graph.node[0].domain = text if length > 8 else ""

    return edit


def empty_functions(depth: int) -> o.Edit:
    """Functions each of which calls the one before twice; the first has no nodes."""

    def edit(found: onnx.ModelProto) -> None:
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
        found.opset_import.add(domain="f", version=1)
        found.functions.append(helper.make_function("f", "f0", ["a"], ["a"], [], imports))
        for i in range(1, depth):
            calls = [helper.make_node(f"f{i - 1}", [a], [b], domain="f") for a, b in (("a", "c"), ("c", "b"))]
            found.functions.append(helper.make_function("f", f"f{i}", ["a"], ["b"], calls, imports))
        last = [] if depth > 10 else [helper.make_node("Identity", ["x"], ["z"])]  # the small one is not called
        o.before_conv1(*(last or [helper.make_node(f"f{depth - 1}", ["x"], ["z"], domain="f")]))(found)

    return edit


def uncalled(count: int) -> o.Edit:
    """A function of so many nodes that nothing calls."""

    def edit(found: onnx.ModelProto) -> None:
        found.opset_import.add(domain="f", version=1)
        nodes = [helper.make_node("Relu", ["a"], [f"b{i}"]) for i in range(count)]
        found.functions.append(helper.make_function("f", "g", ["a"], ["b0"], nodes, [helper.make_opsetid("", 17)]))

    return edit


def long_sum(count: int) -> o.Edit:
    """The picture, added so often."""
    return o.before_conv1(helper.make_node("Mean", ["x"] * count, ["z"]))


def equation(text: str) -> o.Edit:
    """An Einsum of the picture."""
    return o.before_conv1(helper.make_node("Einsum", ["x"], ["z"], equation=text))


def axes(end: int) -> o.Edit:
    """The picture with so many axes, most of one, and without them again."""
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["wide"]),
        helper.make_node("Squeeze", ["wide", "axes"], ["z"]),
    ]
    return o.before_conv1(*nodes, axes=np.arange(4, end))
