"""Files are whole or absent, deterministic, and say what they are."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convscope.engine.render import artifacts
from convscope.engine.render.array_store import open_store
from convscope.engine.render.grid import grid
from convscope.errors import ConvscopeError, PartlyDone, UsageError

RNG = np.random.default_rng(0)


def test_a_finished_file_is_the_only_file(tmp_path: Path) -> None:
    artifacts.write_bytes(tmp_path / "new" / "folder" / "a.bin", b"abc")
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["a.bin"]
    assert (tmp_path / "new" / "folder" / "a.bin").read_bytes() == b"abc"


@pytest.mark.parametrize("failure", [ValueError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises((type(failure), PartlyDone)), artifacts.atomic(target) as temporary:  # noqa: PT012 - it is raised half-way
        temporary.write_bytes(b"half")
        raise failure
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_what_a_kill_leaves_of_trying_a_folder_is_swept_by_the_next_run(tmp_path: Path) -> None:
    killed = "import os, signal; from pathlib import Path; from convscope.engine.render import artifacts\n"
    killed += "artifacts._remove = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"  # as the probe is to go
    command = [sys.executable, "-P", "-c", f"{killed}artifacts.check_folder(Path({str(tmp_path)!r}))"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
    artifacts.sweep(tmp_path, everywhere=False)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_so_and_asks_to_go_on(tmp_path: Path) -> None:
    with (  # noqa: PT012 - it is raised half-way
        pytest.raises(PartlyDone, match=r"cannot write .*a.png: the disk is full") as caught,
        artifacts.atomic(tmp_path / "a.png") as temporary,
    ):
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_numpy_short_writes_are_an_error_of_the_file(tmp_path: Path) -> None:
    # numpy reports a full disk as an OSError without a number.
    with pytest.raises(ConvscopeError, match="cannot write"), artifacts.atomic(tmp_path / "a.npy"):
        raise OSError("100 requested and 0 written")


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConvscopeError, match=r"cannot write .*; choose another folder") as caught:
        artifacts.write_text(tmp_path / "taken" / "a.txt", "x")
    assert caught.value.exit_code == 1


def test_trying_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    artifacts.check_folder(tmp_path / "new" / "folder")
    artifacts.check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_trying_a_folder_that_takes_no_files_says_so(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "sub", Path("/proc"), Path("/proc/new")):
        with pytest.raises(ConvscopeError, match=f"cannot write {folder}: .*; choose another folder"):
            artifacts.check_folder(folder)


def test_errors_of_other_files_inside_the_block_stay_themselves(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), artifacts.atomic(tmp_path / "a.txt"):
        (tmp_path / "elsewhere.png").read_bytes()


def test_a_killed_process_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from convscope.engine.render.artifacts import atomic\n"
        "with atomic(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path / "a.bin")], cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.bin").exists()


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_png_keeps_every_byte(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    path = artifacts.save_png(tmp_path / "a.png", pixels)
    assert np.array_equal(np.asarray(Image.open(path)).reshape(shape), pixels)


def test_floats_become_the_nearest_byte_and_stay_in_range(tmp_path: Path) -> None:
    row = np.array([[-1.0, 0.0, 0.5, 0.999, 1.0, 7.0, np.nan, np.inf]])
    path = artifacts.save_png(tmp_path / "a.png", row)
    assert np.asarray(Image.open(path)).tolist() == [[0, 0, 128, 255, 255, 255, 0, 255]]


def test_png_metadata_comes_back_and_bytes_repeat(tmp_path: Path) -> None:
    said = {"convscope": json.dumps({"unit": 3}), "layer": "größe\u202e</script>\ud800"}
    image = RNG.random((8, 8, 3))
    first = artifacts.save_png(tmp_path / "a.png", image, said).read_bytes()
    assert artifacts.save_png(tmp_path / "b.png", image, said).read_bytes() == first
    with Image.open(tmp_path / "a.png") as picture:
        text = dict(picture.info)
    assert text["convscope"] == said["convscope"]
    assert text["layer"] == "größe\u202e</script>?"


def test_a_wrong_shape_is_no_picture() -> None:
    for shape in ((4,), (4, 4, 0), (1, 4, 4, 3)):
        with pytest.raises(ValueError, match=re.escape(str(shape))):
            artifacts.to_pillow(np.zeros(shape))


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_channels_that_are_no_colours_are_drawn_side_by_side_in_gray(channels: int, tmp_path: Path) -> None:
    image = RNG.random((3, 6, channels))
    row = np.concatenate([image[:, :, c] for c in range(channels)], axis=1)
    with Image.open(artifacts.save_png(tmp_path / "a.png", image)) as picture:
        assert picture.mode == "L"
        assert np.array_equal(np.asarray(picture), artifacts.to_uint8(row))
    stitched = grid([image, image], columns=1, margin=1)
    assert stitched.shape == (7, 6 * channels, 1)
    assert np.array_equal(stitched[:3, :, 0], row.astype(np.float32))


def test_json_keeps_order_and_has_no_nan() -> None:
    obj = {"z": np.float32(0.5), "a": [np.nan, float("inf")], "p": Path("x/y"), "n": np.arange(2)}
    text = artifacts.to_json(obj)
    assert list(json.loads(text)) == ["z", "a", "p", "n"]
    assert json.loads(text) == {"z": 0.5, "a": [None, None], "p": "x/y", "n": [0, 1]}


@given(st.text())
def test_json_text_is_plain_ascii_whatever_the_name(name: str) -> None:
    text = artifacts.to_json({name: name}, indent=None)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {name: name}


def test_npz_takes_any_layer_name_and_repeats_its_bytes(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3), "block/1\n": np.ones((2, 2), np.float32), "../up": np.zeros(1)}
    first = artifacts.save_npz(tmp_path / "a.npz", arrays).read_bytes()
    assert artifacts.save_npz(tmp_path / "b.npz", arrays).read_bytes() == first
    with np.load(tmp_path / "a.npz", allow_pickle=False) as loaded:
        assert {k: loaded[k].tolist() for k in loaded} == {k: np.asarray(v).tolist() for k, v in arrays.items()}


def test_npy_comes_back(tmp_path: Path) -> None:
    array = RNG.random((3, 4)).astype(np.float32)
    assert np.array_equal(np.load(artifacts.save_npy(tmp_path / "a.npy", array)), array)


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = artifacts.write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_disk_that_fills_up_under_an_array_store_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written last shows it only when the scratch file is closed."""
    monkeypatch.setattr(Path, "open", lambda path, mode: os.fdopen(os.open("/dev/full", os.O_RDWR), mode))
    said = r"cannot write .*a\.npz: the disk is full"
    with pytest.raises(PartlyDone, match=said), open_store(tmp_path / "a.npz", "npz") as store:
        store.append({"conv": np.zeros((1, 2), np.float32)})
    with pytest.raises(PartlyDone, match="the disk is full"), open_store(tmp_path / "b.npz", "npz") as store:
        store.append({"conv": np.zeros((1, 2**20), np.float32)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 256, "x/" * 3000])
def test_a_folder_whose_name_is_too_long_is_refused_in_words(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConvscopeError, match=r"cannot write .*: File name too long; choose another folder"):
        artifacts.check_folder(tmp_path / name)


def test_of_a_file_that_says_it_is_empty_nothing_is_read() -> None:
    assert artifacts.read_regular("/proc/self/status") == b""


def test_a_file_that_another_takes_the_place_of_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, newer = tmp_path / "state", tmp_path / "newer"
    path.write_bytes(b"old")
    newer.write_bytes(b"newer and longer")
    ask = os.stat

    def replaced(one: Any, *rest: Any, **more: Any) -> os.stat_result:
        found = ask(one, *rest, **more)
        if one == path and newer.exists():
            newer.replace(path)
        return found

    monkeypatch.setattr(os, "stat", replaced)
    assert artifacts.read_regular(path) in (b"old", b"newer and longer")


def test_no_file_takes_the_place_of_a_device(tmp_path: Path) -> None:
    """``-o /dev/null`` of an administrator would; the folder of devices is never written to."""
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only an administrator makes devices")
    for write in (
        lambda: artifacts.write_text(device, "x"),
        lambda: artifacts.save_npy(device, np.zeros(2)),
        lambda: open_store(device, "npz").__enter__(),
        lambda: open_store(device, "zarr").__enter__(),
    ):
        with pytest.raises(UsageError, match="is a device, whose place the file would take"):
            write()
    assert stat.S_ISCHR(device.lstat().st_mode) and list(tmp_path.iterdir()) == [device]


def test_the_folder_of_devices_is_not_written_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os.path, "realpath", lambda path: "/dev" if str(path) == str(tmp_path) else str(path))
    with pytest.raises(UsageError, match="is a device"):
        artifacts.write_text(tmp_path / "stdout", "x")
    assert not list(tmp_path.iterdir())
