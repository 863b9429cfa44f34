"""Torch files whose bytes are few and whose contents are not: refused before torch makes anything of them."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.adapters.torch.files import read_state
from convscope.adapters.torch.pickles import check_pickle
from convscope.adapters.torch.pt2 import _check_expression, _check_size
from convscope.errors import RefusedInput, UnsafeFile


def _shared_tuples(depth: int) -> bytes:
    value: tuple[Any, ...] = ()
    for _ in range(depth):
        value = (value, value)
    return pickle.dumps(value, protocol=2)[2:-1]


BOMBS = {
    "a key of 60 nested tuples": b"\x80\x02}" + _shared_tuples(60) + b"K\x01s.",
    "a million empty lists": b"\x80\x02" + b"]0" * 1_100_000 + b"N.",
    "bytearray": b"\x80\x02cbuiltins\nbytearray\n(J\x00\x00\x00\x70tR.",
    "bytearray by another opcode": b"\x80\x04\x8c\x08builtins\x8c\x09bytearray\x93J\x00\x00\x00\x70\x85R.",
}
HARMLESS = {
    "a key of 3 nested tuples": b"\x80\x02}" + _shared_tuples(3) + b"K\x01s.",
    "a thousand empty lists": b"\x80\x02" + b"]0" * 1000 + b"N.",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_unfold_is_refused_unread(name: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", BOMBS[name])
    else:
        path.write_bytes(BOMBS[name])
    with pytest.raises(UnsafeFile, match="its pickle") as caught:
        read_state(path, "torch-zip" if zipped else "torch-legacy")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", HARMLESS)
def test_its_harmless_twin_passes(name: str, tmp_path: Path) -> None:
    check_pickle(HARMLESS[name], tmp_path)


@pytest.mark.parametrize("new", [True, False])
def test_weights_as_torch_writes_them_pass(new: bool, tmp_path: Path) -> None:
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.BatchNorm2d(3)).state_dict()
    kept = {"state_dict": state, "epoch": 3, "shared": [state, state]}
    torch.save(kept, tmp_path / "model.pt", _use_new_zipfile_serialization=new)
    assert len(read_state(tmp_path / "model.pt", "torch-zip" if new else "torch-legacy")[0]) == len(state)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        check_pickle(b"\x80\x02" + data, Path("model.pt"))
    except RefusedInput as error:
        assert str(error).isprintable()


def test_a_safetensors_header_of_too_many_tensors_is_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    for count in (3, 150_000):
        header = json.dumps({f"w{i}": entry for i in range(count)}).encode()
        (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        if count == 3:
            assert len(read_state(tmp_path / "model.safetensors", "safetensors")[0]) == 3
        else:
            with pytest.raises(UnsafeFile, match=r"150,000 tensors|100,001|at most"):
                read_state(tmp_path / "model.safetensors", "safetensors")


@pytest.mark.parametrize(
    "text", ["9**9**9", "Pow(9, 999999999)", "1<<99999999999", "s0**99", "Pow(Pow(s0, 9), 9)", "s0 >> 1", "9** 9"]
)
def test_an_expression_that_never_ends_is_refused(text: str) -> None:
    with pytest.raises(UnsafeFile, match="size expression"):
        _check_expression(text, Path("model.pt2"))


@pytest.mark.parametrize("text", ["2*s0 + 1", "s0**2", "Pow(s0, 2)", "Pow(Symbol('s0', integer=True), Integer(2))"])
def test_an_expression_of_sizes_passes(text: str) -> None:
    _check_expression(text, Path("model.pt2"))


def _call(target: str, *arguments: dict[str, Any]) -> dict[str, Any]:
    return {"target": f"torch.ops.aten.{target}", "inputs": [{"arg": argument} for argument in arguments]}


REFUSED: list[dict[str, Any]] = [
    _call("full.default", {"as_ints": [2**17, 2**17]}, {"as_float": 1.0}),
    _call("arange.default", {"as_int": 2**34}),
    _call("resize_.default", {"as_tensor": {"name": "x"}}, {"as_ints": [2**34]}),
    _call("expand.default", {"as_tensor": {"name": "x"}}, {"as_ints": [2**20, 2**20, -1]}),
    _call("repeat.default", {"as_tensor": {"name": "x"}}, {"as_sym_ints": [{"as_int": 2**20}, {"as_int": 2**20}]}),
]


@pytest.mark.parametrize("node", REFUSED, ids=lambda node: node["target"])
def test_a_call_that_makes_an_absurd_tensor_is_refused(node: dict[str, Any]) -> None:
    with pytest.raises(UnsafeFile):
        _check_size(node, Path("model.pt2"))


@pytest.mark.parametrize(
    "node",
    [_call("full.default", {"as_ints": [8, 8]}), _call("slice.Tensor", {"as_int": 0}, {"as_int": 2**63 - 1})],
    ids=lambda node: node["target"],
)
def test_a_call_of_usual_sizes_passes(node: dict[str, Any]) -> None:
    check: Callable[[dict[str, Any], Path], None] = _check_size
    check(node, Path("model.pt2"))
