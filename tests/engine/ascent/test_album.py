"""Interrupted work: what is finished is kept, what is half-written is not trusted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from convscope.engine.ascent.album import MANIFEST, Album, picture_identity
from convscope.engine.ascent.many import Studio
from convscope.engine.ascent.settings import settings
from convscope.errors import UsageError

from .nets import small


def _studio(seed: int = 0) -> tuple[Studio, str]:
    graph = small()
    layer = graph.layer("conv2")
    studio = Studio(graph, layer, settings(graph, size=16, steps=2, seed=seed, strip=1))
    return studio, picture_identity(graph, layer.tensor, studio.chosen)


def test_a_killed_run_continues_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    studio, key = _studio()
    whole = Album(tmp_path / "whole", key, {})
    for result in studio.make([0, 1, 2]):
        whole.add(result)
    cut = Album(tmp_path / "cut", key, {})
    for result in studio.make([0]):
        cut.add(result)
    with (tmp_path / "cut" / MANIFEST).open("a") as file:
        file.write('{"unit": 1, "file": "unit-00')  # killed while it wrote
    again = Album(tmp_path / "cut", key, {})
    assert sorted(again.records) == [0]
    for result in studio.make([1, 2]):
        again.add(result)
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file())
    assert len(files) == 10
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_a_unit_whose_picture_is_gone_is_made_again(tmp_path: Path) -> None:
    studio, key = _studio()
    album = Album(tmp_path, key, {})
    for result in studio.make([0, 1]):
        album.add(result)
    (tmp_path / album.file(1)).unlink()
    assert sorted(Album(tmp_path, key, {}).records) == [0]


def test_pictures_of_other_settings_are_not_mixed_up(tmp_path: Path) -> None:
    studio, key = _studio()
    for result in studio.make([0]):
        Album(tmp_path, key, {}).add(result)
    _, other = _studio(seed=1)
    assert other != key
    with pytest.raises(UsageError, match="made with other settings"):
        Album(tmp_path, other, {})
    assert not Album(tmp_path, other, {}, force=True).records


def test_pictures_come_back_as_they_were_kept(tmp_path: Path) -> None:
    studio, key = _studio()
    (result,) = studio.make([4])
    album = Album(tmp_path, key, {"model": "m"})
    album.add(result)
    assert np.abs(album.picture(4) / 255 - result.image).max() < 0.01
    assert np.abs(album.start(4) / 255 - result.start).max() < 0.01
    assert len(album.strip(4)) == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of two units, and what it is a function of."""
    folder = tmp_path_factory.mktemp("finished")
    studio, key = _studio()
    album = Album(folder, key, {})
    for result in studio.make([0, 1]):
        album.add(result)
    return folder, key


@pytest.mark.parametrize("name", ["unit-0001.png", "starts/unit-0001.png", "strips/unit-0001-0.png"])
@pytest.mark.parametrize("kept", [0, 20, 0.7])
def test_a_unit_whose_picture_is_damaged_is_made_again(
    name: str, kept: float, finished: tuple[Path, str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "album"))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    assert sorted(Album(folder, finished[1], {}).records) == [0]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"unit": "1", "strip": 1}',
        b'{"unit": 1, "strip": 1}',
        b'{"unit": -1, "strip": 0}',
    ],
)
def test_a_damaged_line_is_left_out(line: bytes, finished: tuple[Path, str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "album"))
    head, first, _ = (folder / MANIFEST).read_bytes().splitlines(keepends=True)
    (folder / MANIFEST).write_bytes(head + line + b"\n" + first)
    album = Album(folder, finished[1], {})
    assert sorted(album.records) == [0]
    (result,) = _studio()[0].make([1])
    album.add(result)
    assert (folder / MANIFEST).read_bytes().splitlines(keepends=True)[:2] == [head, first]


def test_an_empty_list_is_a_new_album(finished: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / MANIFEST).touch()
    album = Album(tmp_path, finished[1], {})
    (result,) = _studio()[0].make([0])
    album.add(result)
    assert sorted(Album(tmp_path, finished[1], {}).records) == [0]


def test_force_removes_what_the_album_wrote_and_nothing_else(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "album"))
    outside, elsewhere = tmp_path / "precious.png", tmp_path / "elsewhere"
    outside.write_text("precious")
    with (folder / MANIFEST).open("a") as file:
        file.write('{"unit": 7, "file": "../precious.png", "strip": 0}\n{"unit": "../../precious"}\n')
    for name in ("unit-0001.txt", "unit-0005.png", "starts/mine.png", "strips/unit-0005-0.png", "notes.md"):
        (folder / name).write_text("the user's own")
    for name in ("grid.png", "result.json", "index.html"):
        (folder / name).write_text("the album's")
    before = _files(folder)
    studio, key = _studio(seed=1)
    album = Album(folder, key, {}, force=True)
    assert _files(folder) == before  # until something new is there
    for result in studio.make([0]):
        album.add(result)
    own = {"unit-0001.txt", "unit-0005.png", "starts/mine.png", "strips/unit-0005-0.png", "notes.md"}
    assert _files(folder) == own | {MANIFEST, "unit-0000.png", "starts/unit-0000.png", "strips/unit-0000-0.png"}
    assert outside.read_text() == "precious"
    shutil.move(folder / "starts", elsewhere)
    (folder / "starts").symlink_to(elsewhere)
    album = Album(folder, key, {}, force=True)
    (result,) = studio.make([1])
    with pytest.raises(UsageError, match="starts is a link"):  # what it leads to is neither removed nor written
        album.add(result)
    assert _files(elsewhere) == {"mine.png", "unit-0000.png"}


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
