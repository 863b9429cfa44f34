"""The pages of one model side by side in real browsers: one kit finds, sorts, enlarges, links; names stay text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from convscope import load
from convscope.cli.main import run
from convscope.engine.pages import answers

from ..tiny import small_cnn
from .browser import dom, driven, needs_chromium
from .driver import CHROMIUM, FIREFOX, Chromium, Firefox

pytestmark = needs_chromium

HOSTILE = "</script><img src=x onerror='document.documentElement.dataset.pwned = 1'>"
LONG = "stage_of_the_network_1_block_3_depthwise_convolution_static_padding"
FAST = ["--no-check", "--preprocessing", "torch", "--image-size", "16", "--quiet"]
WALLS = ["filters", "weights", "top", "stats", "activations"]
PAGES = [*WALLS, "explain", "predict"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of a model with a hostile and a long layer name, of pictures with a hostile file name."""
    folder = tmp_path_factory.mktemp("pages")
    model = small_cnn()
    for node in model.graph.node:
        node.name = {"/conv2/Conv": HOSTILE.split(">", 1)[1], "/pool1/MaxPool": LONG}.get(node.name, node.name)
    onnx.save(model, folder / "small.onnx")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "<img src=x onerror=alert(1)>.png"):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / "photos" / name)
    photos = str(folder / "photos")
    made = {}
    for command, more in {
        "filters": ["--layer", "conv1", "--units", "0-3", "--steps", "1", "--size", "16"],
        "activations": [photos],
        "weights": [],
        "top": [photos, "--layer", "conv1,relu1", "-k", "2"],
        "explain": [photos, "--method", "gradcam"],
        "stats": [photos],
        "predict": [photos],
    }.items():
        out = folder / command
        assert run([command, str(folder / "small.onnx"), *more, *FAST, "-o", str(out)]) == 0
        made[command] = out / "index.html"
    return made


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium | Firefox]:
    """A browser that stays open for the module."""
    kind, there = (Chromium, CHROMIUM) if request.param == "chromium" else (Firefox, FIREFOX)
    if there is None:
        pytest.skip(f"{request.param} is not installed")
    opened = kind(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.mark.parametrize("command", PAGES)
def test_the_page_shows_its_pictures_without_a_complaint_and_names_stay_text(
    command: str, pages: dict[str, Path]
) -> None:
    html, console = dom(pages[command])
    assert console == ""
    assert "data-pwned" not in html[:200]
    shown = html[html.index("<main") : html.index("<footer")]
    assert ("<svg" if command == "stats" else "data:image/") in html
    assert "[object" not in shown and "undefined" not in shown and "NaN" not in shown


SET = """
const set = (id, value, event) => {
  const node = document.getElementById(id);
  node.value = value;
  node.dispatchEvent(new Event(event));
};
const units = () => [...document.querySelectorAll("main a.tile .under b")]
  .map((node) => parseInt(node.textContent.replace("unit ", "")));
const later = (go) => new Promise((done) => {
  addEventListener("hashchange", () => setTimeout(done, 30), { once: true });
  go();
});
"""


@pytest.mark.parametrize("command", WALLS)
def test_every_wall_finds_ranges_and_names_sorts_and_holds_both_in_its_address(
    command: str, pages: dict[str, Path], browser: Chromium | Firefox
) -> None:
    browser.open(pages[command].as_uri())
    said = browser.run(
        SET
        + """
        const out = [units().every(Number.isInteger)];
        set("find", "1-2", "input");
        out.push(units().length > 0 && units().every((n) => n === 1 || n === 2), location.hash);
        set("sort", "unit", "change"); document.getElementById("turn").click();
        out.push(units()[0], location.hash);
        set("find", "no such thing", "input");
        out.push(units().length, document.getElementById("nothing").hidden);
        return out;
        """
    )
    assert said == [True, True, "#/?find=1-2", 2, "#/?find=1-2&sort=-unit", 0, False]
    browser.open(pages[command].as_uri() + "#/?find=0-1&sort=-unit")
    assert browser.run(SET + "return [document.getElementById('find').value, units()[0]];") == ["0-1", 1]


@pytest.mark.parametrize("command", WALLS)
def test_a_tile_enlarges_and_esc_leaves_back_where_it_was(
    command: str, pages: dict[str, Path], browser: Chromium | Firefox
) -> None:
    browser.open(pages[command].as_uri())
    said = browser.run(
        SET
        + """
        const view = document.getElementById("unit"), before = history.length, out = [];
        await later(() => document.querySelectorAll("main a.tile")[1].click());
        out.push(view.open, document.getElementById("unit-title").textContent.includes("1"));
        await later(() => view.querySelector("[aria-label^=next]").click());
        out.push(document.getElementById("unit-title").textContent.includes("2"));
        await later(() => view.close());
        out.push(view.open, location.hash.includes("unit/"), history.length - before);
        await later(() => history.forward());
        out.push(view.open);
        await later(() => history.back());
        return [...out, view.open];
        """
    )
    # one entry in all: Esc went back over it, so that Back now leads to what was before the page
    assert said == [True, True, True, False, False, 1, True, False]


def test_a_deep_link_that_is_closed_leaves_the_page_and_no_entry(
    pages: dict[str, Path], browser: Chromium | Firefox
) -> None:
    browser.open(pages["top"].as_uri() + "#/unit/2?layer=relu1&find=1-3")
    said = browser.run(
        """
        const view = document.getElementById("unit"), before = history.length;
        const title = document.getElementById("unit-title").textContent;
        view.close();
        await new Promise((done) => setTimeout(done, 50));
        return [title, view.open, location.hash, history.length - before, document.getElementById("layer").value];
        """
    )
    assert said == ["Unit 2relu1", False, "#/?layer=relu1&find=1-3", 0, "relu1"]


def test_a_click_enlarges_a_picture_of_the_explanation(pages: dict[str, Path], browser: Chromium | Firefox) -> None:
    browser.open(pages["explain"].as_uri())
    said = browser.run(
        SET
        + """
        const view = document.getElementById("unit"), all = document.querySelectorAll("main .enlarge");
        await later(() => all[1].click());
        const shown = view.querySelector("img").src === all[1].querySelector("img").src;
        const open = view.open; await later(() => view.close());
        return [shown, open, view.open, document.activeElement === all[1]];
        """
    )
    assert said == [True, True, False, True]


def test_the_pages_of_a_unit_lead_to_each_other(pages: dict[str, Path], browser: Chromium | Firefox) -> None:
    """The first page that was made knows the last, and a convolution's unit is that of its activation."""
    browser.open(pages["filters"].as_uri() + "#/unit/1")
    links = browser.run("return [...document.querySelectorAll('.links a')].map((a) => [a.textContent, a.href]);")
    labels = {text.split(" (")[0] for text, _ in links}
    assert labels == {"its feature maps", "its weights", "its best photographs", "its statistics"}
    for text, address in links:
        browser.open(address)
        title = browser.run("return document.getElementById('unit-title').textContent;")
        assert title.startswith(("Unit 1", "Filter 1")), (text, title)
        assert browser.run("return [...document.querySelectorAll('.links a')].some((a) => a.href.includes('filters'));")


def test_keys_are_the_same_on_every_page(pages: dict[str, Path], browser: Chromium | Firefox) -> None:
    if isinstance(browser, Firefox):
        pytest.skip("its driver presses no keys")
    for command in PAGES:
        browser.open(pages[command].as_uri())
        browser.key("/")
        assert browser.run("return document.activeElement.id;") == "find", command
        browser.key("7")
        browser.key("Escape")
        assert browser.run("return document.getElementById('find').value;") == "", command
        browser.key("?")
        assert browser.run("return document.getElementById('keys').open;"), command
        browser.key("Escape")
        if command in WALLS:
            browser.key("ArrowRight")
            browser.key("ArrowRight")
            browser.key("Enter")
            browser.wait("document.getElementById('unit').open")
            browser.key("Escape")
            browser.wait("!document.getElementById('unit').open && document.activeElement.matches('a.tile')")
        assert browser.complaints == [], command


def test_the_activations_page_changes_the_picture_and_finds_layers(pages: dict[str, Path]) -> None:
    said = driven(
        pages["activations"],
        """
        const pick = document.getElementById("image"), find = document.getElementById("find");
        const first = document.querySelector("#picture img").alt;
        pick.value = "1"; pick.dispatchEvent(new Event("change"));
        const second = document.querySelector("#picture img").alt;
        const all = document.querySelectorAll(".section").length;
        find.value = "relu1"; find.dispatchEvent(new Event("input"));
        return [first !== second, all > document.querySelectorAll(".section").length,
          document.querySelectorAll(".section").length > 0].join(" ");
        """,
    )
    assert said == "true true true"


def test_the_top_page_sorts_by_value(pages: dict[str, Path]) -> None:
    said = driven(
        pages["top"],
        """
        const sort = document.getElementById("sort");
        sort.value = "value"; sort.dispatchEvent(new Event("change"));
        const values = [...document.querySelectorAll(".values")].map((node) => parseFloat(node.textContent));
        return String(values.length > 2 && values.every((value, i) => i === 0 || values[i - 1] >= value));
        """,
    )
    assert said == "true"


def test_the_statistics_page_says_that_likeness_is_not_told_from_few_photographs(pages: dict[str, Path]) -> None:
    html, _ = dom(pages["stats"])
    shown = html[html.index("<main") : html.index("<footer")]
    assert "Not told from 3 photographs" in shown and "Give at least 16" in shown


def test_every_picture_and_control_has_a_name(pages: dict[str, Path], browser: Chromium | Firefox) -> None:
    for command in PAGES:
        browser.open(pages[command].as_uri())
        said = browser.run(
            """
            const named = (node) => node.ariaLabel || node.getAttribute("aria-label");
            const unnamed = [...document.querySelectorAll("img")].filter((i) => !i.alt).length
              + [...document.querySelectorAll("[role=img]")].filter((i) => !named(i)).length
              + [...document.querySelectorAll("button, a")].filter((b) => !(b.textContent.trim() || named(b))).length
              + [...document.querySelectorAll("input, select")].filter((i) => !i.labels.length && !named(i)).length;
            return [unnamed, document.querySelectorAll("h1").length];
            """
        )
        assert said == [0, 1], command


def test_a_narrow_window_scrolls_in_one_direction_only(pages: dict[str, Path], tmp_path: Path) -> None:
    narrow = Chromium(tmp_path, (420, 800))
    try:
        narrow.narrow(420)
        beside = {}
        for name, page in pages.items():  # names of layers and pictures are long
            narrow.open(page.as_uri())
            beside[name] = narrow.run("return document.documentElement.scrollWidth")
        assert {name: width for name, width in beside.items() if width > 420} == {}
    finally:
        narrow.close()


def test_the_page_of_predictions_finds_sorts_and_enlarges(pages: dict[str, Path], browser: Chromium | Firefox) -> None:
    browser.open(pages["predict"].as_uri())
    said = browser.run(
        SET
        + """
        const names = () => [...document.querySelectorAll("main .case h2")].map((node) => node.textContent);
        const out = [names().length, document.querySelectorAll(".predictions tr").length];
        set("find", "b.png", "input");
        out.push(names().join());
        set("find", "", "input");
        await later(() => document.querySelector("main .enlarge").click());
        out.push(document.getElementById("unit").open);
        return out;
        """
    )
    assert said == [3, 9, "b.png", True]


def test_the_explanation_says_what_its_score_is_and_why_its_colours_end(pages: dict[str, Path]) -> None:
    html, _ = dom(pages["explain"])
    shown = html[html.index("<main") : html.index("<footer")]
    assert "logit, before the softmax" in shown
    assert "The model sees" not in shown  # all of it: the picture is squashed
    graph = load(pages["explain"].parents[1] / "small.onnx", check=False, size=(16, 16))
    cropping = replace(graph, preprocessing=replace(graph.preprocessing, resize="crop", crop=0.5))
    assert "rows 10 to 30 and columns 20 to 40 of 40 x 60" in answers.frame_in_words(cropping, (40, 60))
