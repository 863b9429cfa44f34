"""The hostile files by name, each with the name of its harmless twin; see docs/security.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper

from . import hostile_archives as a
from . import hostile_families as f
from . import hostile_growth_cases, hostile_keras, hostile_pictures
from . import hostile_onnx as o
from .hostile_pairs import Pair, Pairs

TRUST = ("--trust",)


@dataclass(frozen=True)
class Case:
    """A file to build, and the options that its harmless form needs."""

    build: o.Build
    twin: str = "small.onnx"
    options: tuple[str, ...] = ()


def _constant(op: str, **weights: np.ndarray) -> o.Edit:
    """A node that makes a tensor out of constants, whose sum is added to the picture."""
    return o.before_conv1(
        helper.make_node(op, list(weights), ["made"]),
        helper.make_node("Cast", ["made"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["cast"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["z"]),
        **weights,
    )


def _expand(*shape: int) -> dict[str, np.ndarray]:
    return {"one": np.array(1, np.float32), "shape": np.array(shape)}


def _expands(count: int, values: int) -> o.Edit:
    """So many constants of so many values each: every one is harmless."""
    made = [f"made{i}" for i in range(count)]
    nodes = [helper.make_node("Expand", ["one", "shape"], [name]) for name in made]
    nodes += [helper.make_node("ReduceSum", [name], [f"{name}/sum"], keepdims=0) for name in made]
    total = helper.make_node("Sum", ["x", *(f"{name}/sum" for name in made)], ["z"])
    return o.before_conv1(*nodes, total, **_expand(values))


def _pad(rows: int) -> o.Edit:
    return o.before_conv1(
        helper.make_node("Pad", ["x", "pads"], ["z"]), pads=np.array([0, 0, rows, rows, 0, 0, rows, rows])
    )


def _both(*edits: o.Edit) -> o.Edit:
    def edit(found: Any) -> None:
        for change in edits:
            change(found)

    return edit


def _tensor(dims: list[int], end: int = 24) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": dims, "data_offsets": [0, end]}}


NOT_A_MODEL = {
    "empty": Case(o.raw(b"")),
    "html": Case(o.raw(b"<!DOCTYPE html><html><body>404 Not Found</body></html>")),
    "git-lfs": Case(o.raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")),
    "gzip": Case(o.zipped),
    "noise": Case(o.raw(np.random.default_rng(0).bytes(5000))),
    "zeros": Case(o.raw(bytes(1000))),
    "folder": Case(o.a_folder),
    "pipe": Case(o.a_pipe),
    "3 GiB sparse": Case(o.sparse),
    **{f"truncated {s:.2f}": Case(o.truncated(s)) for s in (0.1, 0.5, 0.9, 0.99)},
    "length lie": Case(o.raw(b"\x08\x08\x3a\xff\xff\xff\xff\x0f")),
}
EXTERNAL = {
    name: Case(build, "data beside the model")
    for name, build in {
        "external ..": o.external("../secret.bin", o.nothing),
        "external a/../..": o.external("a/../../secret.bin", o.nothing),
        "external absolute": o.absolute,
        "external /dev/zero": o.external("/dev/zero", o.nothing),
        "external C:": o.external("C:\\secret.bin", o.nothing),
        "external symlink": o.external("data.bin", o.linked),
        "external folder symlink": o.external("sub/secret.bin", o.folder_linked),
        "external hard link": o.external("data.bin", o.hard_linked),
        "external pipe": o.external("data.bin", o.piped),
        "external missing": o.external("data.bin", o.nothing),
        "external offset": o.external("data.bin", o.beside, offset="99999999"),
        "external length": o.external("data.bin", o.beside, length="9999999999999999999"),
        "external memory marker": o.external("*/_ORT_MEM_ADDR_/*", o.nothing, offset="4096"),
    }.items()
}
BOMBS = {
    "function bomb 2^31": Case(o.model(o.functions(31)), "functions 2^3"),
    "2^17 nodes by functions": Case(o.model(o.functions(17)), "functions 2^3"),
    "25,000 nodes": Case(o.model(o.chain(25_000)), "200 nodes"),
    "If 30 deep": Case(o.model(o.nested_ifs(30))),
    "Loop 2^40": Case(o.model(o.looped(2**40))),
    "constant Loop 2^40": Case(o.model(o.constant_loop(2**40))),
    "Concat doubled 40 times": Case(o.model(o.doubling(40)), "Concat doubled twice"),
    "Concat doubled 18 times": Case(o.model(o.doubling(18)), "Concat doubled twice"),
    "ConstantOfShape 2^36": Case(o.model(_constant("ConstantOfShape", s=np.array([2**18] * 2))), "ConstantOfShape 4"),
    "Expand 2^40": Case(o.model(_constant("Expand", **_expand(2**20, 2**20))), "Expand 4"),
    "60 Expands of 2^25": Case(o.model(_expands(60, 2**25)), "Expand 4"),
    "Range 2^40": Case(o.model(_constant("Range", a=np.array(0), b=np.array(2**40), c=np.array(1))), "Range 4"),
    "Range NaN": Case(o.model(_constant("Range", a=np.array(np.nan), b=np.array(1.0), c=np.array(1.0))), "Range 4"),
    "Pad 2^20": Case(o.model(_pad(2**20)), "Pad 1"),
    "Pad 2^13, open size": Case(o.model(_both(_pad(2**13), o.input_shape("N", 3, "H", "W"))), "Pad 1"),
    "sparse 2^40": Case(o.model(o.sparse_weight(2**20, 2**20)), "sparse 4 x 4"),
    "input 2^30": Case(o.model(o.input_shape("N", 3, 2**30, 2**30)), "input 32"),
    "channels 2^28": Case(o.model(o.input_shape("N", 2**28, 1, 1)), "input 32"),
    "dims overflow": Case(o.model(o.dims(2**32, 2**32))),
    "dims negative": Case(o.model(o.dims(-12, 8, 3, 3))),
    "dims petabyte": Case(o.model(o.dims(2**50))),
    "name of 1 MiB": Case(o.model(o.renamed("n" * 2**20)), "name ../../"),
}
TORCH = {
    "pickle in a state dict": Case(a.weights(extra=a.Canary()), "weights.pt", a.ARCH),
    "pickle in an old state dict": Case(a.weights(new=False, extra=a.Canary()), "old weights.pt", a.ARCH),
    "pickle .pth": Case(a.bare_pickle("model.pth"), "weights.pt", a.ARCH),
    "pickle named .onnx": Case(a.bare_pickle("model.onnx")),
    "state dict with code named .onnx": Case(a.weights("model.onnx", extra=a.Canary()), "weights.onnx", a.ARCH),
    "pickled module": Case(a.whole_module, "weights.pt", a.ARCH),
    "TorchScript": Case(a.torchscript, "weights.pt", a.ARCH),
    "4 TB view": Case(a.weights(view=torch.zeros(1).expand(2**20, 2**20)), "weights.pt", a.ARCH),
    "storage lie": Case(a.archive(a.short_storage), "weights.pt", a.ARCH),
    "compressed record": Case(a.archive(a.same, compression=8), "weights.pt", a.ARCH),
    "member ..": Case(a.archive(a.same, {"../outside": b"x"}), "weights.pt", a.ARCH),
    "truncated .pt": Case(a.cut(a.weights(), 0.7), "weights.pt", a.ARCH),
    "pt2 with compiled code": Case(a.pt2({"lenet/data/aotinductor/model/model.so": b"\x7fELF"}), "lenet.pt2"),
    "pt2 weights of 2^40": Case(a.pt2(change=a.wide_weights), "lenet.pt2"),
    "safetensors header 2^60": Case(a.safetensors({}, 2**60), "weights.safetensors", a.ARCH),
    "safetensors beyond its end": Case(a.safetensors(_tensor([2**40], 2**42)), "weights.safetensors", a.ARCH),
    "safetensors overlap": Case(
        a.safetensors({**_tensor([6]), "v": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}),
        "weights.safetensors",
        a.ARCH,
    ),
    "safetensors no JSON": Case(a.safetensors(b"{" * 1000), "weights.safetensors", a.ARCH),
}
KERAS = {
    "Keras Lambda": Case(a.keras_zip(a.edited(a.with_lambda)), "lenet.keras"),
    "Keras os.system": Case(a.keras_zip(a.edited(a.system_call)), "lenet.keras"),
    "Keras zip bomb": Case(a.keras_zip(a.padded(2**24), compression=8), "compressed .keras"),
    "Keras member ..": Case(a.keras_zip(extra={"../outside": b"x"}), "lenet.keras"),
    "Keras member .py": Case(a.keras_zip(extra={"payload.py": b"x"}), "lenet.keras"),
    "Keras overlapping members": Case(a.overlapped, "lenet.keras"),
    "Keras 2^31 filters": Case(a.keras_zip(a.edited(a.set_layer(1, filters=2**31))), "lenet.keras"),
    "Keras input 2^30": Case(a.keras_zip(a.edited(a.set_layer(0, batch_shape=[None, 2**30, 2**30, 1]))), "lenet.keras"),
    "Keras truncated": Case(a.cut(a.keras_zip(), 0.9), "lenet.keras"),
    "h5 Lambda": Case(a.h5(a.h5_config(a.with_lambda)), "lenet.h5"),
    "h5 os.system": Case(a.h5(a.h5_config(a.system_call)), "lenet.h5"),
    "h5 external link": Case(a.h5(a.external_link), "more data.h5"),
    "h5 external data": Case(a.h5(a.external_data), "more data.h5"),
    "h5 hollow data": Case(a.h5(a.hollow_data), "more data.h5"),
    "h5 truncated": Case(a.cut(a.shipped("lenet.h5"), 0.5), "lenet.h5"),
}
NAMES = {
    "name ../../": "../../../etc/passwd",
    "name with control characters": "\x1b]0;owned\x07\x1b[2J\x9b31m\r\nerror: fake\x00",
    "name right to left": "right\u202eleft\u2066",
    "name of 5,000 characters": "n" * 5000,
    "name HTML": "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
}
HARMLESS = {
    "small.onnx": Case(o.model(o.unchanged)),
    "data beside the model": Case(o.external("data.bin", o.beside)),
    "functions 2^3": Case(o.model(o.functions(3))),
    "200 nodes": Case(o.model(o.chain(200))),
    "Concat doubled twice": Case(o.model(o.doubling(2))),
    "ConstantOfShape 4": Case(o.model(_constant("ConstantOfShape", s=np.array([2, 2])))),
    "Expand 4": Case(o.model(_constant("Expand", **_expand(2, 2)))),
    "Range 4": Case(o.model(_constant("Range", a=np.array(0), b=np.array(4), c=np.array(1)))),
    "Pad 1": Case(o.model(_pad(1))),
    "sparse 4 x 4": Case(o.model(o.sparse_weight(4, 4))),
    "input 32": Case(o.model(o.input_shape("N", 3, 32, 32))),
    **{name: Case(o.model(o.renamed(text))) for name, text in NAMES.items()},
    "deep metadata": Case(o.model(o.metadata(convscope__preprocessing="[" * 10**5, convscope__names='{"a":' * 10**5))),
    "absurd metadata": Case(
        o.model(o.metadata(convscope__preprocessing={"size": [10**9, -1], "mean": [1e308]}, convscope__labels=[[]]))
    ),
    "deep config.json": Case(o.beside_it("config.json", b'{"pretrained_cfg":' + b"[" * 10**5)),
    "pipe config.json": Case(o.beside_it("config.json", None)),
    "absurd config.json": Case(o.beside_it("preprocessor_config.json", b'{"image_mean": [1e999], "size": 1000000000}')),
    "lenet.pt2": Case(a.pt2()),
    "weights.pt": Case(a.weights(), options=a.ARCH),
    "old weights.pt": Case(a.weights(new=False), options=a.ARCH),
    "weights.onnx": Case(a.weights("model.onnx"), options=a.ARCH),
    "weights.safetensors": Case(a.good_safetensors, options=a.ARCH),
    "lenet.keras": Case(a.keras_zip()),
    "compressed .keras": Case(a.keras_zip(a.padded(2**16), compression=8)),
    "lenet.h5": Case(a.shipped("lenet.h5")),
    "more data.h5": Case(a.h5(a.extra_data)),
}


def _paired(cases: dict[str, Case]) -> Pairs:
    """Each file with the harmless one that it names; those are the same for several."""
    return {
        name: Pair(case.build, HARMLESS[case.twin].build, case.options or HARMLESS[case.twin].options)
        for name, case in cases.items()
    }


# Every hostile file with its twin, by what it is about.
CORPUS: dict[str, Pairs] = {
    "not a model": _paired(NOT_A_MODEL),
    "external data": {**_paired(EXTERNAL), **f.PLACES},
    "ONNX: lies and structure": {**f.LIES, **f.STRUCTURE, **f.SIGNATURES},
    "ONNX: bombs": {**_paired(BOMBS), **f.OPERATORS},
    "ONNX: growth": hostile_growth_cases.PAIRS,
    "Torch": {**_paired(TORCH), **f.TORCH},
    "safetensors": f.SAFETENSORS,
    "Keras: descriptions": {**_paired(KERAS), **hostile_keras.CONFIGS},
    "Keras: zip": hostile_keras.ARCHIVES,
    "Keras: HDF5": hostile_keras.HDF5,
    "pictures": hostile_pictures.PICTURES,
}

# What the code in a file does when it is let loose: the canary must then sing, or its silence above means nothing.
CONTROLS = {
    "pickle in a state dict": Case(a.weights(extra=a.Canary()), options=(*a.ARCH, *TRUST)),
    "Keras Lambda": Case(a.keras_zip(a.edited(a.with_lambda)), options=TRUST),
}
