"""The pictures that both models look at, and ``convscope.compare`` as a Python user calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope.engine.compare.pictures import from_files
from convscope.engine.render.artifacts import save_png
from convscope.errors import RefusedInput, UsageError
from tests.engine.compare.nets import load, vgg


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(3):
        save_png(tmp_path / f"{i}.png", np.random.default_rng(i).random((30, 40, 3)))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


def test_the_public_function_takes_a_folder(folder: Path) -> None:
    result = convscope.compare(load(vgg()), load(vgg(bn__epsilon=1e-5)), images=folder)
    assert (result.verdict, result.images) == ("different", 3)


def test_a_broken_picture_is_left_out_for_both_and_told_once(folder: Path) -> None:
    told: list[RefusedInput] = []
    pictures, graph = from_files([folder], told.append), load(vgg())
    assert pictures(graph, (18, 18)).shape == (3, 3, 18, 18)
    assert pictures(graph, (24, 20)).shape == (3, 3, 24, 20)
    assert len(told) == 1 and "broken.jpg" in str(told[0])


def test_nothing_to_look_at_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(RefusedInput, match="no image could be read"):
        from_files(tmp_path / "a.png")(load(vgg()), (18, 18))
    with pytest.raises(UsageError, match=r"missing.png"):
        from_files(tmp_path / "missing.png")
