"""The pages of activations, weights, top and stats in a real browser, with hostile layer and file names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from convscope.cli.main import run

from ..tiny import small_cnn
from .browser import dom, driven, needs_chromium

pytestmark = needs_chromium

HOSTILE = "</script><img src=x onerror='document.documentElement.dataset.pwned = 1'>"
FAST = ["--no-check", "--preprocessing", "torch", "--image-size", "16", "--quiet"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of a model with a hostile layer name, of pictures with a hostile file name."""
    folder = tmp_path_factory.mktemp("pages")
    model = small_cnn()
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == "conv2":
                    names[i] = HOSTILE
        node.name = HOSTILE if node.name == "conv2" else node.name
    onnx.save(model, folder / "small.onnx")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "<img src=x onerror=alert(1)>.png"):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / "photos" / name)
    made = {}
    for command, more in {
        "activations": [str(folder / "photos")],
        "weights": [],
        "top": [str(folder / "photos"), "--layer", "conv1", "-k", "2"],
        "stats": [str(folder / "photos")],
    }.items():
        out = folder / command
        assert run([command, str(folder / "small.onnx"), *more, *FAST, "-o", str(out)]) == 0
        made[command] = out / "index.html"
    return made


@pytest.mark.parametrize("command", ["activations", "weights", "top", "stats"])
def test_the_page_shows_its_pictures_without_a_complaint_and_names_stay_text(
    command: str, pages: dict[str, Path]
) -> None:
    html, console = dom(pages[command])
    assert console == ""
    assert "data-pwned" not in html[:200]
    assert 'src="data:image/' in html


def test_the_activations_page_changes_the_picture_and_finds_layers(pages: dict[str, Path]) -> None:
    said = driven(
        pages["activations"],
        """
        const pick = document.getElementById("image"), find = document.getElementById("find");
        const first = document.querySelector("#picture img").alt;
        pick.value = "1"; pick.dispatchEvent(new Event("change"));
        const second = document.querySelector("#picture img").alt;
        const all = document.querySelectorAll(".layer").length;
        find.value = "relu1"; find.dispatchEvent(new Event("input"));
        return [first !== second, all > document.querySelectorAll(".layer").length,
          document.querySelectorAll(".layer").length > 0].join(" ");
        """,
    )
    assert said == "true true true"


def test_the_top_page_sorts_and_searches(pages: dict[str, Path]) -> None:
    said = driven(
        pages["top"],
        """
        const all = (chosen) => [...document.querySelectorAll(chosen)].map((node) => node.textContent);
        const set = (id, value, event) => {
          const node = document.getElementById(id);
          node.value = value;
          node.dispatchEvent(new Event(event));
          return all(".unit h2").join();
        };
        set("order", "value", "change");
        const values = all(".unit header span:first-of-type").map(parseFloat);
        const sorted = values.every((value, i) => i === 0 || values[i - 1] >= value);
        return [sorted, set("order", "unit", "change").startsWith("unit 0"), set("find", "2", "input")].join(" ");
        """,
    )
    assert said == "true true unit 2"


@pytest.mark.parametrize("command", ["activations", "weights", "top"])
def test_every_picture_and_control_has_a_name(command: str, pages: dict[str, Path]) -> None:
    said = driven(
        pages[command],
        """
        const unnamed = [...document.querySelectorAll("img")].filter((i) => !i.alt).length
          + [...document.querySelectorAll("button, a")].filter((b) => !(b.textContent.trim() || b.ariaLabel)).length
          + [...document.querySelectorAll("input, select")].filter((i) => !i.labels.length && !i.ariaLabel).length;
        return `${unnamed} ${document.querySelectorAll("h1").length}`;
        """,
    )
    assert said == "0 1"
