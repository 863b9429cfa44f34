"""Pages: what templates may hold, and that their text keeps to the rules without a browser too."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convscope.engine.pages import gallery
from convscope.engine.pages import template as page

TEMPLATES = [*sorted(page.TEMPLATES.glob("*.html")), *sorted(page.KIT.iterdir())]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda p: p.name)
def test_templates_keep_the_rules(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    for forbidden in ("|safe", "| safe", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in text, f"{template.name} has {forbidden}"
    assert not re.search(r"<[^>]*\son\w+\s*=", text), "inline handlers are blocked by the policy"
    assert not re.search(r"\b(src|href)=(?![\"'{])", text), "attributes are quoted"
    without_namespace = text.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in without_namespace
    assert "https:" not in without_namespace
    if template.suffix == ".html" and template.name != "base.html":
        assert re.match(r'{% extends "(base|answers)\.html" %}', text), (
            "answers.html is a base of its own, of base.html"
        )
        assert "<script" not in text, "scripts go into the block of base.html, which has their hash"


def test_data_comes_back_as_it_was_and_cannot_end_its_element() -> None:
    data = {"name": "</script><!--<script>&'\"\u2028", "nan": float("nan"), "numbers": np.arange(3)}
    text = page.render_page("base.html", title="t", data=data)
    element = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert element is not None
    assert json.loads(element.group(1)) == {"name": data["name"], "nan": None, "numbers": [0, 1, 2]}
    assert "<" not in element.group(1)


def test_title_and_command_are_escaped() -> None:
    text = page.render_page("base.html", title="<b>&", command='<i>"')
    assert html.escape("<b>&") in text
    assert "<b>" not in text
    assert "<i>" not in text


def test_text_that_turns_around_is_written_out() -> None:
    text = page.render_page("base.html", title="a\u202eb\x1b\ud800", facts={"x": "\u2066y"}, command="c\u200bd\ne")
    assert "<h1>a\\u202eb\\u001b\\ud800</h1>" in text
    assert "<dd>\\u2066y</dd>" in text
    assert "c\\u200bd\ne</code>" in text


def test_page_is_a_pure_function_of_its_data() -> None:
    result = {"model": "m", "layer": "l", "units": [{"unit": 0, "history": [1.0]}]}
    pictures = {0: np.random.default_rng(0).random((80, 80, 3))}
    assert gallery.filters_page(result, pictures) == gallery.filters_page(result, pictures)


def test_a_gallery_says_what_was_changed_of_its_preset_and_what_speaks_against_a_class() -> None:
    result: dict[str, Any] = {"model": "m", "layer": "fc", "units": [{"unit": 3, "name": "cat"}]}
    result |= {"settings": {"jitter": 4.0, "decay": 0.05}, "provenance": {"negative": True}}
    text = gallery.filters_page(result, {})
    assert "<dt>settings</dt><dd>jitter=4, decay=0.05</dd>" in text
    assert "<dt>shows</dt><dd>what speaks against each class</dd>" in text
    plain = gallery.filters_page({**result, "settings": {}, "provenance": {"negative": False}}, {})
    assert "<dt>settings</dt>" not in plain and "<dt>shows</dt>" not in plain


@pytest.mark.parametrize(("format", "exact"), [("png", True), ("webp", False), ("jpeg", False)])
def test_data_uri_holds_the_picture(format: str, exact: bool) -> None:
    pixels = np.linspace(0, 1, 32 * 24 * 3).reshape(32, 24, 3)
    uri = page.data_uri(pixels, format=format)
    prefix = f"data:image/{format};base64,"
    assert uri.startswith(prefix)
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri[len(prefix) :]))).convert("RGB")) / 255
    assert np.abs(back - pixels).max() <= (0.5 / 255 + 1e-9 if exact else 0.1)


def test_data_uri_shrinks_and_never_enlarges() -> None:
    def size(uri: str) -> tuple[int, int]:
        return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size

    assert size(page.data_uri(np.zeros((100, 50)), longest=20)) == (10, 20)
    assert size(page.data_uri(np.zeros((10, 5)), longest=20)) == (5, 10)


def test_small_pictures_are_embedded_without_loss_and_long_histories_thinned() -> None:
    result = {"model": "m", "layer": "l", "units": [{"unit": 7, "history": list(np.arange(1000.0))}]}
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    text = gallery.filters_page(result, {7: pixels})
    match = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert match is not None
    unit = json.loads(match.group(1))["units"][0]
    raw = base64.b64decode(unit["picture"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(raw))), pixels[:, :, 0])
    assert len(unit["history"]) == 240
    assert (unit["history"][0], unit["history"][-1], unit["steps"]) == (0, 999, 999)


def test_command_of_a_unit_quotes_hostile_names() -> None:
    result = {"model": {"path": "a b.onnx", "sha256": "0"}, "layer": "x; rm -rf ~", "seed": 0, "units": []}
    text = gallery.filters_page(result, {})
    match = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert match is not None
    command = json.loads(match.group(1))["command"]
    assert command == "convscope filters 'a b.onnx' --layer 'x; rm -rf ~' --seed 0 --units "


def test_command_of_a_unit_keeps_the_options_of_the_whole() -> None:
    made = "convscope filters m.onnx -l conv1 --units 0-63 --preset lucid -o 'my out' --live --mean 1,2,3"
    text = gallery.filters_page({"model": "m", "layer": "conv1", "units": []}, {}, command=made)
    match = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert match is not None
    command = json.loads(match.group(1))["command"]
    assert command == "convscope filters m.onnx -l conv1 --preset lucid --mean 1,2,3 --units "


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            "convscope filters m.h5 --preprocessing raw --no-check -l c -u0-3 -oout --start=noise",
            "convscope filters m.h5 --preprocessing raw --no-check -l c --start=noise --units ",
        ),
        (
            "convscope maximize m.pt --arch a:B --trust --class=3,4 --mean 1,2,3 --units=9 --labels l.txt",
            "convscope maximize m.pt --arch a:B --trust --mean 1,2,3 --labels l.txt --class ",
        ),
        ("convscope maximize m.onnx -c 'bald eagle' --size 64", "convscope maximize m.onnx --size 64 --class "),
    ],
)
def test_the_command_of_one_unit_opens_the_model_as_the_whole_command_did(made: str, expected: str) -> None:
    text = gallery.filters_page({"model": "m", "layer": "conv1", "units": []}, {}, command=made)
    match = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert match is not None and json.loads(match.group(1))["command"] == expected


def _luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_placeholders_can_be_read_in_both_colour_schemes() -> None:
    style = (page.KIT / "kit.css").read_text(encoding="utf-8")
    assert "::placeholder { color: var(--soft); opacity: 1; }" in style
    inks, papers = re.findall(r"--soft: (#\w{6})", style), re.findall(r"--card: (#\w{6})", style)
    assert len(inks) == len(papers) == 2
    for pair in zip(inks, papers, strict=True):
        low, high = sorted(map(_luminance, pair))
        assert (high + 0.05) / (low + 0.05) >= 4.5
