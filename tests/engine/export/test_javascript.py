"""The JavaScript of docs/export.md, run by node with ONNX Runtime for browsers (from convscope's cache)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import convscope
from convscope.models import onnxruntime_web

from ...tiny import small_cnn

DOCS = Path(__file__).resolve().parents[3] / "docs" / "export.md"
NODE = shutil.which("node")
_AROUND = """
const fs = require("fs"), { pathToFileURL } = require("url"), [, folder, file] = process.argv;
const ort = require(folder + "/ort.wasm.min.js");
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = fs.readFileSync(folder + "/ort-wasm-simd-threaded.wasm");
ort.env.wasm.wasmPaths = { mjs: pathToFileURL(folder + "/ort-wasm-simd-threaded.mjs").href };
const pixels = Float32Array.from({ length: 3 * 16 * 16 }, (_, i) => Math.sin(i));
explain(ort, fs.readFileSync(file), pixels, [1, 3, 16, 16], 3).then(
  (heatmap) => console.log(JSON.stringify({ dims: heatmap.dims, data: Array.from(heatmap.data) })));
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.skipif(not onnxruntime_web.is_present(), reason="onnxruntime-web is not in the cache")
def test_the_documented_javascript_gives_python_s_map(tmp_path: Path) -> None:
    snippet = re.search(r"^```js\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    assert snippet
    file = convscope.export(convscope.load(small_cnn()), tmp_path / "out.onnx", layer="relu1", class_input=True).path
    done = subprocess.run(
        [str(NODE), "-e", snippet[1] + _AROUND, str(onnxruntime_web.folder()), str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout)
    x = np.sin(np.arange(3 * 16 * 16)).astype(np.float32).reshape(1, 3, 16, 16)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (expected,) = session.run(["heatmap"], {"x": x, "class": np.array([3])})
    assert found["dims"] == list(expected.shape)
    np.testing.assert_allclose(found["data"], expected.ravel(), atol=1e-5 * expected.max())
