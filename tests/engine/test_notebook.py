"""Results show themselves: short in a console, as tables and pictures in a notebook, and saved where asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.engine.ascent.filters import filters
from convscope.errors import UsageError
from tests import tiny


@pytest.fixture(scope="module")
def graph() -> convscope.Graph:
    return convscope.load(tiny.small_cnn(), check=False)


def test_a_graph_is_one_short_line_and_a_table_of_its_layers(graph: convscope.Graph) -> None:
    assert len(repr(graph)) < 200
    assert graph.name in repr(graph)
    html = graph._repr_html_()
    assert all(f"<td>{layer.name}</td>" in html for layer in graph.layers)
    assert len(repr(graph.layers[0])) < 120
    assert "12 units" in repr(graph.layer("conv2"))


def test_a_hostile_layer_name_is_text(graph: convscope.Graph) -> None:
    hostile = replace(graph.layers[0], name="<script>alert(1)</script>")
    html = replace(graph, layers=(hostile, *graph.layers[1:]))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_an_attribution_shows_and_saves_its_overlay(graph: convscope.Graph, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).random((40, 40, 3), dtype=np.float32)
    found = convscope.explain(graph, picture, target=1)
    assert len(repr(found)) < 120
    laid = found.overlay(alpha=0.5)
    assert laid.shape == (*found.heatmap.shape, 3)
    assert found.overlay(picture).shape == picture.shape
    assert found._repr_png_().startswith(b"\x89PNG")
    assert np.asarray(Image.open(found.save(tmp_path / "why.png"))).shape == laid.shape
    assert (np.load(found.save(tmp_path / "why.npy")) == found.values).all()
    with pytest.raises(UsageError, match="knows no picture"):
        replace(found, picture=None).overlay()


def test_pictures_of_units_are_listed_and_saved(graph: convscope.Graph, tmp_path: Path) -> None:
    result = filters(graph, "conv2", [1, 3], size=24, steps=2)
    assert len(result.images) == 2
    assert "2 pictures" in repr(result)
    assert "activation" in repr(result[0])
    folder = result.save(tmp_path / "units")
    names = {path.name for path in folder.iterdir()}
    assert names == {"unit-0001.png", "unit-0003.png", "grid.png", "result.json"}
    assert [u["file"] for u in json.loads((folder / "result.json").read_text())["units"]] == sorted(names)[2:]
    assert result.save(tmp_path / "all.png").is_file()


def test_a_comparison_is_its_verdict_and_a_table(graph: convscope.Graph, tmp_path: Path) -> None:
    found = convscope.compare(graph, graph)
    assert "identical" in repr(found)
    assert "conv2" in found._repr_html_()
    assert json.loads(found.save(tmp_path / "c.json").read_text())["verdict"] == "identical"


def test_every_result_is_one_short_line(graph: convscope.Graph) -> None:
    picture = np.random.default_rng(0).random((40, 40, 3), dtype=np.float32)
    found = {
        "predict": convscope.predict(graph, picture),
        "activations": convscope.activations(graph, picture),
        "weights": convscope.weights(graph),
        "stats": convscope.stats(graph, picture),
        "top": convscope.top(graph, picture, layer="conv1"),
        "attack": convscope.attack(graph, picture, method="fgsm"),
        "verify": convscope.verify(graph),
    }
    lengths = {name: len(repr(result)) for name, result in found.items()}
    assert max(lengths.values()) < 120, lengths
    assert "1 image" in repr(found["predict"])
    assert "<td>conv1</td>" in (found["stats"]._repr_html_() or "")
    assert found["predict"]._repr_html_() is None  # a notebook then shows the line


def test_filters_are_found_by_their_layer(graph: convscope.Graph) -> None:
    weights = convscope.weights(graph)
    assert weights["conv1"].ndim == 4
    with pytest.raises(UsageError, match="'conv9' was not asked for; there are conv1"):
        weights["conv9"]
