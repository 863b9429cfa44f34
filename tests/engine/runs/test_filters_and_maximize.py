"""Pictures of units from Python: in memory or in a folder that resumes, of one layer or of several."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.engine.ascent.many import Studio
from convscope.engine.ascent.results import UnitResult
from convscope.engine.graph.graph import Graph
from convscope.engine.render.grid import CAPTION
from convscope.engine.runs import dream, filters, invert, maximize
from convscope.engine.runs.events import Event, Note, Preview, Progress
from convscope.engine.runs.units import started, summary
from convscope.errors import UsageError

FAST = filters.Options(size=28, steps=2, batch=2, device="cpu", precision="float32")


def test_the_folder_s_pictures_are_those_in_memory_at_8_bits(lenet: Graph, tmp_path: Path) -> None:
    memory = filters.run(lenet, "conv2", [4, 1], FAST)
    kept = filters.run(lenet, "conv2", [4, 1], FAST, tmp_path / "out")
    for one, other in zip(memory.layers[0].units, kept.layers[0].units, strict=True):
        assert (one.unit, one.history, one.status) == (other.unit, other.history, other.status)
        assert np.abs(one.image - other.image).max() <= 0.5 / 255 + 1e-6
    assert memory.page is None and kept.page == tmp_path / "out" / "index.html"


def test_an_interrupted_call_goes_on_from_python_and_makes_nothing_twice(
    lenet: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked = tmp_path / "out", []
    make = Studio.make

    def stopping(self: Studio, units, *more):  # type: ignore[no-untyped-def]
        asked.append(list(units))
        made = make(self, units, *more)
        yield next(made)
        if len(asked) == 1:
            raise KeyboardInterrupt
        yield from made

    monkeypatch.setattr(Studio, "make", stopping)
    with pytest.raises(KeyboardInterrupt):
        convscope.filters(lenet, "conv2", [0, 1, 2], size=28, steps=2, folder=out)
    found = convscope.filters(lenet, "conv2", [0, 1, 2], size=28, steps=2, folder=out)
    assert asked == [[0, 1, 2], [1, 2]]
    assert [u.unit for u in found.units] == [0, 1, 2]
    with pytest.raises(UsageError, match="made with other settings"):
        convscope.filters(lenet, "conv2", [0], size=28, steps=3, folder=out)


def test_a_glob_makes_a_folder_a_layer_under_one_page(lenet: Graph, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = filters.run(lenet, "conv*", "0-1", FAST, out, command="convscope filters x")
    assert [r.layer for r in found.layers] == ["conv1", "conv2"]
    told = json.loads((out / "result.json").read_text())
    assert [row["folder"] for row in told["layers"]] == ["000-conv1", "003-conv2"]
    html = (out / "index.html").read_text()
    for row in told["layers"]:
        inner = json.loads((out / row["folder"] / "result.json").read_text())
        assert inner["layer"] == row["layer"] and row["units"] == 2
        assert f"{row['folder']}/index.html" in html
    with pytest.raises(UsageError, match="holds the pictures of one layer"):
        filters.run(lenet, "conv*", "0", FAST, out / "000-conv1")


def test_columns_and_margin_lay_out_the_grid(lenet: Graph, tmp_path: Path) -> None:
    filters.run(lenet, "conv1", "0-2", replace(FAST, columns=1, margin=5), tmp_path / "out")
    with Image.open(tmp_path / "out" / "grid.png") as picture:
        # of 28 pixels, drawn four times as large, each above its number
        assert picture.size == (112, 3 * (112 + CAPTION) + 2 * 5)
        numbers = [np.asarray(picture.convert("L"))[at - CAPTION : at] for at in (126, 257, 388)]
        assert all(strip.min() < 100 and strip.max() == 255 for strip in numbers)
        assert len({strip.tobytes() for strip in numbers}) == 3
        assert picture.info["Software"] == f"convscope {convscope.__version__}"
        assert lenet.sha256 in picture.info["model"] and picture.info["layer"] == "conv1"


def test_settings_over_the_preset_change_the_picture_and_are_recorded(lenet: Graph, tmp_path: Path) -> None:
    plain = filters.run(lenet, "conv1", [3], replace(FAST, preset="chollet"))
    options = replace(FAST, preset="chollet", tuning={"decay": 0.5, "blur": 1.0})
    tuned = filters.run(lenet, "conv1", [3], options, tmp_path / "out")
    assert np.abs(plain.layers[0][0].image - tuned.layers[0][0].image).max() > 0.05
    assert tuned.content["settings"] == {"decay": 0.5, "blur": 1.0}
    with Image.open(tmp_path / "out" / "unit-0003.png") as picture:
        assert picture.info["settings"] == "decay=0.5, blur=1"


def test_progress_counts_finished_units_and_steps_apart(lenet: Graph) -> None:
    events: list[Event] = []
    filters.run(lenet, "conv1", "0-3", FAST, on_event=events.append)
    progress = [e for e in events if isinstance(e, Progress)]
    assert [e.done for e in progress] == sorted(e.done for e in progress)
    assert (progress[0].done, progress[-1].done, progress[-1].total) == (0, 4, 4)
    assert {e.detail for e in progress if e.done == 0} >= {"step 1/2", "step 2/2"}
    drawn = [e.draw() for e in events if isinstance(e, Preview)]
    assert drawn[-1].shape == (226 + 2 * CAPTION, 226, 1)
    assert not [e for e in events if isinstance(e, Note) and "unit 0 is" in e.text]


def test_verdicts_are_one_line() -> None:
    rows = [{"unit": u, "status": "weak" if u < 20 else "dead" if u in (31, 40) else "ok"} for u in range(64)]
    listed = ", ".join(map(str, range(12)))
    assert summary(rows) == f"20 of 64 units weak: {listed}, ...; 2 dead: 31, 40"
    assert summary(rows[50:]) == ""


def test_photographs_of_a_folder_are_judged_by_and_drawn_after(lenet: Graph, tmp_path: Path) -> None:
    given = tmp_path / "photos"
    given.mkdir()
    Image.new("L", (40, 40), 255).save(given / "white.png")
    Image.fromarray((np.eye(28) * 255).astype(np.uint8)).save(given / "line.png")
    plain = filters.run(lenet, "conv2", [3], replace(FAST, preset="vital")).layers[0][0]
    out = tmp_path / "out"
    drawn = filters.run(lenet, "conv2", [3], replace(FAST, preset="vital", photos=given), out).layers[0][0]
    assert drawn.reference != plain.reference and np.abs(drawn.image - plain.image).max() > 2 / 255
    with pytest.raises(UsageError, match="made with other settings"):
        filters.run(lenet, "conv2", [3], replace(FAST, preset="vital"), out)
    with pytest.raises(UsageError, match="1001 photographs are too many to judge by; give at most 1000"):
        maximize.run(lenet, 3, replace(FAST, photos=[given / "white.png"] * 1001))


def test_pictures_that_were_begun_from_a_photograph_are_named() -> None:
    rows = [{"unit": u, "rescue": "a photograph's start" if u in (2, 5) else "", "steps": 8} for u in range(6)]
    assert started(rows, "classes").startswith("2 of 6 classes were begun from a photograph")
    assert started(rows, "classes").endswith("may still show it after 8 steps: 2, 5")
    assert started(rows[:2]) == ""


def test_maximize_keeps_classes_with_their_names(lenet: Graph, tmp_path: Path) -> None:
    options = maximize.Options(size=28, steps=2, device="cpu")
    found = maximize.run(lenet, "7,3", options, tmp_path / "out")
    assert [(u["unit"], u["name"]) for u in found.content["units"]] == [(7, "7"), (3, "3")]
    assert found.classes is not None and [u.name for u in found.classes.units] == ["7", "3"]
    assert len(convscope.maximize(lenet, "top:2", size=28, steps=2)) <= 2


def test_dream_and_invert_take_arrays_and_may_write_nothing(lenet: Graph, tmp_path: Path) -> None:
    photo = np.random.default_rng(0).random((30, 40, 3)).astype(np.float32)
    dreamt = dream.run(lenet, photo, "conv1", [0, 2], dream.Options(size=40, steps=2, device="cpu"))
    assert dreamt.content["layer_units"] == [0, 2] or dreamt.content["layer_units"] == (0, 2)
    assert dreamt.picture is not None and isinstance(dreamt.picture[0], UnitResult)
    assert dreamt.picture[0].image.shape == (30, 40, 1)
    inverted = invert.run(lenet, photo, "conv1", invert.Options(steps=2, device="cpu"), tmp_path / "out")
    assert inverted.page is not None and (tmp_path / "out" / "inverted.png").exists()
    assert json.loads((tmp_path / "out" / "result.json").read_text())["image"] == "picture 0"
