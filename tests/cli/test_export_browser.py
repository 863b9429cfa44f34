"""The exported page in real browsers, opened from disk: classes, maps, clicks; the same numbers as in Python.

Needs ONNX Runtime for browsers in convscope's cache (`convscope export ... --single-file` fetches it once), since tests
fetch nothing.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import convscope
from convscope.engine.export.web import write_single_file
from convscope.engine.outputs import read_outputs
from convscope.engine.outputs.boxes import DetectionReading
from convscope.engine.pictures.read import model_input
from convscope.models import onnxruntime_web

from ..engine.outputs import proof
from ..integration.shipped_lenet import graph as shipped
from .driver import CHROMIUM, FIREFOX, Chromium, Firefox

pytestmark = pytest.mark.skipif(
    not onnxruntime_web.is_present(), reason=f"onnxruntime-web {onnxruntime_web.VERSION} is not in the cache"
)
_DROP = """
const bytes = Uint8Array.from(atob("%s"), (c) => c.charCodeAt(0)), moved = new DataTransfer();
moved.items.add(new File([bytes], "digit.png", { type: "image/png" }));
window.dispatchEvent(new DragEvent("drop", { dataTransfer: moved, bubbles: true }));
"""
_READ = """
const { asked, map, input } = window.explanation, { width, height } = document.getElementById("picture");
const drawn = document.getElementById("picture").getContext("2d").getImageData(0, 0, width, height).data;
return JSON.stringify({ %s, map: Array.from(map.data), input: Array.from(input), drawn: Array.from(drawn) });
"""


def _clicked(
    browser: Chromium | Firefox, page: Path, pixels: np.ndarray, number: int, what: str
) -> tuple[list[str], dict[str, Any]]:
    """Drops a picture on the page and clicks what it lists under ``number``; the list, and the explanation's values.

    ``what`` is read of what was asked, as a part of a JavaScript object. The browser is closed behind it.
    """
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    try:
        browser.open(page.as_uri())
        browser.run(_DROP % base64.b64encode(png.getvalue()).decode())
        browser.wait('document.documentElement.dataset.explained === "-1"')
        listed = browser.run("return [...document.querySelectorAll('#classes button')].map(b => b.textContent)")
        browser.run(f"document.querySelectorAll('#classes button')[{number}].click();")
        browser.wait("document.documentElement.dataset.explained !== '-1'")
        found = json.loads(browser.run(_READ % what))
        if isinstance(browser, Chromium):
            assert not browser.complaints and all(url.startswith(("file:", "blob:")) for url in browser.requests)
    finally:
        browser.close()
    return listed, found


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Chromium, marks=pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")),
        pytest.param(Firefox, marks=pytest.mark.skipif(FIREFOX is None, reason="firefox-esr is not installed")),
    ],
)
def test_a_page_opened_from_disk_explains_as_python_does(kind: type[Chromium] | type[Firefox], tmp_path: Path) -> None:
    graph = shipped("onnx")
    exported = convscope.export(graph, tmp_path / "out.onnx", layer="relu2", class_input=True).path
    page = write_single_file(graph, exported, tmp_path / "page.html", onnxruntime_web.runtime_files())
    pixels = np.random.default_rng(0).integers(0, 256, (37, 45, 3), dtype=np.uint8)
    _, found = _clicked(kind(tmp_path), page, pixels, 2, "index: asked.class")
    x = model_input(pixels, graph)
    np.testing.assert_allclose(found["input"], x.ravel(), atol=1e-6)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    scores, heatmap = session.run(None, {"input": x, "class": np.array([found["index"]])})
    assert found["index"] == int(np.argsort(-scores[0], kind="stable")[2])
    np.testing.assert_allclose(found["map"], heatmap.ravel(), atol=1e-5 * heatmap.max())
    drawn = np.array(found["drawn"]).reshape(*graph.image_size, 4)
    row, column = np.unravel_index(heatmap[0].argmax(), heatmap.shape[1:])
    across = graph.image_size[0] // heatmap.shape[1]
    red, green, blue, _ = drawn[row * across + across // 2, column * across + across // 2]
    assert red > green and red > blue + 20  # the end of the colours lies on the strongest place


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_detector_s_page_lists_its_boxes_and_explains_the_one_that_is_clicked(tmp_path: Path) -> None:
    net = proof.trained(proof.Detector(), "detector")
    graph = convscope.load(net, example_input=torch.zeros(1, 3, 64, 64), check=False, labels=["red", "green", "blue"])
    exported = convscope.export(graph, tmp_path / "out.onnx", class_input=True).path
    page = write_single_file(graph, exported, tmp_path / "page.html", onnxruntime_web.runtime_files())
    pixels = np.rint(proof.squares(4)[0].transpose(1, 2, 0) * 255).clip(0, 255).astype(np.uint8)
    listed, found = _clicked(Chromium(tmp_path), page, pixels, 1, "asked")
    x = model_input(pixels, graph)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    feeds = {name: np.array([value]) for name, value in found["asked"].items()}
    table, heatmap = session.run(None, {"input": x, **feeds})
    reading = read_outputs(graph)
    assert isinstance(reading, DetectionReading)
    wanted = reading.detections({reading.tensors[0]: table[0]})
    assert [text.split("  ")[0] for text in listed] == [f"{d.number}: {d.name}" for d in wanted]
    assert found["asked"] == {"box": wanted[1].place, "class": wanted[1].index}
    np.testing.assert_allclose(found["map"], heatmap.ravel(), atol=1e-5 * heatmap.max())
