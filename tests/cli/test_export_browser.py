"""The exported page in real browsers, opened from disk: classes, maps, clicks; the same numbers as in Python.

Needs ONNX Runtime for browsers in convscope's cache (`convscope export ... --single-file` fetches it once), since tests
fetch nothing.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import convscope
from convscope.engine.export.web import write_single_file
from convscope.engine.pictures.read import model_input
from convscope.models import onnxruntime_web

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
const { asked, map, input } = window.explanation;
return JSON.stringify({ index: asked.class, map: Array.from(map.data), input: Array.from(input) });
"""


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
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    browser = kind(tmp_path)
    try:
        browser.open(page.as_uri())
        browser.run(_DROP % base64.b64encode(png.getvalue()).decode())
        browser.wait('document.documentElement.dataset.explained === "-1"')
        browser.run("document.querySelectorAll('#classes button')[2].click();")
        browser.wait("document.documentElement.dataset.explained !== '-1'")
        found = json.loads(browser.run(_READ))
        if isinstance(browser, Chromium):
            assert not browser.complaints and all(url.startswith(("file:", "blob:")) for url in browser.requests)
    finally:
        browser.close()
    x = model_input(pixels, graph)
    np.testing.assert_allclose(found["input"], x.ravel(), atol=1e-6)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    scores, heatmap = session.run(None, {"input": x, "class": np.array([found["index"]])})
    assert found["index"] == int(np.argsort(-scores[0], kind="stable")[2])
    np.testing.assert_allclose(found["map"], heatmap.ravel(), atol=1e-5 * heatmap.max())
