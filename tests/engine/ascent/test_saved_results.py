"""What a result keeps and saves: every picture, none twice under one name, and as many on the way as asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import convscope
from convscope.engine.graph.graph import Graph
from convscope.errors import UsageError
from tests.tiny import model, small_cnn

SMALL: dict[str, Any] = {"size": 16, "steps": 4}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return convscope.load(small_cnn(), check=False)


def test_saved_facets_are_as_many_files_as_pictures(graph: Graph, tmp_path: Path) -> None:
    result = convscope.filters(graph, "conv1", 0, diversity=3, **SMALL)
    result.save(tmp_path)
    rows = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["units"]
    files = [row["file"] for row in rows]
    assert files == ["unit-0000.png", "unit-0000-2.png", "unit-0000-3.png"]
    assert len({(tmp_path / file).read_bytes() for file in files}) == 3


@pytest.mark.parametrize(("strip", "kept"), [(1, 1), (3, 3), (4, 4), (9, 4)])
def test_so_many_pictures_on_the_way_are_kept_as_are_asked_for(graph: Graph, strip: int, kept: int) -> None:
    assert len(convscope.filters(graph, "conv1", 0, strip=strip, **SMALL)[0].strip) == kept


def test_a_result_without_pictures_is_saved_and_has_no_grid(tmp_path: Path) -> None:
    weights = {"w": np.zeros((4, 3, 3, 3), np.float32), "b": -np.ones(4, np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    result = convscope.filters(convscope.load(model(nodes, weights), check=False), "y", "top:2", **SMALL)
    assert len(result) == 0
    result.save(tmp_path / "none")
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["result.json"]
    with pytest.raises(UsageError, match="no picture of 'y' was kept"):
        result.grid()
