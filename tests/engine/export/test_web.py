"""The page's preprocessing is Python's, and the page holds what it needs and allows nothing else."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import convscope
from convscope.engine.export.web import RUNTIME, _boxes, _text, write_folder, write_single_file
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.preprocessing import PREPROCESSINGS, Preprocessing
from convscope.engine.outputs import read_outputs
from convscope.engine.outputs.boxes import DetectionReading
from convscope.engine.outputs.sequences import Line, SequenceReading
from convscope.engine.pictures.read import model_input

from ...tiny import model, small_cnn
from ..outputs.planted import planted

PAGE = Path(convscope.__file__).parent / "engine" / "export" / "page"
NODE = shutil.which("node")
FAKE = {name: f"// {name}".encode() for name in RUNTIME}


@pytest.fixture(scope="module")
def graph() -> Graph:
    found = convscope.load(small_cnn())
    return replace(found, preprocessing=Preprocessing(size=(16, 16)), labels=("a", "<b>", "c", "d", "</script>"))


@pytest.fixture(scope="module")
def exported(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convscope.export(graph, tmp_path_factory.mktemp("file") / "out.onnx", class_input=True).path


def in_node(folder: Path, cases: list[dict[str, Any]]) -> list[np.ndarray]:
    """What the page's own script makes of pictures, run by node."""
    program = (
        "const p = require(process.argv[1]), cases = JSON.parse(require('fs').readFileSync(process.argv[2]));"
        "console.log(JSON.stringify(cases.map(c => Array.from(p.normalize("
        "p.fit(Float32Array.from(c.pixels), c.shape, c.size, c.p), c.size, c.channels, c.p)))))"
    )
    (folder / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run(
        [str(NODE), "-e", program, str(PAGE / "preprocess.js"), str(folder / "cases.json")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [np.array(values, dtype=np.float32) for values in json.loads(done.stdout)]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_page_s_preprocessing_is_python_s(graph: Graph, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases, expected = [], []
    for interpolation in ("bilinear", "bicubic", "lanczos", "nearest"):
        for resize, crop in (("squash", 1.0), ("crop", 0.875), ("border", 1.0), ("letterbox", 1.0), ("squash", 0.9)):
            for shape, size in (((23, 31), (16, 16)), ((12, 9), (16, 20)), ((16, 16), (16, 16)), ((41, 8), (9, 14))):
                for preset in ("caffe", "torch"):
                    p = replace(
                        PREPROCESSINGS[preset], interpolation=interpolation, resize=resize, crop=crop, size=size
                    )
                    pixels = rng.random((*shape, 3), dtype=np.float32)
                    changed = replace(graph, preprocessing=p)
                    expected.append(model_input(pixels, changed, size).ravel())
                    case = {"pixels": pixels.ravel().tolist(), "shape": shape, "size": size, "channels": 3}
                    cases.append({**case, "p": p.to_json()})
    for found, wanted in zip(in_node(tmp_path, cases), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * max(np.abs(wanted).max(), 1))


def test_one_file_holds_everything_and_its_policy_allows_nothing_else(
    graph: Graph, exported: Path, tmp_path: Path
) -> None:
    text = write_single_file(graph, exported, tmp_path / "page.html", FAKE).read_text(encoding="utf-8")
    held = dict(re.findall(r'<script type="application/octet-stream" id="(\w+)">([^<]*)</script>', text))
    assert base64.b64decode(held["model"]) == exported.read_bytes()
    assert base64.b64decode(held["wasm"]) == FAKE[RUNTIME[2]]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and "default-src 'none'" in policy[1] and "connect-src" not in policy[1]
    assert "unsafe-inline" not in re.search(r"script-src ([^;]*)", policy[1])[1]  # type: ignore[index]
    assert not re.search(r'(src|href)="', text)


def test_hostile_labels_stay_text(graph: Graph, exported: Path, tmp_path: Path) -> None:
    text = write_single_file(graph, exported, tmp_path / "page.html", FAKE).read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="info">(.*?)</script>', text, re.S)
    assert found and json.loads(found[1])["labels"] == list(graph.labels or ())
    assert "<b>" not in text
    colours = np.array(json.loads(found[1])["colours"])
    assert (
        colours.shape == (256, 3) and 0 <= colours.min() < 9 and 250 < colours.max() < 256
    )  # bytes, as a canvas has them


@pytest.mark.parametrize("name", ["y", None])
def test_of_several_outputs_the_page_lists_the_one_that_is_explained_and_says_so(
    tmp_path: Path, name: str | None
) -> None:
    plain = small_cnn()
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in plain.graph.initializer} | {
        "two": np.ones((5, 2), np.float32)
    }
    pair = helper.make_node("MatMul", [plain.graph.node[-1].input[0], "two"], ["place <b>"], "/pair/MatMul")
    named = model([*plain.graph.node, pair], weights, outputs=("place <b>", "y") if name else ("y", "place <b>"))
    graph = convscope.load(named, check=False)
    exported = convscope.export(graph, tmp_path / "out.onnx", output=name, class_input=True)
    text = write_single_file(graph, exported.path, tmp_path / "page.html", FAKE).read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="info">(.*?)</script>', text, re.S)
    info = json.loads(found[1]) if found else {}
    assert (info["output"], info["head"], info["lists"]) == ("y", "probabilities", "classes")
    assert "not place &lt;b&gt;" in text


def test_a_folder_asks_for_its_own_files_alone(graph: Graph, exported: Path, tmp_path: Path) -> None:
    page = write_folder(graph, exported, tmp_path / "demo", FAKE)
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r'src="([^"]*)"', text):
        assert (page.parent / name).is_file()
    assert (page.parent / "model.onnx").read_bytes() == exported.read_bytes()
    assert "connect-src 'self'" in text and "http" not in re.search(r'content="([^"]*)"', text)[1]  # type: ignore[index]


def test_a_model_of_two_channels_has_no_page(graph: Graph, exported: Path, tmp_path: Path) -> None:
    from ...tiny import model

    two = model(small_cnn().graph.node, {}, ("N", 2, 16, 16))
    import onnx
    from onnx import numpy_helper

    for tensor in small_cnn().graph.initializer:
        value = numpy_helper.to_array(tensor)
        value = value[:, :2] if tensor.name == "conv1.weight" else value
        two.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
    assert isinstance(two, onnx.ModelProto)
    with pytest.raises(convscope.UsageError, match="2 channels"):
        write_folder(convscope.load(two), exported, tmp_path / "demo", FAKE)


def grid_outputs(columns: int) -> np.ndarray:
    """(84, columns): centres and sizes of 64 pixels, and scores of which a few are high."""
    rng = np.random.default_rng(1)
    centres, sizes = rng.uniform(5, 60, (2, 84)), rng.uniform(8, 24, (2, 84))
    scores = rng.uniform(0, 1, (columns - 4, 84))
    return np.concatenate([centres, sizes, scores]).T.astype(np.float32)


BOXES = {
    "YOLOv8": ({"output0": grid_outputs(7).T[None]}, "yolov8"),
    "YOLOv5": ({"output": np.repeat(grid_outputs(8), 3, 0)[None]}, "yolov5"),
    "YOLOX": ({"output": (grid_outputs(8) / [16, 16, 8, 8, 1, 1, 1, 1])[None]}, "yolox"),
    "DETR": ({"pred_logits": np.log(grid_outputs(7)[:40, 4:] + 0.01)[None],
              "pred_boxes": grid_outputs(7)[:40, :4][None] / 64}, "detr"),
}  # fmt: skip


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("kind", BOXES)
def test_the_page_finds_the_boxes_that_python_finds(kind: str, tmp_path: Path) -> None:
    outputs, decoder = BOXES[kind]
    found = planted(outputs, labels=["a", "b", "c"])
    reading = read_outputs(found, decoder)
    assert isinstance(reading, DetectionReading)
    values = found.session(list(outputs)).run(np.zeros((1, 3, 64, 64), np.float32))
    results = {n: {"dims": v.shape, "data": v.ravel().tolist()} for n, v in values.items()}
    (tmp_path / "case.json").write_text(json.dumps({"results": results, "boxes": _boxes(reading)}))
    program = (
        "const p = require(process.argv[1]), c = JSON.parse(require('fs').readFileSync(process.argv[2]));"
        "console.log(JSON.stringify(p.boxesOf(c.results, c.boxes)))"
    )
    command = [str(NODE), "-e", program, str(PAGE / "boxes.js"), str(tmp_path / "case.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    wanted = reading.detections({name: value[0] for name, value in values.items()})
    assert len(wanted) > 2
    listed = json.loads(done.stdout)
    assert [(b["place"], b["index"]) for b in listed] == [(d.place, d.index) for d in wanted]
    np.testing.assert_allclose([b["sides"] for b in listed], [d.box for d in wanted], atol=1e-3)
    np.testing.assert_allclose([b["score"] for b in listed], [d.score for d in wanted], atol=1e-6)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("decoder", ["ctc", "steps"])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)], ids=["pictures first", "time first"])
@pytest.mark.parametrize("are_shares", [True, False], ids=["probabilities", "logits"])
def test_the_page_reads_the_line_that_python_reads(
    decoder: str, order: tuple[int, int, int], are_shares: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(size=(1, 24, 6)).astype(np.float32)
    table[0, np.arange(24), rng.integers(0, 3, 24)] += 4  # repeats and blanks
    heads = {"line": "Softmax"} if are_shares else {}
    found = planted({"line": table.transpose(order)}, labels=["a", "b", "c", "d", "e"], heads=heads)
    reading = read_outputs(found, decoder)
    assert isinstance(reading, SequenceReading)
    x = np.zeros((1, 3, 64, 64), np.float32)
    values = found.session(["line"]).run(x)["line"]
    case = {"results": {"line": {"dims": values.shape, "data": values.ravel().tolist()}}, "text": _text(reading)}
    (tmp_path / "case.json").write_text(json.dumps(case))
    program = (
        "const p = require(process.argv[1]), c = JSON.parse(require('fs').readFileSync(process.argv[2]));"
        "console.log(JSON.stringify(p.lineOf(c.results, c.text)))"
    )
    command = [str(NODE), "-e", program, str(PAGE / "text.js"), str(tmp_path / "case.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    rows = found.session([reading.tensor]).run(x)[reading.tensor]
    line = reading.answer({reading.tensor: rows.take(0, axis=reading.axes[reading.tensor] or 0)})
    assert isinstance(line, Line) and len(line.characters) > 5
    listed = json.loads(done.stdout)
    assert [(c["number"], c["text"]) for c in listed] == [(c.number, c.text) for c in line.characters]
    np.testing.assert_allclose([c["probability"] for c in listed], [c.probability for c in line.characters], atol=1e-6)
