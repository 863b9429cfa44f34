"""Hostile Keras files by family: descriptions of networks (in both containers), zip archives, HDF5."""

from __future__ import annotations

import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import hostile_archives as a
from .hostile_onnx import Build, raw
from .hostile_pairs import Pair, Pairs, family

Config = dict[str, Any]
Change = Callable[[Config], None]


def nothing(_: Any) -> None:
    """The harmless change."""


# --- descriptions --------------------------------------------------------------------------------------------


def layer(kind: str, module: str = "keras.layers", /, **config: Any) -> Config:
    """A layer as a config describes it."""
    config = {"name": "added", **config}
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def inserted(made: Config) -> Change:
    """With one more layer behind conv1."""
    return lambda config: config["config"]["layers"].insert(2, made)


def in_layer(index: int, **values: Any) -> Change:
    """With other values in the config of one layer (0: input, 1: conv1, 2: relu1, 3: pool1, 8: dense1)."""
    return lambda config: config["config"]["layers"][index]["config"].update(values)


def sequential(*inner: Config) -> Config:
    return layer("Sequential", "keras", name=f"nested{len(inner)}", layers=list(inner))


def function(module: str, name: str) -> Config:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def nested_models(depth: int) -> Config:
    made = layer("ReLU", name="innermost")
    for i in range(depth):
        made = layer("Sequential", "keras", name=f"level{i}", layers=[made])
    return made


def _node(source: str, index: int) -> Config:
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 24, 24, 20], "dtype": "float32", "keras_history": [source, index, 0]},
    }
    return {"args": [tensor], "kwargs": {}}


def called_twice(depth: int) -> Config:
    """Models in each other, each of which calls the next twice: 2^depth calls in a few kilobytes."""
    made = layer("ReLU", name="f")
    for i in range(depth):
        name = made["config"]["name"]
        source = layer("InputLayer", name=f"in{i}", batch_shape=[None, 24, 24, 20], dtype="float32")
        inner = {**made, "name": name, "inbound_nodes": [_node(f"in{i}", 0), _node(name, 0)]}
        made = layer(
            "Functional",
            "keras.src.models.functional",
            name=f"twice{i}",
            layers=[{**source, "name": f"in{i}", "inbound_nodes": []}, inner],
            input_layers=[f"in{i}", 0, 0],
            output_layers=[name, 2 if i else 1, 0],
        )
        made["registered_name"] = "Functional"
    return made


def in_both(title: str, make: Callable[[Any], Change], values: dict[str, Any], harmless: Any) -> Pairs:
    """One change of the description in the zip of Keras 3 and in the HDF5 of Keras 2."""

    def in_zip(value: Any) -> Build:
        return a.keras_zip(a.described(make(value)))

    def in_h5(value: Any) -> Build:
        return a.h5(h5_described(make(value)))

    return {**family(f"keras {title}", in_zip, values, harmless), **family(f"h5 {title}", in_h5, values, harmless)}


def h5_described(change: Change) -> Callable[[Any, Path], None]:
    def spoil(file: Any, folder: Path) -> None:
        config = json.loads(file.attrs["model_config"])
        change(config)
        del file.attrs["model_config"]
        file.attrs["model_config"] = json.dumps(config)

    return spoil


def _set(key: str, value: Any) -> Change:
    return lambda config: config.update({key: value})


def _twice(index: int) -> Change:
    return lambda config: config["config"]["layers"].insert(index, config["config"]["layers"][index])


_BIG = 2**31
_CODE = {
    name: layer(name, filepath="/tmp", module="gASV", call_fn="f")
    for name in ("TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
}
_READERS = {
    name: layer(name, vocabulary="/etc/passwd", num_bins=4)
    for name in ("StringLookup", "IntegerLookup", "TextVectorization", "HashedCrossing")
}
_FUNCTIONS = {
    f"{module}.{name}": function(module, name)
    for module, name in (
        ("os", "os.system"),
        ("subprocess", "subprocess.Popen"),
        ("builtins", "builtins.eval"),
        ("builtins", "exec"),
        ("keras.utils", "get_file"),
        ("keras.config", "enable_unsafe_deserialization"),
        ("keras.models", "load_model"),
        ("shutil", "shutil.rmtree"),
        ("pickle", "pickle.loads"),
    )
}
CONFIGS: Pairs = {
    **in_both("class", inserted, _CODE, layer("Activation", activation="relu")),
    **in_both(
        "lambda in",
        inserted,
        {"a model": sequential(a.lambda_layer()), "a wrapper": layer("TimeDistributed", layer=a.lambda_layer())},
        sequential(layer("ReLU")),
    ),
    **in_both("reader", inserted, _READERS, layer("Rescaling", scale=1.0, offset=0.0)),
    **in_both("activation", lambda value: in_layer(1, activation=value), _FUNCTIONS, "relu"),
    **in_both(
        "foreign",
        lambda pair: in_layer(
            1,
            **{pair[0]: {"module": "os", "class_name": pair[1], "config": {"command": "mkdir canary"}}} if pair else {},
        ),
        {
            "initializer": ("kernel_initializer", "system"),
            "regularizer": ("kernel_regularizer", "popen"),
            "dtype": ("dtype", "system"),
        },
        None,
    ),
    **in_both(
        "input",
        lambda shape: in_layer(0, batch_shape=shape),
        {
            "2^40 channels": [None, 28, 28, 2**40],
            "-1": [None, -1, 28, 1],
            "28.5": [None, 28.5, 28, 1],
            "text": "28",
            "none": [],
        },
        [None, 28, 28, 1],
    ),
    **in_both(
        "conv1",
        lambda values: in_layer(1, **values),
        {
            "2^63 filters": {"filters": 2**63},
            "-1 filters": {"filters": -1},
            "text filters": {"filters": "many"},
            "2^20 kernel": {"kernel_size": [2**20, 2**20]},
            "0 stride": {"strides": [0, 0]},
            "2^20 dilation": {"dilation_rate": [2**20, 2**20]},
        },
        {"filters": 20, "strides": [1, 1]},
    ),
    **in_both("dense1 units", lambda units: in_layer(8, units=units), {"2^31": _BIG, "-5": -5}, 500),
    **in_both("pool1 size", lambda size: in_layer(3, pool_size=size), {"2^30": [2**30, 2**30], "0": [0, 0]}, [2, 2]),
    **in_both("UpSampling2D", lambda n: inserted(layer("UpSampling2D", size=[n, n])), {"2^15": 2**15}, 1),
    **in_both(
        "ZeroPadding2D", lambda n: inserted(layer("ZeroPadding2D", padding=[[n, n], [n, n]])), {"2^16": 2**16}, 0
    ),
    **in_both("Resizing", lambda n: inserted(layer("Resizing", height=n, width=n)), {"2^15": 2**15}, 24),
    **in_both("nested", inserted, {"150 models": nested_models(150)}, nested_models(3)),
    **in_both("called twice", inserted, {"30 deep": called_twice(30), "18 deep": called_twice(18)}, called_twice(2)),
    **in_both("twice", lambda index: _twice(index) if index else nothing, {"conv1": 1, "relu1": 2}, 0),
    **in_both(
        "name",
        lambda text: in_layer(2, name=text),
        {"of 1 MB": "n" * 10**6, "with /": "../../relu", "number": 7},
        "renamed",
    ),
    **in_both(
        "config",
        lambda value: nothing if value == "kept" else _set("config", value),
        {"null": None, "number": 7, "text": "x", "wrong": {"layers": 3}},
        "kept",
    ),
    **in_both(
        "class_name",
        lambda value: _set("class_name", value),
        {"number": 7, "unknown": "Sequencial", "list": []},
        "Sequential",
    ),
}


# --- the zip -------------------------------------------------------------------------------------------------


def text(value: bytes | None) -> Build:
    """config.json of these bytes; None: as it is, with blanks around it."""
    return a.keras_zip(
        lambda name, data: data if name != "config.json" else b" " + data + b"\n" if value is None else value
    )


def with_member(name: str) -> Build:
    return a.keras_zip(extra={name: b"x"})


def linked(name: str) -> Build:
    """A member that is a symbolic link; an empty name: none is."""

    def make(folder: Path) -> Path:
        path = a.keras_zip(extra={"assets/note.txt": b"/etc/passwd"})(folder)
        return rewritten(path, lambda entry: _link(entry) if entry.filename == name else None)

    return make


def _link(entry: zipfile.ZipInfo) -> None:
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16


def rewritten(path: Path, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """The archive with its directory's entries changed."""
    with zipfile.ZipFile(path) as old:
        members = [(entry, old.read(entry)) for entry in old.infolist()]
    with zipfile.ZipFile(path, "w") as new:
        for entry, data in members:
            new.writestr(entry, data)
        for entry in new.infolist():
            change(entry)
    return path


def lying(values: tuple[str, str, int] | None) -> Build:
    """A directory that lies about one member: (member, field, value)."""

    def lie(entry: zipfile.ZipInfo) -> None:
        if values is not None and entry.filename == values[0]:
            setattr(entry, values[1], values[2])

    return lambda folder: rewritten(a.keras_zip()(folder), lie)


def without(name: str) -> Build:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(a.LENET / "lenet.keras") as old, zipfile.ZipFile(folder / "model.keras", "w") as new:
            for member in old.namelist():
                if member != name:
                    new.writestr(member, old.read(member))
        return folder / "model.keras"

    return make


def doubled(name: str) -> Build:
    """A member twice; an empty name: a further asset."""

    def make(folder: Path) -> Path:
        path = a.keras_zip()(folder)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name or "assets/more.txt", b"{}")
        return path

    return make


def inflated(name: str, count: int) -> Build:
    """A member of so many zeros, compressed; config.json gets blanks."""
    if name == "config.json":
        return a.keras_zip(a.padded(count), compression=zipfile.ZIP_DEFLATED)
    return a.keras_zip(
        lambda member, data: bytes(count) if member == name and count > 2**20 else data,
        {} if name.endswith((".h5", ".json")) else {name: bytes(count)},
        compression=zipfile.ZIP_DEFLATED,
    )


def crowded(count: int) -> Build:
    def make(folder: Path) -> Path:
        path = a.keras_zip()(folder)
        with zipfile.ZipFile(path, "a") as archive:
            for i in range(count):
                archive.writestr(f"assets/{i}", b"")
        return path

    return make


def cut_zip(share: float) -> Build:
    return a.cut(a.keras_zip(), share) if share < 1 else a.keras_zip()


_ENCRYPTED = 0x1
ARCHIVES: Pairs = {
    **family(
        "zip member",
        with_member,
        {
            name: name
            for name in (
                "/etc/cron.d/x",
                "a/../../x",
                "C:\\x",
                "..\\x",
                "config.json.py",
                "run.sh",
                "assets/../../x",
                "__init__.py",
            )
        },
        "assets/note.txt",
    ),
    **family("zip link", linked, {name: name for name in ("assets/note.txt", "config.json", "model.weights.h5")}, ""),
    **family("zip twice", doubled, {name: name for name in ("config.json", "model.weights.h5")}, ""),
    **family("zip without", without, {name: name for name in ("config.json", "model.weights.h5")}, "assets/none"),
    **{
        f"zip bomb in {name}": Pair(inflated(name, 2**24), inflated(name, 100))
        for name in ("model.weights.h5", "metadata.json", "assets/a")
    },
    **family(
        "zip lie",
        lying,
        {
            "longer config": ("config.json", "file_size", 10**7),
            "shorter config": ("config.json", "file_size", 10),
            "config's checksum": ("config.json", "CRC", 1),
            "weights' checksum": ("model.weights.h5", "CRC", 1),
            "weights' place": ("model.weights.h5", "header_offset", 5),
            "unknown packing": ("config.json", "compress_type", 97),
            "encrypted": ("config.json", "flag_bits", _ENCRYPTED),
            "encrypted weights": ("model.weights.h5", "flag_bits", _ENCRYPTED),
            "weights of 2^40": ("model.weights.h5", "file_size", 2**40),
        },
        None,
    ),
    "zip of 110,000 members": Pair(crowded(110_000), crowded(3), is_long=True),
    **family("zip cut to", cut_zip, {f"{share:.1%}": share for share in (0.001, 0.3, 0.7, 0.999)}, 1.0),
    **family(
        "config.json",
        text,
        {
            "broken": b"{" * 1000,
            "deep": b'{"a":' * 10**5,
            "list": b"[]",
            "null": b"null",
            "no text": b"\xff\xfe\x00",
            "number of 10^5 digits": b'{"a":' + b"9" * 10**5 + b"}",
            "empty": b"",
        },
        None,
    ),
}


# --- HDF5 ----------------------------------------------------------------------------------------------------

Spoil = Callable[[Any, Path], None]


def link(kind: str) -> Build:
    """A link of a kind below the weights, or (hard) a second name of a group."""

    def spoil(file: Any, folder: Path) -> None:
        import h5py

        made = {
            "external": h5py.ExternalLink("/etc/passwd", "/"),
            "external, relative": h5py.ExternalLink("../x.h5", "/a"),
            "external, itself": h5py.ExternalLink("model.h5", "/"),
            "soft": h5py.SoftLink("/model_weights"),
            "soft, nowhere": h5py.SoftLink("/nowhere"),
            "soft, in a circle": h5py.SoftLink("/model_weights/extra"),
            "hard": file["model_weights/relu1"],
        }[kind]
        file["model_weights/extra"] = made

    return a.h5(spoil)


def at(place: str) -> Build:
    """An external link in this place; an empty one: none."""

    def spoil(file: Any, folder: Path) -> None:
        import h5py

        if place:
            if place in file:
                del file[place]
            file[place] = h5py.ExternalLink("/etc/passwd", "/")

    return a.h5(spoil)


def elsewhere(kind: str) -> Build:
    """A data set whose data lie in other files, or (here) in this one."""

    def spoil(file: Any, folder: Path) -> None:
        import h5py

        (folder / "raw.bin").write_bytes(bytes(64))
        names = {"relative": "raw.bin", "absolute": str(folder / "raw.bin"), "outside": "/etc/passwd"}
        if kind in names:
            file.create_dataset("model_weights/extra", (8,), "f8", external=[(names[kind], 0, 64)])
        elif kind == "two files":
            file.create_dataset(
                "model_weights/extra", (16,), "f8", external=[("raw.bin", 0, 64), ("/etc/passwd", 0, 64)]
            )
        elif kind.startswith("virtual"):
            layout = h5py.VirtualLayout((8,), "f8")
            layout[:] = h5py.VirtualSource("." if kind.endswith("itself") else "/etc/passwd", "model_weights/a", (8,))
            file.create_virtual_dataset("model_weights/extra", layout)
        else:
            a.extra_data(file, folder)

    return a.h5(spoil)


def stored(shape: tuple[int, ...], kind: Any = "f4", **options: Any) -> Build:
    """A data set without its data."""
    return a.h5(lambda file, _: file.create_dataset("model_weights/extra", shape, kind, **options))


def filtered(values: int, **options: Any) -> Build:
    """A data set of zeros behind a filter."""
    return a.h5(
        lambda file, _: file.create_dataset("model_weights/extra", data=np.zeros(values, np.float32), **options)
    )


def typed(kind: Any) -> Build:
    """conv1's kernel as values of another type; "f4": as they are."""

    def spoil(file: Any, folder: Path) -> None:
        import h5py

        group = file["model_weights/conv1/lenet/conv1"]
        values = group["kernel"][()]
        del group["kernel"]
        kinds = {
            "compound": np.dtype([("a", "f4"), ("b", "f4")]),
            "texts": h5py.string_dtype(),
            "opaque": np.dtype("V16"),
            "references": h5py.ref_dtype,
            "lists": h5py.vlen_dtype(np.float32),
            "arrays": np.dtype(("f4", (2, 2))),
        }
        if kind in kinds:
            group.create_dataset("kernel", values.shape, kinds[kind])
        elif kind == "another shape":
            group.create_dataset("kernel", data=values[..., :-1])
        elif kind == "a group":
            group.create_group("kernel")
        elif kind == "a name twice":
            group.create_dataset("kernel/kernel", data=values)
        elif kind == "nothing":
            group.create_dataset("kernel", data=h5py.Empty("f4"))
        else:
            group.create_dataset("kernel", data=values)

    return a.h5(spoil)


def attribute(where: str, name: str, value: Any) -> Build:
    """An attribute with another value; None: with the one it has."""

    def spoil(file: Any, folder: Path) -> None:
        held = file[where] if where else file
        old = held.attrs[name]
        del held.attrs[name]
        held.attrs[name] = old if value is None else value

    return a.h5(spoil)


def attributes(title: str, where: str, name: str, values: dict[str, Any]) -> Pairs:
    return family(title, lambda value: attribute(where, name, value), values, None)


def damaged(place: tuple[int, bytes] | float) -> Build:
    """Bytes overwritten at a place, or a share of the file."""

    def make(folder: Path) -> Path:
        path = a.shipped("lenet.h5")(folder)
        if isinstance(place, float):
            os.truncate(path, int(path.stat().st_size * place))
        else:
            with path.open("r+b") as file:
                file.seek(place[0])
                file.write(place[1])
        return path

    return make


def _bomb_config() -> bytes:
    return b'{"class_name": "Sequential", "config": {}, "pad": "' + b" " * (70 * 2**20) + b'"}'


_ZEROS = 2**21
HDF5: Pairs = {
    **family(
        "link",
        link,
        {
            kind: kind
            for kind in (
                "external",
                "external, relative",
                "external, itself",
                "soft",
                "soft, nowhere",
                "soft, in a circle",
            )
        },
        "hard",
    ),
    **family(
        "external link at",
        at,
        {
            place: place
            for place in (
                "model_weights/conv1/lenet/conv1/kernel",
                "optimizer_weights",
                "model_weights/conv1",
            )
        },
        "",
    ),
    **family(
        "data",
        elsewhere,
        {
            kind: kind
            for kind in (
                "relative",
                "absolute",
                "outside",
                "two files",
                "virtual",
                "virtual, itself",
            )
        },
        "here",
    ),
    "hollow 2^40 bytes": Pair(stored((2**40,), "i1"), stored((4,), "i1")),
    "hollow chunks": Pair(stored((2**20, 2**20), chunks=(64, 64)), stored((64, 64), chunks=(64, 64))),
    "hollow chunk of 2 GB": Pair(stored((2**20, 2**10), chunks=(2**19, 2**9)), stored((8, 8), chunks=(8, 8))),
    "hollow and growing": Pair(
        stored((2**31,), maxshape=(None,), chunks=(2**10,)), stored((8,), maxshape=(None,), chunks=(8,))
    ),
    "hollow arrays": Pair(stored((1,), np.dtype(("f4", (2**12, 2**12)))), stored((1,), np.dtype(("f4", (2, 2))))),
    "hollow texts": Pair(stored((2**36,), "S64"), stored((2,), "S64")),
    "gzip bomb": Pair(filtered(_ZEROS, compression="gzip"), filtered(64, compression="gzip")),
    "lzf bomb": Pair(filtered(_ZEROS, compression="lzf"), filtered(64, compression="lzf")),
    "shuffled bomb": Pair(
        filtered(_ZEROS, compression="gzip", shuffle=True), filtered(64, compression="gzip", shuffle=True)
    ),
    "checksummed bomb": Pair(
        filtered(_ZEROS, compression="gzip", fletcher32=True), filtered(64, compression="gzip", fletcher32=True)
    ),
    **family(
        "kernel of",
        typed,
        {
            kind: kind
            for kind in (
                "compound",
                "texts",
                "opaque",
                "references",
                "lists",
                "arrays",
                "another shape",
                "a group",
                "a name twice",
                "nothing",
            )
        },
        "f4",
    ),
    **attributes(
        "model_config of",
        "",
        "model_config",
        {
            "a number": 7,
            "numbers": np.zeros(1000),
            "70 MB": _bomb_config(),
            "nothing": "",
            "a list": "[]",
        },
    ),
    **attributes(
        "layer_names of",
        "model_weights",
        "layer_names",
        {
            "another": np.array([b"nowhere"] * 11),
            "one": np.array([b"conv1"]),
            "numbers": np.arange(11),
        },
    ),
    **attributes(
        "weight_names of",
        "model_weights/conv1",
        "weight_names",
        {
            "nowhere": np.array([b"../../nowhere", b"x"]),
            "another layer": np.array([b"/model_weights/conv2/lenet/conv2/kernel"] * 2),
        },
    ),
    **family("h5 cut to", damaged, {f"{share:.1%}": share for share in (0.001, 0.1, 0.3, 0.9, 0.999)}, 1.0),
    **family(
        "h5 with",
        damaged,
        {
            "superblock 9": (8, b"\x09"),
            "an end at 2^60": (40, struct.pack("<Q", 2**60)),
            "a root nowhere": (56, b"\xff" * 32),
            "noise in its tree": (96, np.random.default_rng(0).bytes(600)),
        },
        (0, b"\x89"),
    ),
}

# Found by fuzzing: HDF5's library goes round in it for ever. Looking into it ends after some seconds.
CIRCLE = Path(__file__).parents[1] / "seeds" / "keras-h5" / "circle"
HDF5["an HDF5 that goes in circles"] = Pair(raw(CIRCLE.read_bytes(), "model.h5"), a.shipped("lenet.h5"), is_long=True)
