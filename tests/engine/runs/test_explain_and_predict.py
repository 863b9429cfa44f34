"""Runs over pictures from Python: the result without files, the events, the same object as in the folder."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convscope.engine.attribution import explain as explain_images
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs.sequences import Character, Line
from convscope.engine.pictures.read import model_input, read_image
from convscope.engine.render.answers import drawn_answer
from convscope.engine.runs import explain, predict
from convscope.engine.runs.events import Event, ImageDone, Progress, Skipped
from convscope.errors import RefusedInput, UsageError


def test_without_a_folder_the_heatmaps_are_in_the_result_and_nothing_is_written(lenet: Graph, photos: Path) -> None:
    before = sorted(photos.parent.rglob("*"))
    found = explain.run(lenet, [photos], explain.Options(method="gradcam,saliency"))
    assert [[a.method for a in row] for row in found.attributions] == [["gradcam", "saliency"]] * 2
    alone = explain_images(lenet, str(photos / "b.png"), "gradcam")
    np.testing.assert_allclose(found.attributions[1][0].heatmap, alone.heatmap, atol=1e-5)
    assert found.page is None and sorted(photos.parent.rglob("*")) == before


def test_the_folder_holds_the_object_of_the_result(lenet: Graph, photos: Path, tmp_path: Path) -> None:
    for run in (explain.run, predict.run):
        out = tmp_path / run.__module__
        found = run(lenet, [photos / "a.png"], folder=out, command="convscope x")
        assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(found.to_json()))
        assert found.content["command"] == "convscope x"
        assert not list(out.glob(".*"))


def test_every_picture_is_told_once_and_broken_ones_are_left_out(lenet: Graph, photos: Path) -> None:
    events: list[Event] = []
    found = predict.run(lenet, [photos], predict.Options(top=2, batch=1), on_event=events.append)
    assert [e.row for e in events if isinstance(e, ImageDone)] == found.content["images"]
    assert [e.path.name for e in events if isinstance(e, Skipped)] == ["broken.png"]
    assert [f["file"] for f in found.failed] == [str(photos / "broken.png")]
    last = [e for e in events if isinstance(e, Progress)][-1]
    assert (last.total, len(found.content["images"])) == (3, 2)


def test_predictions_are_the_softmax_of_the_logits(lenet: Graph, photos: Path) -> None:
    found = predict.run(lenet, [photos / "a.png"], predict.Options(top=10))
    x = model_input(read_image(photos / "a.png"), lenet)
    logits = lenet.session([lenet.logits]).run(x)[lenet.logits][0].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    for row in found.content["images"][0]["predictions"]:
        assert row["probability"] == pytest.approx(expected[row["index"]], rel=1e-5)


def test_the_page_of_predictions_says_what_is_seen_how_it_was_read_and_that_the_preprocessing_is_not_stated(
    lenet: Graph, photos: Path, tmp_path: Path
) -> None:
    unstated = replace(lenet, preprocessing=replace(lenet.preprocessing, found="assumed"))
    found = predict.run(unstated, [photos], predict.Options(top=2), tmp_path / "out", command="convscope predict")
    assert found.page == tmp_path / "out" / "index.html"
    html = found.page.read_text()
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert embedded is not None
    data = json.loads(embedded[1])
    assert [image["name"] for image in data["images"]] == ["a.png", "b.png"]
    for image, row in zip(data["images"], found.content["images"], strict=True):
        best = row["predictions"][0]
        assert image["rows"][0] == {
            "name": best["name"],
            "share": pytest.approx(best["probability"]),
            "text": f"{best['probability']:.1%}",
        }
        assert len(image["rows"]) == 2 and image["picture"].startswith("data:image/webp")
    assert data["reason"] == found.content["outputs"]["reason"]
    assert data["trials"] == json.loads(json.dumps(found.to_json()["usual_preprocessings"])) != []
    assert "assumed, since the file does not say" in data["preprocessing"]


def test_the_characters_of_a_line_are_drawn_where_they_were_read(lenet: Graph) -> None:
    """Of ten time steps over the picture's width the sixth and seventh: a frame over two tenths from the middle on."""
    line = Line((Character(1, "A", 5, (5, 6), 0.9),), length=10)
    paper = np.ones((80, 400, 3), np.float32)
    seen = drawn_answer(lenet, line, paper)
    assert seen is not None
    columns = np.flatnonzero((seen[70] != paper[70]).any(axis=1))
    assert columns.tolist() == [200, 280]
    assert drawn_answer(lenet, replace(line, length=0), paper) is None  # its steps have no place


def test_wrong_options_are_refused_before_any_work(lenet: Graph, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no method here has that option"):
        explain.run(lenet, [photos], explain.Options(settings={"steps": 3}), tmp_path / "out")
    with pytest.raises(RefusedInput, match=r"^image .*broken\.png"):
        explain.run(lenet, [photos / "broken.png"], folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()
