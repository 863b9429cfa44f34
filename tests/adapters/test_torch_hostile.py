"""Torch files that would run code or exhaust the machine: refused in one line, nothing run; each harmless twin loads.

The canary is a file that the hostile pickle would write. A control shows that it does write it where pickle is let
loose, so that the tests cannot pass by a dud.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from convscope.adapters.torch.load import load_torch_file
from convscope.errors import ConvscopeError, RefusedInput, UnsafeFile

ARCH = f"{__file__}:build"


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)).eval()


class Canary:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.path,)


def good_weights(path: Path) -> None:
    torch.save(build().state_dict(), path)


def rezip(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], **options: Any) -> None:
    """A copy of a zip with members changed, or left out where ``change`` gives None."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)


def evil_state(path: Path, canary: Path) -> None:
    torch.save({**build().state_dict(), "extra": Canary(canary)}, path)


def evil_legacy(path: Path, canary: Path) -> None:
    torch.save({**build().state_dict(), "extra": Canary(canary)}, path, _use_new_zipfile_serialization=False)


def evil_raw(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(Canary(canary)))


def evil_checkpoint(path: Path, canary: Path) -> None:
    torch.save({"state_dict": build().state_dict(), "hyper_parameters": [Canary(canary)]}, path)


@pytest.mark.parametrize("make", [evil_state, evil_legacy, evil_raw, evil_checkpoint])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    make: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    path, canary = tmp_path / "weights.pt", tmp_path / "canary"
    make(path, canary)
    with pytest.raises(UnsafeFile, match="trust=True") as caught:
        load_torch_file(path, arch=ARCH)
    assert not canary.exists()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    with contextlib.suppress(RuntimeError):  # a bare pickle is no checkpoint, which torch finds out too late
        torch.load(path, weights_only=False)  # the control
    assert canary.exists()


class Saver:
    """Unpickling it writes a file, by a function of a library whose objects training keeps beside weights."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, list[int]]]:
        return np.save, (self.path, [1])


def test_objects_beside_the_weights_are_neither_made_nor_a_reason_to_refuse(tmp_path: Path) -> None:
    """As Lightning and others save: settings, NumPy's numbers and arrays, paths."""
    network, canary = build(), tmp_path / "canary.npy"
    beside = {
        "hyper_parameters": argparse.Namespace(lr=0.1, folder=Path("/tmp"), sizes=[1, 2]),
        "best": np.float64(0.9),
        "curve": np.arange(3.0),
        "counts": defaultdict(int, a=1),
        "hostile": Saver(canary),
    }
    torch.save({"state_dict": network.state_dict(), **beside}, tmp_path / "epoch.ckpt")
    exported = load_torch_file(tmp_path / "epoch.ckpt", arch=ARCH, size=(16, 16))
    stored = [numpy_helper.to_array(t) for t in exported.model.graph.initializer]
    assert any(np.array_equal(value, network[0].weight.detach().numpy()) for value in stored)  # type: ignore[union-attr]
    assert any("left unread" in note and "argparse.Namespace" in note for note in exported.notes)
    assert not canary.exists()
    torch.load(tmp_path / "epoch.ckpt", weights_only=False)  # the control
    assert canary.exists()


def test_the_same_weights_without_code_load(tmp_path: Path) -> None:
    good_weights(tmp_path / "weights.pt")
    torch.save(build().state_dict(), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    for name in ("weights.pt", "legacy.pt"):
        assert load_torch_file(tmp_path / name, arch=ARCH, size=(16, 16)).names


def test_a_pickled_module_is_refused_and_loads_when_trusted(tmp_path: Path) -> None:
    torch.save(build(), tmp_path / "module.pt")
    with pytest.raises(UnsafeFile, match=r"pickled Python objects \(torch.nn.modules.container.Sequential\)"):
        load_torch_file(tmp_path / "module.pt")
    assert load_torch_file(tmp_path / "module.pt", trust=True, size=(16, 16)).names


def test_torchscript_is_refused_and_loads_when_trusted(tmp_path: Path) -> None:
    torch.jit.trace(build(), torch.rand(1, 3, 16, 16)).save(str(tmp_path / "script.pt"))
    with pytest.raises(UnsafeFile, match="TorchScript"):
        load_torch_file(tmp_path / "script.pt")
    exported = load_torch_file(tmp_path / "script.pt", trust=True, size=(16, 16))
    assert any(n.op_type == "Conv" for n in exported.model.graph.node)


def test_a_view_with_more_elements_than_bytes_is_refused(tmp_path: Path) -> None:
    state = build().state_dict()
    state["0.weight"] = torch.zeros(1).expand(2**20, 2**20)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(UnsafeFile, match="has only 4 bytes behind it"):
        load_torch_file(tmp_path / "weights.pt", arch=ARCH)


def short_storage(name: str, data: bytes) -> bytes:
    return data[:16] if name.endswith("/data/0") else data


def test_a_storage_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    good_weights(tmp_path / "good.pt")
    rezip(tmp_path / "good.pt", tmp_path / "bad.pt", short_storage)
    with pytest.raises(RefusedInput, match="damaged Torch file"):
        load_torch_file(tmp_path / "bad.pt", arch=ARCH)


def test_a_compressed_record_is_refused(tmp_path: Path) -> None:
    good_weights(tmp_path / "good.pt")
    rezip(tmp_path / "good.pt", tmp_path / "bad.pt", lambda _, d: d, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeFile, match="compressed member"):
        load_torch_file(tmp_path / "bad.pt", arch=ARCH)
    rezip(tmp_path / "good.pt", tmp_path / "twin.pt", lambda _, d: d)
    assert load_torch_file(tmp_path / "twin.pt", arch=ARCH, size=(16, 16)).names


@pytest.mark.parametrize("member", ["../outside", "/absolute", "a/../../b", "C:/windows"])
def test_a_member_outside_the_archive_is_refused(tmp_path: Path, member: str) -> None:
    good_weights(tmp_path / "bad.pt")
    with zipfile.ZipFile(tmp_path / "bad.pt", "a") as archive:
        archive.writestr(member, b"x")
    with pytest.raises(UnsafeFile, match="outside its folder"):
        load_torch_file(tmp_path / "bad.pt", arch=ARCH)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float, legacy: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save(build().state_dict(), path, _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(RefusedInput) as caught:
        load_torch_file(path, arch=ARCH)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}',
        b'{"a":{"dtype":"X9","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":',
    ],
)
def test_a_lying_safetensors_header_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(RefusedInput):
        load_torch_file(path, arch=ARCH)


# --- torch.export archives -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "good.pt2"
    torch.export.save(torch.export.export(build(), (torch.rand(1, 3, 16, 16),)), path)
    return path


def edit_program(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    def edit(name: str, data: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return data
        program = json.loads(data)
        change(program)
        return json.dumps(program).encode()

    return edit


def call_system(program: dict[str, Any]) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def read_a_file(program: dict[str, Any]) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"


def evaluate(program: dict[str, Any]) -> None:
    values = program["graph_module"]["graph"]["tensor_values"]
    sizes = next(v for k, v in values.items() if v["sizes"])["sizes"]
    sizes[0] = {"as_expr": {"expr_str": "__import__('os').mkdir('canary')", "hint": {"as_int": 2}}}


def import_by_structure(program: dict[str, Any]) -> None:
    call = program["graph_module"]["module_call_graph"][0]["signature"]
    spec = json.loads(call["in_spec"])
    spec[1]["type"], spec[1]["context"] = "collections.defaultdict", '{"default_factory_module": "antigravity"}'
    call["in_spec"] = json.dumps(spec)


@pytest.mark.parametrize("change", [call_system, read_a_file, evaluate, import_by_structure])
def test_an_exported_program_that_reaches_beyond_tensors_is_refused(
    archive: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rezip(archive, tmp_path / "bad.pt2", edit_program(change))
    with pytest.raises(UnsafeFile) as caught:
        load_torch_file(tmp_path / "bad.pt2")
    assert "\n" not in str(caught.value) and not (tmp_path / "canary").exists()


def test_pickled_weights_in_an_exported_program_are_refused_and_do_not_run(archive: Path, tmp_path: Path) -> None:
    canary, payload = tmp_path / "canary", io.BytesIO()
    torch.save(Canary(canary), payload)

    def pickled(name: str, data: bytes) -> bytes:
        if name.endswith("model_weights_config.json"):
            config = json.loads(data)
            next(iter(config["config"].values()))["use_pickle"] = True
            return json.dumps(config).encode()
        return payload.getvalue() if name.endswith("weight_0") else data

    rezip(archive, tmp_path / "bad.pt2", pickled)
    with pytest.raises(UnsafeFile, match="pickled object"):
        load_torch_file(tmp_path / "bad.pt2")
    assert not canary.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011 - the control: torch's own loader runs it, then fails on the result
        torch.export.load(str(tmp_path / "bad.pt2"))
    assert canary.exists()


def test_sample_inputs_and_guards_are_never_read(archive: Path, tmp_path: Path) -> None:
    canary, payload = tmp_path / "canary", io.BytesIO()
    torch.save(((Canary(canary),), {}), payload)

    def poisoned(name: str, data: bytes) -> bytes:
        if name.endswith("sample_inputs/model.pt"):
            return payload.getvalue()
        return edit_program(lambda p: p.update(guards_code=[f"__import__('os').mkdir({str(canary)!r})"]))(name, data)

    rezip(archive, tmp_path / "odd.pt2", poisoned)
    exported = load_torch_file(tmp_path / "odd.pt2")
    assert not canary.exists() and any(n.op_type == "Conv" for n in exported.model.graph.node)


def test_compiled_code_in_an_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    rezip(archive, tmp_path / "bad.pt2", lambda _, d: d)
    with zipfile.ZipFile(tmp_path / "bad.pt2", "a") as file:
        file.writestr("good/data/aotinductor/model/model.so", b"\x7fELF")
    with pytest.raises(UnsafeFile, match="compiled code"):
        load_torch_file(tmp_path / "bad.pt2")


def test_weights_that_an_archive_does_not_hold_are_refused(archive: Path, tmp_path: Path) -> None:
    def enlarge(name: str, data: bytes) -> bytes:
        if not name.endswith("model_weights_config.json"):
            return data
        config = json.loads(data)
        meta = next(iter(config["config"].values()))["tensor_meta"]
        meta["sizes"] = [{"as_int": 2**20} for _ in meta["sizes"]]
        return json.dumps(config).encode()

    rezip(archive, tmp_path / "bad.pt2", enlarge)
    with pytest.raises(UnsafeFile, match="has only"):
        load_torch_file(tmp_path / "bad.pt2")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_archive_is_refused(archive: Path, tmp_path: Path, share: float) -> None:
    data = archive.read_bytes()
    (tmp_path / "bad.pt2").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ConvscopeError):
        load_torch_file(tmp_path / "bad.pt2")
