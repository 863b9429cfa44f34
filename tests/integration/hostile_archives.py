"""Hostile and broken Torch, safetensors and Keras files and their harmless twins, made from what ships."""

from __future__ import annotations

import base64
import io
import json
import marshal
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from convscope.models import catalog

Build = Callable[[Path], Path]
LENET = Path(catalog.__file__).parent / "lenet"
ARCH = ("--arch", f"{Path(__file__)}:build", "--image-size", "16")


def build() -> nn.Module:
    """What ``--arch`` names."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)).eval()


class Canary:
    """Unpickling it makes a folder of the name ``canary`` in the working folder."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("canary",)


# --- torch ---------------------------------------------------------------------------------------------------


def weights(name: str = "model.pt", new: bool = True, **extra: Any) -> Build:
    """A state dict with further entries."""

    def make(folder: Path) -> Path:
        torch.save({**build().state_dict(), **extra}, folder / name, _use_new_zipfile_serialization=new)
        return folder / name

    return make


def bare_pickle(name: str) -> Build:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(pickle.dumps(Canary()))
        return folder / name

    return make


def whole_module(folder: Path) -> Path:
    torch.save(build(), folder / "model.pt")
    return folder / "model.pt"


def torchscript(folder: Path) -> Path:
    torch.jit.trace(build(), torch.rand(1, 3, 16, 16)).save(str(folder / "model.pt"))
    return folder / "model.pt"


def archive(change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None, **options: Any) -> Build:
    """A torch zip with members changed or added."""

    def make(folder: Path) -> Path:
        weights("good.tmp")(folder)
        rezip(folder / "good.tmp", folder / "model.pt", change, extra, **options)
        (folder / "good.tmp").unlink()
        return folder / "model.pt"

    return make


def rezip(
    source: Path,
    target: Path,
    change: Callable[[str, bytes], bytes],
    extra: dict[str, bytes] | None = None,
    **options: Any,
) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, data in (extra or {}).items():
            new.writestr(name, data)


def same(name: str, data: bytes) -> bytes:
    return data


def short_storage(name: str, data: bytes) -> bytes:
    return data[:16] if name.endswith("/data/0") else data


def cut(make: Build, share: float) -> Build:
    """Another file, truncated."""

    def shorter(folder: Path) -> Path:
        path = make(folder)
        os.truncate(path, int(path.stat().st_size * share))
        return path

    return shorter


def safetensors(header: bytes | dict[str, Any], length: int | None = None, data: bytes = bytes(24)) -> Build:
    def make(folder: Path) -> Path:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        size = len(text) if length is None else length
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", size) + text + data)
        return folder / "model.safetensors"

    return make


def good_safetensors(folder: Path) -> Path:
    from safetensors.torch import save_file

    save_file(build().state_dict(), folder / "model.safetensors")
    return folder / "model.safetensors"


def pt2(extra: dict[str, bytes] | None = None, change: Callable[[str, bytes], bytes] = same) -> Build:
    """The shipped torch.export archive with members changed or added."""

    def make(folder: Path) -> Path:
        rezip(LENET / "lenet.pt2", folder / "model.pt2", change, extra)
        return folder / "model.pt2"

    return make


def wide_weights(name: str, data: bytes) -> bytes:
    """The archive's weights are said to be 2^20 wide on every axis."""
    if not name.endswith("model_weights_config.json"):
        return data
    config = json.loads(data)
    for entry in config["config"].values():
        entry["tensor_meta"]["sizes"] = [{"as_int": 2**20} for _ in entry["tensor_meta"]["sizes"]]
    return json.dumps(config).encode()


# --- Keras ---------------------------------------------------------------------------------------------------


def shipped(name: str) -> Build:
    def make(folder: Path) -> Path:
        return Path(shutil.copyfile(LENET / name, folder / f"model{Path(name).suffix}"))

    return make


def keras_zip(
    change: Callable[[str, bytes], bytes] = same, extra: dict[str, bytes] | None = None, **options: Any
) -> Build:
    def make(folder: Path) -> Path:
        rezip(LENET / "lenet.keras", folder / "model.keras", change, extra, **options)
        return folder / "model.keras"

    return make


def edited(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[str, bytes], bytes]:
    """Changes the layers in config.json."""
    return described(lambda config: change(config["config"]["layers"]))


def described(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    """Changes the whole of config.json."""

    def edit(name: str, data: bytes) -> bytes:
        if name != "config.json":
            return data
        config = json.loads(data)
        change(config)
        return json.dumps(config).encode()

    return edit


def set_layer(index: int, **values: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda layers: layers[index]["config"].update(values)


def lambda_layer() -> dict[str, Any]:
    """A Lambda that makes the folder ``canary`` when it runs."""

    def body(x: Any) -> Any:
        import os

        os.makedirs("canary", exist_ok=True)
        return x

    code = base64.b64encode(marshal.dumps(body.__code__)).decode()
    function = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    config = {"name": "evil", "trainable": True, "dtype": "float32", "function": function, "arguments": {}}
    return {"module": "keras.layers", "class_name": "Lambda", "config": config, "registered_name": None}


def with_lambda(layers: list[dict[str, Any]]) -> None:
    layers.insert(2, lambda_layer())


def system_call(layers: list[dict[str, Any]]) -> None:
    layers[1].update(module="os", class_name="system", registered_name=None, config={"command": "mkdir canary"})


def padded(count: int) -> Callable[[str, bytes], bytes]:
    """A config of so many blanks more, which compress to nothing."""
    return lambda name, data: data[:-1] + b" " * count + b"}" if name == "config.json" else data


def h5(spoil: Callable[[Any, Path], None]) -> Build:
    """The Keras 2 file, changed; ``spoil`` gets the open file and the folder."""

    def make(folder: Path) -> Path:
        import h5py

        path = shipped("lenet.h5")(folder)
        with h5py.File(path, "a") as file:
            spoil(file, folder)
        return path

    return make


def h5_config(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[Any, Path], None]:
    def spoil(file: Any, folder: Path) -> None:
        config = json.loads(file.attrs["model_config"])
        change(config["config"]["layers"])
        del file.attrs["model_config"]
        file.attrs["model_config"] = json.dumps(config)

    return spoil


def external_link(file: Any, folder: Path) -> None:
    import h5py

    file["model_weights/extra"] = h5py.ExternalLink("/etc/passwd", "/")


def external_data(file: Any, folder: Path) -> None:
    (folder / "raw.bin").write_bytes(bytes(64))
    file.create_dataset("model_weights/extra", (8,), "f8", external=[(str(folder / "raw.bin"), 0, 64)])


def hollow_data(file: Any, folder: Path) -> None:
    file.create_dataset("model_weights/extra", (2**20, 2**20), "f4")


def extra_data(file: Any, folder: Path) -> None:
    file.create_dataset("model_weights/extra", data=np.zeros((2, 2), np.float32))


def overlapped(folder: Path) -> Path:
    """Five directory entries that share one member's bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        new.writestr("config.json", b"{}")
        new.writestr("model.weights.h5", bytes(200_000))
        first = new.infolist()[1]
        for i in range(5):
            entry = zipfile.ZipInfo(f"assets/{i}")
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(entry, field, getattr(first, field))
            new.filelist.append(entry)
    (folder / "model.keras").write_bytes(buffer.getvalue())
    return folder / "model.keras"
