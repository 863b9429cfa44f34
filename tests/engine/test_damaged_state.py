"""State that a power cut or a hand has changed is found and done again; nothing waits, nothing is written elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convscope import load
from convscope.engine.activations import statistics, topk
from convscope.engine.activations.statistics import UnitStatistics, restore_states, save_states
from convscope.engine.activations.topk import TopImages
from convscope.engine.ascent.album import MANIFEST, Album
from convscope.engine.ascent.results import OK, UnitResult
from convscope.engine.graph.layers import Layer
from convscope.engine.locks import locked
from convscope.engine.render.artifacts import read_regular, save_npz, sha256_of, to_json, write_text
from convscope.errors import DamagedState, RefusedInput, UsageError

LAYER: Any = SimpleNamespace(name="conv", channels=3, index=0)


def _top(path: Path) -> TopImages:
    state = TopImages.empty(LAYER, 2, "whose")
    state.add(["a.png", "b.png"], np.array([[1.0, 2, 3], [3, 2, 1]], np.float32), np.zeros((2, 3), np.int64))
    state.save(path)
    return state


def _stats(path: Path) -> None:
    save_states(path, "whose", ["a.png"], [UnitStatistics.empty(LAYER)])


def _cut_or_flipped(data: bytes) -> list[bytes]:
    """What a power cut leaves: nothing, parts, zeros in place of blocks; and a few flipped bits."""
    rng = random.Random(0)
    parts = [data[: rng.randrange(len(data))] for _ in range(20)]
    holes = [data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :] for at in rng.sample(range(len(data)), 20)]
    flips = [data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] for at in rng.sample(range(len(data)), 20)]
    return [b"", bytes(len(data)), *parts, *holes, *flips]


def test_any_damage_to_the_state_of_stats_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    _stats(path)
    whole = path.read_bytes()
    restored = restore_states(path, "whose", [LAYER])
    for data in _cut_or_flipped(whole):
        path.write_bytes(data)
        try:
            found = restore_states(path, "whose", [LAYER])
        except DamagedState:
            continue
        assert found[0] == restored[0]  # a byte of the zip file that nothing depends on
        assert (found[1][0].largest == restored[1][0].largest).all()


def test_any_damage_to_the_state_of_top_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    _top(path)
    whole = path.read_bytes()
    for data in _cut_or_flipped(whole):
        if data != whole:
            path.write_bytes(data)
            with pytest.raises(DamagedState, match="holds no state of convscope top"):
                TopImages.restore(path)


@pytest.mark.parametrize("change", [{"k": 3}, {"places": [[-1, 0]] * 3}, {"done": ["c.png"]}, {"values": [[9, 9]] * 3}])
def test_an_edited_state_of_top_is_found(change: dict[str, Any], tmp_path: Path) -> None:
    _top(tmp_path / "state.json")
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({**state, **change}))
    with pytest.raises(DamagedState):
        TopImages.restore(tmp_path / "state.json")


STATS: list[dict[str, np.ndarray]] = [
    {"done": np.array(5)}, {"done": np.array([["a.png"]])}, {"0/images": np.array(-1)}, {"0/largest": np.zeros(2)},
    {"0/exact": np.array([[b"x"] * 3] * 5)}, {"0/exact": np.array([b"1"])}, {"0/histogram": np.zeros((3, 3), np.int64)},
    {"0/recent": np.zeros((10, 2))}, {"0/nans": np.zeros(3)},
]  # fmt: skip


@pytest.mark.parametrize("change", STATS, ids=str)
def test_a_state_of_stats_that_was_edited_with_its_sum_is_found(change: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    _stats(path)
    arrays = {**dict(np.load(path)), **change}
    del arrays["sha256"]
    save_npz(path, {**arrays, "sha256": np.array(statistics._sum(arrays))})
    with pytest.raises(DamagedState, match="holds no state"):
        restore_states(path, "whose", [LAYER])


TOP: list[dict[str, Any]] = [
    {"k": "2"}, {"k": 1}, {"values": [[1.0]]}, {"values": [["x", "x"]] * 3}, {"images": [["c.png", ""]] * 3},
    {"done": [["a"]]}, {"unknown": {"a.png": "zz"}}, {"unknown": {"a.png": "0000"}}, {"places": [[-1, 0]] * 3},
]  # fmt: skip


@pytest.mark.parametrize("change", TOP, ids=str)
def test_a_state_of_top_that_was_edited_with_its_sum_is_found(change: dict[str, Any], tmp_path: Path) -> None:
    _top(tmp_path / "state.json")
    state = {**json.loads((tmp_path / "state.json").read_text()), **change}
    del state["sha256"]
    (tmp_path / "state.json").write_text(json.dumps({**state, "sha256": topk._sum(state)}))
    with pytest.raises(DamagedState):
        TopImages.restore(tmp_path / "state.json")


def test_places_outside_a_map_and_units_that_a_layer_has_not_do_not_suit_it(tmp_path: Path) -> None:
    layer = Layer(0, "conv", "t", "n", "Conv", 3, (None, 3, 4, 4), 1, None, 0, 0)
    state = _top(tmp_path / "state.json")
    assert state.suits(layer)
    assert not state.suits(replace(layer, channels=4))
    state.places[0, 0] = 16
    assert not state.suits(layer)


def _result(unit: int) -> UnitResult:
    picture = np.full((4, 4, 3), unit / 10, np.float32)
    return UnitResult(unit, picture, picture, (0.0, 1.0), 0.0, 1.0, 1.0, OK, "")


def _album(folder: Path) -> Album:
    return Album(folder, "whose", {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    album = _album(tmp_path / "album")
    for unit in range(3):
        album.add(_result(unit))
    return tmp_path / "album"


def test_an_album_as_it_was_written_is_kept(folder: Path) -> None:
    assert sorted(_album(folder).records) == [0, 1, 2]


def test_swapped_cut_and_foreign_pictures_are_made_again(folder: Path) -> None:
    first, second = folder / "unit-0000.png", folder / "starts" / "unit-0001.png"
    data = first.read_bytes()
    first.write_bytes((folder / "unit-0002.png").read_bytes())
    second.write_bytes(second.read_bytes()[:-1])
    assert sorted(_album(folder).records) == [2]
    first.write_bytes(data)


@pytest.mark.parametrize("words", [('"activation_end":1.0', '"activation_end":2.0'), ('"strip":0', '"strip":1')])
def test_an_edited_line_is_made_again(words: tuple[str, str], folder: Path) -> None:
    manifest = folder / MANIFEST
    text = manifest.read_text().replace(", ", ",").replace(": ", ":")
    assert words[0] in text
    manifest.write_text(text.replace(words[0], words[1], 1))
    assert len(_album(folder).records) == 2


def test_a_list_whose_first_line_is_lost_is_called_damaged_and_not_of_other_settings(folder: Path) -> None:
    manifest = folder / MANIFEST
    manifest.write_bytes(bytes(len(manifest.read_bytes())))  # as a power failure leaves it
    with pytest.raises(DamagedState, match=r"damaged in its first line; force=True begins anew"):
        _album(folder)
    assert Album(folder, "whose", {}, force=True).records == {}


def test_a_pipe_under_a_pictures_or_the_lists_name_is_not_waited_for(folder: Path) -> None:
    (folder / "unit-0000.png").unlink()
    os.mkfifo(folder / "unit-0000.png")
    assert sorted(_album(folder).records) == [1, 2]
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)
    with pytest.raises(Exception, match="not a regular file"):
        _album(folder)
    with pytest.raises(OSError, match="not a regular file"):
        read_regular("/dev/zero")


@pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="files of Linux")
def test_what_has_no_end_has_no_sum(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="not a regular file"):
            sha256_of(path)
    with contextlib.suppress(PermissionError):
        assert sha256_of("/proc/self/pagemap") == hashlib.sha256().hexdigest()  # a file of no bytes, says the system
    with pytest.raises(RefusedInput, match="is empty"):
        load("/proc/self/pagemap")


def test_nothing_is_written_through_a_folder_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "starts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="starts is a link"):
        _album(tmp_path / "fresh").add(_result(0))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_no_run_writes_through_a_link_inside_its_folder_but_through_one_that_is_its_folder(tmp_path: Path) -> None:
    for name in ("own", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "given").symlink_to(tmp_path / "own")
    (tmp_path / "own" / "inner").symlink_to(tmp_path / "elsewhere")
    with locked(tmp_path / "given"):
        write_text(tmp_path / "given" / "a.txt", "text")
        write_text(tmp_path / "given" / "deep" / "b.txt", "text")
        with pytest.raises(UsageError, match="inner is a link"):
            write_text(tmp_path / "given" / "inner" / "deep" / "c.txt", "text")
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == ["a.txt", "deep", "inner"]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_album_is_read_without_being_written_and_put_right_with_its_next_unit(folder: Path) -> None:
    manifest = folder / MANIFEST
    manifest.write_text(manifest.read_text() + '{"unit": 7, "cut')
    before = manifest.read_bytes()
    album = _album(folder)
    assert manifest.read_bytes() == before
    album.add(_result(3))
    assert sorted(_album(folder).records) == [0, 1, 2, 3]
    assert all(json.loads(line) for line in manifest.read_text().splitlines())


def test_a_picture_of_an_album_that_has_its_sum_and_is_none_of_ours_is_made_again(folder: Path) -> None:
    huge = bytearray((folder / "unit-0001.png").read_bytes())
    huge[16:24] = (20_000).to_bytes(4, "big") * 2
    (folder / "unit-0001.png").write_bytes(huge)
    lines = (folder / MANIFEST).read_text().splitlines()
    record = json.loads(lines[2])
    del record["sha256"]
    found = hashlib.sha256(to_json(record, indent=None).encode())
    for name in ("unit-0001.png", "starts/unit-0001.png"):
        found.update(hashlib.sha256((folder / name).read_bytes()).digest())
    lines[2] = json.dumps({**record, "sha256": found.hexdigest()})
    (folder / MANIFEST).write_text("\n".join(lines) + "\n")
    assert sorted(_album(folder).records) == [0, 2]
