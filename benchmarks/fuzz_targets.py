"""What is fuzzed: for each reader of files its entry, small seeds, and how its inputs are changed.

Files that are archives are fuzzed from the inside: the input is a description (JSON, a pickle), and the archive is
packed around it, so that no change is lost on a checksum.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.fuzz_mutators import mutate_json, mutate_onnx

LENET = Path(__file__).resolve().parents[1] / "models" / "lenet"
INSTRUMENTED = [
    "convscope.adapters",
    "convscope.engine.pictures",
    "convscope.engine.graph",
    "zipfile",
    "PIL",
    "pickletools",
]
Mutator = Callable[[bytes, int, int], bytes]


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        run: the input and the path to write it to -> nothing, or an error.
        seeds: small inputs to start from.
        prepare: imports what `run` needs.
        suffix: of the file.
        mutate: changes an input with its structure kept; None: libFuzzer's own changes of bytes.
    """

    run: Callable[[bytes, Path], object]
    seeds: Callable[[], list[bytes]]
    prepare: Callable[[], object]
    suffix: str = ".onnx"
    mutate: Mutator | None = None


# --- ONNX ----------------------------------------------------------------------------------------------------


def _tiny_models() -> list[bytes]:
    from tests import tiny

    return [tiny.small_cnn().SerializeToString()]


def _some_models() -> list[bytes]:
    """Small networks of many operators: the harmless files of the tests."""
    import tempfile

    from tests.integration.hostile_growth_cases import PAIRS

    found = _tiny_models()
    with tempfile.TemporaryDirectory() as folder:
        for number, pair in enumerate(PAIRS.values()):
            (Path(folder) / str(number)).mkdir()
            found.append(pair.harmless(Path(folder) / str(number)).read_bytes())
    return [data for data in dict.fromkeys(found) if len(data) < 32_768]


def _sniff(data: bytes, path: Path) -> object:
    from convscope.adapters.formats import format_of

    path.write_bytes(data)
    return format_of(path)


def _sniffed() -> list[bytes]:
    heads = [path.read_bytes()[:2000] for path in LENET.iterdir() if path.suffix in (".h5", ".onnx", ".safetensors")]
    return [
        *heads,
        _zip({"config.json": b"{}", "metadata.json": b"{}"}),
        _zip({"a/data.pkl": b"\x80\x02."}),
        b"\x80\x02",
    ]


def _precheck(data: bytes, _: Path) -> object:
    from convscope.adapters.onnx.messages import check_messages
    from convscope.adapters.onnx.precheck import precheck
    from convscope.adapters.onnx.read import parse

    check_messages(data, "fuzz")
    return precheck(parse(data, "fuzz"), "fuzz")


def _normalize(data: bytes, path: Path) -> object:
    from convscope.adapters.load import load_here

    path.write_bytes(data)
    return load_here(path, check=False)


def _prepare_onnx() -> object:
    import convscope.adapters.formats
    import convscope.adapters.load
    import convscope.adapters.onnx.messages
    import convscope.adapters.onnx.read

    return convscope.adapters.load


# --- Keras ---------------------------------------------------------------------------------------------------


@cache
def _keras_members() -> dict[str, bytes]:
    with zipfile.ZipFile(LENET / "lenet.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _keras_config(data: bytes, path: Path) -> object:
    """The input is a config.json; Keras builds from it what the checks let through."""
    from convscope.adapters.keras.files import inspect_keras
    from convscope.adapters.keras.load import import_keras
    from convscope.adapters.keras.safe_load import load_model

    path.write_bytes(_zip({**_keras_members(), "config.json": data}))
    return load_model(import_keras(), path, inspect_keras(path), trust=False)


def _keras_archive(data: bytes, path: Path) -> object:
    from convscope.adapters.keras.files import inspect_keras

    path.write_bytes(data)
    return inspect_keras(path)


def _keras_archives() -> list[bytes]:
    members = _keras_members()
    small = {"config.json": b'{"config": {}}', "metadata.json": b"{}", "model.weights.h5": _small_h5("{}")}
    return [_zip(small), _zip({**small, "config.json": members["config.json"]})]


def _small_h5(config: str) -> bytes:
    import h5py
    import numpy as np

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="earliest") as file:
        file.attrs["model_config"] = config
        file.create_dataset("model_weights/conv/kernel", data=np.zeros((3, 2), np.float32))
        file.create_dataset("chunked", data=np.zeros((8, 8), np.float32), chunks=(4, 4), compression="gzip")
        file["linked"] = h5py.SoftLink("/model_weights")
    return buffer.getvalue()


def _keras_h5(data: bytes, path: Path) -> object:
    from convscope.adapters.keras.files import inspect_h5

    path.write_bytes(data)
    return inspect_h5(path)


def _prepare_keras() -> object:
    import convscope.adapters.keras.files
    from convscope.adapters.keras.load import import_keras

    return import_keras(), convscope.adapters.keras.files


def _configs() -> list[bytes]:
    return [_keras_members()["config.json"]]


# --- Torch ---------------------------------------------------------------------------------------------------


@cache
def _pt2_members() -> dict[str, bytes]:
    with zipfile.ZipFile(LENET / "lenet.pt2") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _pt2(data: bytes, path: Path) -> object:
    """The input is the program's JSON; what passes the checks is handed to torch.export.load."""
    import torch

    from convscope.adapters.archives import inspect_zip
    from convscope.adapters.torch.pt2 import harmless_copy
    from convscope.errors import RefusedInput

    members = _pt2_members()
    name = next(n for n in members if n.endswith("models/model.json"))
    path.write_bytes(_zip({**members, name: data}))
    copy = harmless_copy(inspect_zip(path, stored=True))
    try:
        return torch.export.load(io.BytesIO(copy))
    except Exception as error:
        raise RefusedInput("refused by torch") from RefusedInput(str(error))


def _programs() -> list[bytes]:
    return [next(data for name, data in _pt2_members().items() if name.endswith("models/model.json"))]


def _safetensors(data: bytes, path: Path) -> object:
    from convscope.adapters.torch.files import read_state

    path.write_bytes(data)
    return read_state(path, "safetensors")


def _headers() -> list[bytes]:
    import numpy as np
    from safetensors.numpy import save

    return [save({"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.int64)}), save({}), b"\x02\0\0\0\0\0\0\0{}"]


def _pickle(data: bytes, path: Path) -> object:
    from convscope.adapters.torch.files import read_state

    path.write_bytes(_zip({"archive/data.pkl": data, "archive/data/0": bytes(64), "archive/version": b"3\n"}))
    return read_state(path, "torch-zip")


def _pickles() -> list[bytes]:
    import torch

    found = []
    for value in ({"w": torch.zeros(2, 3)}, {"state_dict": {"w": torch.zeros(4)}, "epoch": 3, "list": [1, (2, "a")]}):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        with zipfile.ZipFile(buffer) as archive:
            found.append(archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl"))))
    return found


def _prepare_torch() -> object:
    import torch.export

    import convscope.adapters.torch.files
    import convscope.adapters.torch.pt2

    return convscope.adapters.torch, torch.export


# --- pictures ------------------------------------------------------------------------------------------------


def _picture(data: bytes, path: Path) -> object:
    from convscope.engine.pictures.read import read_image

    path.write_bytes(data)
    return read_image(path)


def _pictures() -> list[bytes]:
    import numpy as np
    from PIL import Image

    pixels = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)
    found = []
    for mode in ("RGB", "RGBA", "P", "L", "1", "I;16", "CMYK"):
        image = (
            Image.fromarray(pixels).convert("L").convert("I;16")
            if mode == "I;16"
            else Image.fromarray(pixels).convert(mode)
        )
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
            buffer = io.BytesIO()
            try:
                image.save(buffer, kind)
            except (OSError, KeyError, ValueError):
                continue
            found.append(buffer.getvalue())
    return found


def _prepare_pictures() -> object:
    from PIL import Image

    import convscope.engine.pictures.read

    Image.init()
    return convscope.engine.pictures.read


TARGETS: dict[str, Target] = {
    "sniff": Target(_sniff, _sniffed, _prepare_onnx),
    "precheck": Target(_precheck, _some_models, _prepare_onnx, mutate=mutate_onnx),
    "normalize": Target(_normalize, _some_models, _prepare_onnx, mutate=mutate_onnx),
    "keras": Target(_keras_config, _configs, _prepare_keras, ".keras", mutate_json),
    "keras-zip": Target(_keras_archive, _keras_archives, _prepare_keras, ".keras"),
    "keras-h5": Target(_keras_h5, lambda: [_small_h5("{}"), _small_h5('{"config": {}}')], _prepare_keras, ".h5"),
    "pt2": Target(_pt2, _programs, _prepare_torch, ".pt2", mutate_json),
    "safetensors": Target(_safetensors, _headers, _prepare_torch, ".safetensors"),
    "pickles": Target(_pickle, _pickles, _prepare_torch, ".pt"),
    "pictures": Target(_picture, _pictures, _prepare_pictures, ".png"),
}  # fmt: skip
