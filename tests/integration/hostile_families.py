"""Hostile ONNX, Torch and safetensors files by family: lies, broken structure, absurd operators, pickled code."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from . import hostile_archives as a
from . import hostile_onnx as o
from .hostile_pairs import Pair, Pairs, family

F = TensorProto.FLOAT


# --- ONNX: tensors that lie ----------------------------------------------------------------------------------


def weight(change: Callable[[TensorProto], None]) -> o.Build:
    """conv2.weight changed."""

    def edit(found: onnx.ModelProto) -> None:
        change(next(t for t in found.graph.initializer if t.name == o.WEIGHT))

    return o.model(edit)


def typed(kind: int, more: int) -> o.Build:
    """A further weight of eight values of a type, with so many bytes more than its shape has; its sum is added."""

    def edit(found: onnx.ModelProto) -> None:
        size = 4 if kind == TensorProto.INT4 else 8 * helper.tensor_dtype_to_np_dtype(kind).itemsize
        tensor = TensorProto(name="typed", data_type=kind, dims=[8], raw_data=bytes(size + more))
        found.graph.initializer.append(tensor)

    return o.model(edit)


def _cleared(tensor: TensorProto) -> None:
    tensor.ClearField("raw_data")


def _of_type(kind: int) -> Callable[[TensorProto], None]:
    def change(tensor: TensorProto) -> None:
        tensor.data_type = kind

    return change


def _also_floats(tensor: TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.float_data.extend([0.0] * 7)


_TYPES = {
    "float": F,
    "double": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int8": TensorProto.INT8,
    "float16": TensorProto.FLOAT16,
    "bool": TensorProto.BOOL,
    "int4": TensorProto.INT4,
    "complex": TensorProto.COMPLEX64,
}
LIES: Pairs = {
    **{f"{name} one byte short": Pair(typed(kind, -1), typed(kind, 0)) for name, kind in _TYPES.items()},
    **{f"{name} one byte more": Pair(typed(kind, 1), typed(kind, 0)) for name, kind in _TYPES.items()},
    **family(
        "weight",
        weight,
        {
            "without bytes": _cleared,
            "of 7 floats": _also_floats,
            "of type 999": _of_type(999),
            "of type 0": _of_type(0),
            "of doubles": _of_type(TensorProto.DOUBLE),
            "of texts": _of_type(TensorProto.STRING),
        },
        o.unchanged,
    ),
}


# --- ONNX: structure -----------------------------------------------------------------------------------------


def _node(index: int, change: Callable[[onnx.NodeProto], None]) -> o.Edit:
    return lambda found: change(found.graph.node[index])


def _cycle(found: onnx.ModelProto) -> None:
    found.graph.node[0].input[0] = "r1"


def _field(name: str, value: Any) -> Callable[[onnx.NodeProto], None]:
    return lambda node: setattr(node, name, value)


def _input(position: int, name: str) -> Callable[[onnx.NodeProto], None]:
    def change(node: onnx.NodeProto) -> None:
        node.input[position] = name

    return change


def _twice(found: onnx.ModelProto) -> None:
    found.graph.node.append(found.graph.node[3])


def _opset(version: int) -> o.Edit:
    def edit(found: onnx.ModelProto) -> None:
        found.opset_import[0].version = version

    return edit


def _no(field: str) -> o.Edit:
    def edit(found: onnx.ModelProto) -> None:
        (found if field == "opset_import" else found.graph).ClearField(field)

    return edit


def _function(found: onnx.ModelProto) -> None:
    inner = [helper.make_node("F", ["a"], ["b"], domain="own")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    found.functions.append(helper.make_function("own", "F", ["a"], ["b"], inner, opsets))
    found.opset_import.append(helper.make_opsetid("own", 1))
    o.before_conv1(helper.make_node("F", ["x"], ["z"], domain="own"))(found)


STRUCTURE: Pairs = family(
    "graph with",
    o.model,
    {
        "a circle": _cycle,
        "a tensor from nowhere": _node(2, _input(0, "nowhere")),
        "a tensor twice": _twice,
        "an unknown operator": _node(2, _field("op_type", "Reluu")),
        "an unknown domain": _node(2, _field("domain", "evil")),
        "opset 9999": _opset(9999),
        "opset 3": _opset(3),
        "opset -1": _opset(-1),
        "no opset": _no("opset_import"),
        "no nodes": _no("node"),
        "no output": _no("output"),
        "no input": _no("input"),
        "a function in itself": _function,
        "an output from nowhere": lambda found: setattr(found.graph.output[0], "name", "nowhere"),
    },
    o.unchanged,
)


def node(op: str, inputs: int, outputs: int = 1, **attributes: Any) -> o.Build:
    """A node beside the network, of an operator with inputs that may not fit it."""
    names = ["x", "conv1.bias", "conv1.weight", "bn1.bias", "bn1.weight", "x", "x"][:inputs]
    made = helper.make_node(op, names, [f"side{i}" for i in range(outputs)], "side", **attributes)
    return o.model(lambda found: found.graph.node.append(made))


SIGNATURES: Pairs = {
    f"{title}": Pair(hostile, node("Relu", 1))
    for title, hostile in {
        "Relu of nothing": node("Relu", 0),
        "Relu of two": node("Relu", 2),
        "Conv of one": node("Conv", 1),
        "Add of one": node("Add", 1),
        "Gemm of one": node("Gemm", 1),
        "MaxPool of three": node("MaxPool", 3, kernel_shape=[2, 2]),
        "MaxPool without kernel": node("MaxPool", 1),
        "Concat without axis": node("Concat", 2),
        "Relu to two": node("Relu", 1, 2),
        "Conv with kernel 3": node("Conv", 2, kernel_shape=3),
        "Transpose with a number": node("Transpose", 1, perm=3),
        "Softmax with a text": node("Softmax", 1, axis="last"),
        "LRN with a list": node("LRN", 1, size=[3, 3]),
        "Cast to a float": node("Cast", 1, to=1.0),
        "LeakyRelu with a text": node("LeakyRelu", 1, alpha="0.1"),
        "BatchNormalization of two": node("BatchNormalization", 2),
    }.items()
}


# --- ONNX: operators at absurd values ------------------------------------------------------------------------


def summed(*nodes: onnx.NodeProto, **weights: Any) -> o.Build:
    """Nodes from 'x' to 'made', whose mean is added to the picture."""
    return o.model(
        o.before_conv1(
            *nodes,
            helper.make_node("Cast", ["made"], ["cast"], to=F),
            helper.make_node("ReduceMean", ["cast"], ["mean"], keepdims=0),
            helper.make_node("Add", ["x", "mean"], ["z"]),
            **{name: np.asarray(value) for name, value in weights.items()},
        )
    )


def one(op: str, *inputs: str, outputs: tuple[str, ...] = ("made",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, ["x", *inputs], list(outputs), **attributes)


def _kernel(size: int) -> dict[str, Any]:
    return {
        "kernel": np.ones((1, 3, 1, 1), np.float32),
        "turned": np.ones((3, 1, 1, 1), np.float32),
        "n": np.array([size]),
    }


def operator(op: str, n: int) -> o.Build:
    """One operator whose size is n."""
    many = {
        "TopK": lambda: summed(one("TopK", "n", outputs=("made", "places"), axis=3), n=[n]),
        "Tile": lambda: summed(one("Tile", "n"), n=[1, 1, n, n]),
        "Resize": lambda: summed(one("Resize", "", "n", mode="nearest"), n=np.array([1, 1, n, n], np.float32)),
        "Resize to": lambda: summed(one("Resize", "", "", "n", mode="linear"), n=[1, 3, n, n]),
        "Conv pads": lambda: summed(one("Conv", "kernel", pads=[n] * 4), kernel=_kernel(1)["kernel"]),
        "Conv dilation": lambda: summed(one("Conv", "k", dilations=[n, n]), k=np.ones((1, 3, 2, 2), np.float32)),
        "Conv stride": lambda: summed(one("ConvTranspose", "turned", strides=[n, n]), turned=_kernel(1)["turned"]),
        "output_padding": lambda: summed(
            one("ConvTranspose", "turned", strides=[n + 1, n + 1], output_padding=[n, n]), turned=_kernel(1)["turned"]
        ),
        "MaxPool kernel": lambda: summed(one("MaxPool", kernel_shape=[n, n])),
        "AveragePool pads": lambda: summed(one("AveragePool", kernel_shape=[n, n], pads=[n - 1] * 4)),
        "Gather": lambda: summed(
            helper.make_node("Expand", ["zero", "n"], ["places"]), one("Gather", "places", axis=3), zero=[0], n=[n]
        ),
        "Expand": lambda: summed(
            helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
            helper.make_node("Expand", ["m", "n"], ["made"]),
            n=[n, n],
        ),
        "EyeLike": lambda: summed(
            helper.make_node("ConstantOfShape", ["n"], ["c"]), helper.make_node("EyeLike", ["c"], ["made"]), n=[n, n]
        ),
        "HannWindow": lambda: summed(helper.make_node("HannWindow", ["n"], ["made"]), n=n),
        "Unsqueeze": lambda: summed(one("Unsqueeze", "n"), n=[n]),
        "Reshape": lambda: summed(one("Reshape", "n"), n=[n, 1, 1, -1]),
        "Slice step": lambda: summed(one("Slice", "a", "b", "c", "n"), a=[0], b=[2**31], c=[3], n=[n]),
        "Split": lambda: summed(one("Split", "n", axis=1), n=[n]),
        "groups": lambda: summed(one("Conv", "kernel", group=n), kernel=_kernel(1)["kernel"]),
        "RandomNormal": lambda: summed(helper.make_node("RandomNormal", [], ["made"], shape=[n, n])),
    }
    return many[op]()


OPERATORS: Pairs = {
    f"{op} of {shown}": Pair(operator(op, hostile), operator(op, harmless))
    for op, shown, hostile, harmless in (
        ("TopK", "2^40", 2**40, 2),
        ("Tile", "2^20", 2**20, 2),
        ("Resize", "2^16", 2**16, 2),
        ("Resize to", "2^20", 2**20, 20),
        ("Conv pads", "2^30", 2**30, 1),
        ("Conv dilation", "2^40", 2**40, 1),
        ("Conv stride", "2^20", 2**20, 2),
        ("output_padding", "2^20", 2**20, 1),
        ("MaxPool kernel", "2^30", 2**30, 2),
        ("AveragePool pads", "2^20", 2**20, 2),
        ("Gather", "2^30", 2**30, 4),
        ("Expand", "2^18", 2**18, 4),
        ("EyeLike", "2^18", 2**18, 4),
        ("HannWindow", "2^36", 2**36, 4),
        ("Unsqueeze", "2^40", 2**40, 0),
        ("Reshape", "-5", -5, 1),
        ("Slice step", "0", 0, 2),
        ("Split", "7", 7, 3),
        ("groups", "2", 2, 1),
        ("RandomNormal", "2^18", 2**18, 4),
    )
}


# --- ONNX: where weights lie ---------------------------------------------------------------------------------

PLACES: Pairs = {
    f"external {shown}": Pair(o.external(location, o.beside), o.external("data.bin", o.beside))
    for shown, location in {
        "nothing": "",
        "a NUL": "data.bin\0",
        "UNC": "\\\\server\\share\\data.bin",
        "D:data.bin": "D:data.bin",
        "..\\": "..\\secret.bin",
        "./..": "./../secret.bin",
        "//": "//etc/passwd",
        "the folder": ".",
        "file:": "file:///etc/passwd",
        "~": "~/secret.bin",
        "https": "https://example.com/data.bin",
        "/proc": "/proc/self/mem",
        "10 kB": "d" * 10_000,
    }.items()
}
PLACES |= {
    f"external {key} {shown}": Pair(
        o.external("data.bin", o.beside, **{key: value}), o.external("data.bin", o.beside, offset="0")
    )
    for key, shown, value in (
        ("offset", "-1", "-1"),
        ("offset", "text", "abc"),
        ("offset", "2^80", str(2**80)),
        ("offset", "1e3", "1e3"),
        ("length", "-1", "-1"),
        ("length", "1", "1"),
        ("length", "hex", "0x10"),
        ("length", "\u0661", "\u0661"),
    )
}


# --- Torch: pickled code -------------------------------------------------------------------------------------


class _Call:
    """Pickles as a call of a function by its name, with the command to make the canary."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def pickled(self) -> bytes:
        return b"\x80\x02c" + f"{self.module}\n{self.name}\n".encode() + b"X\x0c\x00\x00\x00mkdir canary\x85R."


def gadget(values: tuple[str, str, bool] | None) -> o.Build:
    """A Torch file, of the zip or (legacy) the old kind, whose pickle calls something; None: plain weights."""
    if values is None:
        return a.weights()
    module, name, is_zip = values
    call = _Call(module, name).pickled()

    def make(folder: Path) -> Path:
        path = folder / "model.pt"
        if not is_zip:
            path.write_bytes(call)
            return path
        a.weights("good.tmp")(folder)
        a.rezip(folder / "good.tmp", path, lambda member, data: call if member.endswith("data.pkl") else data)
        (folder / "good.tmp").unlink()
        return path

    return make


_GADGETS = {
    f"{module}.{name} ({'zip' if is_zip else 'old'})": (module, name, is_zip)
    for module, name in (
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("builtins", "exec"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("runpy", "run_path"),
        ("importlib", "import_module"),
        ("torch.hub", "load"),
        ("numpy", "load"),
        ("webbrowser", "open"),
        ("torch", "load"),
    )
    for is_zip in (True, False)
}


def member(change: str) -> o.Build:
    """A Torch zip with one thing wrong; an empty text: nothing."""

    def make(folder: Path) -> Path:
        path = a.weights()(folder)
        with zipfile.ZipFile(path) as old:
            members = {name: old.read(name) for name in old.namelist()}
        pickled = next(name for name in members if name.endswith("data.pkl"))
        data = next(name for name in members if name.endswith("/data/0"))
        with zipfile.ZipFile(path, "w") as new:
            for name, value in members.items():
                if change == "no storage" and name == data:
                    continue
                if change == "cut pickle" and name == pickled:
                    value = value[:-20]
                if change == "noise for a pickle" and name == pickled:
                    value = np.random.default_rng(0).bytes(400)
                if change == "empty pickle" and name == pickled:
                    value = b""
                if change == "a list for weights" and name == pickled:
                    value = pickle.dumps([1, 2, 3], 2)
                new.writestr(name, value)
            if change == "pickle twice":
                new.writestr(
                    pickled.replace("data.pkl", "more/data.pkl"), b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00a\x85R."
                )
            for entry in new.infolist():
                if change == "encrypted" and entry.filename == pickled:
                    entry.flag_bits |= 1
                if change == "wrong checksum" and entry.filename == data:
                    entry.CRC = 1
                if change == "a link" and entry.filename == data:
                    entry.external_attr = 0o120777 << 16
        return path

    return make


TORCH: Pairs = {
    **family("pickle calls", gadget, _GADGETS, None, *a.ARCH),
    **family(
        "Torch zip with",
        member,
        {
            name: name
            for name in (
                "no storage",
                "cut pickle",
                "noise for a pickle",
                "empty pickle",
                "a list for weights",
                "encrypted",
                "a link",
            )
        },
        "",
        *a.ARCH,
    ),
}


# --- safetensors ---------------------------------------------------------------------------------------------


def header(value: Any) -> o.Build:
    """The harmless weights under another header; a function changes the good one."""

    def make(folder: Path) -> Path:
        path = a.good_safetensors(folder)
        whole = path.read_bytes()
        length = struct.unpack("<Q", whole[:8])[0]
        good = json.loads(whole[8 : 8 + length])
        value_ = value(good) if callable(value) else value
        text = value_ if isinstance(value_, bytes) else json.dumps(value_).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
        return path

    return make


def _entry(**changes: Any) -> Callable[[Any], Any]:
    def change(good: Any) -> Any:
        first = next(name for name in good if name != "__metadata__")
        return {**good, first: {**good[first], **changes}}

    return change


def _kept(good: Any) -> Any:
    return good


SAFETENSORS: Pairs = family(
    "safetensors",
    header,
    {
        "of type F128": _entry(dtype="F128"),
        "of type number": _entry(dtype=7),
        "of shape -1": _entry(shape=[-1]),
        "of shape 2^64": _entry(shape=[2**32, 2**32]),
        "of shape text": _entry(shape="2"),
        "from end to begin": _entry(data_offsets=[24, 0]),
        "from -1": _entry(data_offsets=[-1, 4]),
        "to 2^63": _entry(data_offsets=[0, 2**63]),
        "with one offset": _entry(data_offsets=[0]),
        "a list": [],
        "a text": b'"x"',
        "null": b"null",
        "no UTF-8": b'{"\xff": 1}',
        "deep": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "with metadata of numbers": lambda good: {**good, "__metadata__": {"a": 1}},
        "empty": b"",
        "with a hole": lambda good: dict(list(good.items())[1:]),
    },
    _kept,
    *a.ARCH,
)

__all__ = ["LIES", "OPERATORS", "PLACES", "SAFETENSORS", "SIGNATURES", "STRUCTURE", "TORCH"]
