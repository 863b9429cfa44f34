"""Pages of one model in folders side by side know each other, and nothing else is touched."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from convscope import load
from convscope.engine.graph.graph import Graph
from convscope.engine.pages.siblings import connect, same_units
from convscope.engine.pages.template import render_page
from convscope.engine.render.artifacts import write_json, write_text

from .. import tiny


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    import onnx

    onnx.save(tiny.small_cnn(), tmp_path / "model.onnx")
    return load(tmp_path / "model.onnx", check=False)


def _result(folder: Path, sha256: str, **content: Any) -> Path:
    write_json(folder / "result.json", {"model": {"sha256": sha256}, **content})
    return write_text(folder / "index.html", render_page("base.html", title=folder.name))


def _links(page: Path) -> Any:
    found = re.search(r'id="links">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found is not None
    return json.loads(found.group(1))


def test_a_convolution_and_what_follows_it_carry_the_same_units(graph: Graph) -> None:
    same = same_units(graph)
    assert same["relu1"] == same["conv1"] and {"conv1", "relu1"} <= set(same["conv1"])
    assert "conv2" not in same["conv1"]


def test_units_are_linked_where_both_pages_have_them_and_an_earlier_page_learns_of_a_later(
    graph: Graph, tmp_path: Path
) -> None:
    first = _result(tmp_path / "a b", graph.sha256, layer="conv1", units=[{"unit": u} for u in (0, 1, 2, 5)])
    statistics = _result(tmp_path / "stats", graph.sha256, layers=[{"layer": "relu1", "histogram_edges": []}])
    other = _result(tmp_path / "other", "0" * 64, layer="conv1", units=[{"unit": 0}])
    unread = tmp_path / "broken" / "result.json"
    write_text(unread, "{")
    before = other.read_bytes()
    connect(graph, tmp_path / "stats")
    assert _links(first) == {
        "conv1": [{"label": "its statistics", "page": "../stats/index.html", "layer": "relu1", "units": "all"}]
    }
    assert _links(statistics) == {
        "relu1": [{"label": "its picture", "page": "../a%20b/index.html", "layer": "conv1", "units": "0-2,5"}]
    }
    assert other.read_bytes() == before
    written = first.stat().st_mtime_ns
    connect(graph, tmp_path / "stats")
    assert first.stat().st_mtime_ns == written  # what is unchanged is not written again


def test_no_name_ends_the_element_of_the_links(graph: Graph, tmp_path: Path) -> None:
    hostile = "</script><script>x()</script>"
    page = _result(tmp_path / "a", graph.sha256, layer=hostile, units=[{"unit": 0}])
    _result(tmp_path / "b", graph.sha256, layers=[{"layer": hostile, "histogram_edges": []}])
    connect(graph, tmp_path / "a")
    assert list(_links(page)) == [hostile]
    assert hostile not in page.read_text(encoding="utf-8")


def test_a_folder_named_in_a_result_is_one_inside_it(graph: Graph, tmp_path: Path) -> None:
    outside = _result(tmp_path / "outside", graph.sha256, layer="conv1", units=[{"unit": 0}])
    _result(tmp_path / "x" / "many", graph.sha256, layers=[{"folder": "../../outside", "layer": "conv1"}])
    before = outside.read_bytes()
    connect(graph, tmp_path / "x" / "many")
    assert outside.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        {"layers": [{"layer": "conv1", "filters": [{"unit": float("inf")}]}]},
        {"layers": [{"a": 1}], "images": [{"layers": []}]},
        {"layers": [{"folder": ".."}] * 20},
        {"layers": [{"folder": "me"}] * 20},
    ],
    ids=["infinite unit", "no layers", "folder above", "folder within itself"],
)
def test_a_strange_result_beside_is_no_result_and_ends(graph: Graph, tmp_path: Path, content: Any) -> None:
    mine = _result(tmp_path / "mine", graph.sha256, layer="conv1", units=[{"unit": 0}])
    _result(tmp_path / "strange", graph.sha256)
    (tmp_path / "strange" / "me").symlink_to(".")
    text = json.dumps({"model": {"sha256": graph.sha256}, **content})
    (tmp_path / "strange" / "result.json").write_text(text)
    (tmp_path / "result.json").write_text(text.replace('".."', '"strange"'))
    write_text(tmp_path / "index.html", "x")
    connect(graph, tmp_path / "mine")
    assert _links(mine) == {}


def test_a_page_beside_that_is_absurdly_long_is_not_read(graph: Graph, tmp_path: Path) -> None:
    mine = _result(tmp_path / "mine", graph.sha256, layer="conv1", units=[{"unit": 0}])
    other = _result(tmp_path / "other", graph.sha256, layers=[{"layer": "relu1", "histogram_edges": []}])
    os.truncate(other, 10**12)
    connect(graph, tmp_path / "mine")
    assert "relu1" in str(_links(mine)) and other.stat().st_size == 10**12


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_folder_whose_name_is_no_text_is_linked_by_its_bytes(graph: Graph, tmp_path: Path) -> None:
    mine = _result(tmp_path / "mine", graph.sha256, layer="conv1", units=[{"unit": 0}])
    _result(
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff")), graph.sha256, layers=[{"layer": "relu1", "histogram_edges": []}]
    )
    connect(graph, tmp_path / "mine")
    assert _links(mine)["conv1"][0]["page"] == "../%FF/index.html"
