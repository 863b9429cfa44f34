"""Keras files that would run code, leave their folder or exhaust the machine: refused in one line, nothing run."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import resource
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

import h5py

from convscope.adapters.keras import files
from convscope.adapters.keras.load import import_keras, load_keras_file
from convscope.errors import RefusedInput, UnsafeFile
from tests.integration.hostile_archives import described

keras = import_keras()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(2, 3, name="conv"), layers.Flatten(), layers.Dense(2)]
    )
    model.save(folder / "good.keras")
    model.save(folder / "good.h5")
    return folder


def rezip(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], **options: Any) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The archive with its config changed."""
    return rezip(source, target, described(change))


def refused(path: Path, kind: type[RefusedInput] = UnsafeFile, **options: Any) -> str:
    """The message of the refusal: one line, within ten seconds."""
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        load_keras_file(path, **options)
    assert time.monotonic() - started < 10
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


def test_the_harmless_twins_load(good: Path) -> None:
    for name in ("good.keras", "good.h5"):
        assert "conv" in load_keras_file(good / name).names.values()


# --- code ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_is_refused_and_runs_only_when_trusted(tmp_path: Path, suffix: str) -> None:
    canary = tmp_path / "canary"
    body = eval(f"lambda x: (__import__('os').makedirs({str(canary)!r}, exist_ok=True), x)[1]")
    shape = (8, 8, 3)
    layers = [keras.Input(shape), keras.layers.Conv2D(2, 3), keras.layers.Lambda(body, output_shape=(6, 6, 2))]
    path = tmp_path / f"lambda.{suffix}"
    keras.Sequential(layers).save(path)
    if canary.exists():
        canary.rmdir()
    assert "Lambda" in refused(path)
    assert not canary.exists()
    load_keras_file(path, trust=True)  # the control
    assert canary.exists()


def set_layer(name: str, module: str, config: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    def change(model: dict[str, Any]) -> None:
        layer = model["config"]["layers"][1]
        layer.update(module=module, class_name=name, registered_name=None)
        layer["config"].update(config)

    return change


def set_activation(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda model: model["config"]["layers"][1]["config"].update(activation=value)


@pytest.mark.parametrize(
    "change",
    [
        set_layer("system", "os", {"command": "true"}),
        set_layer("Popen", "subprocess", {"args": ["true"]}),
        set_layer("TFSMLayer", "keras.layers", {"filepath": "/tmp"}),
        set_layer("TorchModuleWrapper", "keras.layers", {"module": "gASV"}),
        set_layer("StringLookup", "keras.layers", {"vocabulary": "/etc/passwd"}),
        set_layer("TextVectorization", "keras.layers", {"vocabulary": "/etc/passwd"}),
        set_layer("MyLayer", "my_package.layers", {}),
        set_activation(
            {"module": "builtins", "class_name": "function", "config": "os.system", "registered_name": None}
        ),
        set_activation({"module": "builtins", "class_name": "__lambda__", "config": {"value": "4wAAAA"}}),
    ],
)
def test_a_config_that_names_anything_but_keras_building_blocks_is_refused(
    good: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    refused(edited(good / "good.keras", tmp_path / "bad.keras", change))


@pytest.mark.parametrize(
    "function",
    ["enable_unsafe_deserialization", "get_file", "load_model", "system"],
)
def test_a_function_of_keras_that_is_no_activation_is_refused(good: Path, tmp_path: Path, function: str) -> None:
    for module in ("keras.config", "builtins"):
        value = {"module": module, "class_name": "function", "config": function, "registered_name": function}
        refused(edited(good / "good.keras", tmp_path / "bad.keras", set_activation(value)), RefusedInput)
    assert keras.src.saving.serialization_lib.in_safe_mode() is not False


# --- zip -------------------------------------------------------------------------------------------------------


def bomb(name: str, data: bytes) -> bytes:
    return data[:-1] + b" " * 2**28 + b"}" if name == "config.json" else data


def padded(name: str, data: bytes) -> bytes:
    return data[:-1] + b" " * 2**16 + b"}" if name == "config.json" else data


def test_a_config_that_unpacks_to_256_mib_is_refused_unread(good: Path, tmp_path: Path) -> None:
    path = rezip(good / "good.keras", tmp_path / "bomb.keras", bomb, compression=zipfile.ZIP_DEFLATED)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "zip bomb" in refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # KiB
    twin = rezip(good / "good.keras", tmp_path / "twin.keras", padded, compression=zipfile.ZIP_DEFLATED)
    assert load_keras_file(twin).names


@pytest.mark.parametrize("member", ["../outside", "/absolute", "assets/../../x", "payload.py"])
def test_an_unexpected_member_is_refused(good: Path, tmp_path: Path, member: str) -> None:
    path = rezip(good / "good.keras", tmp_path / "bad.keras", lambda _, d: d)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"x")
    refused(path)


@pytest.mark.parametrize("missing", ["model.weights.h5"])
def test_an_archive_without_weights_is_refused(good: Path, tmp_path: Path, missing: str) -> None:
    path = rezip(good / "good.keras", tmp_path / "bad.keras", lambda n, d: None if n == missing else d)
    refused(path, RefusedInput)


@pytest.mark.parametrize("name", ["good.keras", "good.h5"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(good: Path, tmp_path: Path, name: str, share: float) -> None:
    data = (good / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, RefusedInput)


@pytest.mark.parametrize("text", [b"{", b"[]", b"[" * 100_000, b"\xff\xfe"])
def test_a_config_that_is_no_json_is_refused(good: Path, tmp_path: Path, text: bytes) -> None:
    path = rezip(good / "good.keras", tmp_path / "bad.keras", lambda n, d: text if n == "config.json" else d)
    refused(path, RefusedInput)


# --- sizes -----------------------------------------------------------------------------------------------------


def set_config(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda model: model["config"]["layers"][1]["config"].update(values)


def test_weights_that_the_file_cannot_hold_are_refused_before_they_are_allocated(good: Path, tmp_path: Path) -> None:
    path = edited(good / "good.keras", tmp_path / "bad.keras", set_config(filters=2**31))
    assert "the file holds only" in refused(path)


def test_an_absurd_input_shape_is_refused(good: Path, tmp_path: Path) -> None:
    def change(model: dict[str, Any]) -> None:
        model["config"]["layers"][0]["config"]["batch_shape"] = [None, 2**30, 2**30, 3]

    assert "absurd" in refused(edited(good / "good.keras", tmp_path / "bad.keras", change))


def test_an_absurd_activation_is_refused(tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3), layers.UpSampling2D(2), layers.Flatten()])
    model.save(tmp_path / "good.keras")

    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][2]["config"]["size"] = [100_000, 100_000]

    assert "absurd output shape" in refused(edited(tmp_path / "good.keras", tmp_path / "bad.keras", change))


# --- HDF5 ------------------------------------------------------------------------------------------------------


def external_link(file: Any, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = np.zeros(3)
    del file["model_weights/conv"]
    file["model_weights/conv"] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")


def soft_link(file: Any, folder: Path) -> None:
    file["model_weights/extra"] = h5py.SoftLink("/model_weights/conv")


def external_data(file: Any, folder: Path) -> None:
    (folder / "raw.bin").write_bytes(bytes(64))
    file.create_dataset("model_weights/extra", (8,), "f8", external=[(str(folder / "raw.bin"), 0, 64)])


def virtual_data(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", (3,))
    file.create_virtual_dataset("model_weights/extra", layout)


def hollow_data(file: Any, folder: Path) -> None:
    file.create_dataset("model_weights/extra", (2**20, 2**20), "f4")


@pytest.mark.parametrize("spoil", [external_link, soft_link, external_data, virtual_data, hollow_data])
def test_data_outside_the_file_is_refused(good: Path, tmp_path: Path, spoil: Callable[[Any, Path], None]) -> None:
    path = tmp_path / "bad.h5"
    path.write_bytes((good / "good.h5").read_bytes())
    with h5py.File(path, "a") as file:
        spoil(file, tmp_path)
    refused(path)


def test_a_link_inside_the_weights_of_an_archive_is_refused_too(good: Path, tmp_path: Path) -> None:
    def spoil(name: str, data: bytes) -> bytes:
        if name != "model.weights.h5":
            return data
        buffer = io.BytesIO(data)
        with h5py.File(buffer, "a") as file:
            file["extra"] = h5py.ExternalLink("/etc/passwd", "/")
        return buffer.getvalue()

    refused(rezip(good / "good.keras", tmp_path / "bad.keras", spoil))


def test_a_group_that_holds_itself_does_not_hang(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "loop.h5"
    path.write_bytes((good / "good.h5").read_bytes())
    with h5py.File(path, "a") as file:
        file["model_weights/again"] = file["model_weights"]
    assert load_keras_file(path).names


def test_an_old_model_with_an_unknown_class_names_it(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "custom.h5"
    path.write_bytes((good / "good.h5").read_bytes())
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"Conv2D"', '"HisOwnConv"')
    assert "HisOwnConv" in refused(path, RefusedInput)


def test_nothing_of_this_needed_tensorflow() -> None:
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", ["good.keras", "good.h5"])
def test_looking_into_a_file_is_bounded_by_its_size(name: str, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 goes round for ever in some files; weights in a zip are unpacked."""
    allowed: list[float] = []

    def at_a_glance(seconds: float) -> contextlib.AbstractContextManager[None]:
        allowed.append(seconds)
        return contextlib.nullcontext()

    monkeypatch.setattr(files, "at_a_glance", at_a_glance)
    files.inspect(good / name)
    size = (good / name).stat().st_size
    assert allowed == [pytest.approx(3 + 60 * size / 2**30)]
