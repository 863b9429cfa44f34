"""Interrupted work: what is finished is kept, what is half-written is not trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from convscope.engine.ascent.album import MANIFEST, Album, identity
from convscope.engine.ascent.settings import settings
from convscope.engine.ascent.studio import Studio
from convscope.errors import UsageError

from .nets import small


def _studio(seed: int = 0) -> tuple[Studio, str]:
    graph = small()
    layer = graph.layer("conv2")
    studio = Studio(graph, layer, settings(graph, size=16, steps=2, seed=seed, strip=1))
    return studio, identity(graph, layer.tensor, studio.chosen)


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
