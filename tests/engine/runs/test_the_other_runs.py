"""activations, top, stats, weights, attack and compare from Python: in memory, and the same in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from convscope.adapters.load import load
from convscope.engine.graph.graph import Graph
from convscope.engine.pictures.read import model_input, read_image
from convscope.engine.runs import activations, attack, compare, stats, top, weights
from convscope.engine.runs.events import Event, Note, Progress
from convscope.engine.runs.result import Result
from convscope.errors import UsageError

from ...tiny import model as tiny_model

RUNS: dict[str, Callable[[Graph, Path, Path | None], Result]] = {
    "activations": lambda g, p, f: activations.run(g, [p], activations.Options("conv1", device="cpu"), f),
    "top": lambda g, p, f: top.run(g, [p], "conv1", top.Options(k=2, device="cpu"), f),
    "stats": lambda g, p, f: stats.run(g, [p], stats.Options("conv1", device="cpu"), f),
    "weights": lambda g, p, f: weights.run(g, weights.Options("conv1"), f),
    "attack": lambda g, p, f: attack.run(g, p / "a.png", attack.Options("fgsm", device="cpu"), f),
    "compare": lambda g, p, f: compare.run(g, g, compare.Options(), f),
}


@pytest.mark.parametrize("verb", RUNS)
def test_a_folder_adds_files_and_no_numbers(verb: str, lenet: Graph, photos: Path, tmp_path: Path) -> None:
    before = sorted(photos.parent.rglob("*"))
    memory = RUNS[verb](lenet, photos, None)
    assert sorted(photos.parent.rglob("*")) == before
    kept = RUNS[verb](lenet, photos, tmp_path / "out")
    written = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert written == json.loads(json.dumps(kept.to_json()))
    assert _numbers(memory.to_json()) == _numbers(written)
    assert list(written)[:5] == ["schema_version", "model", "preprocessing", "command", "versions"]


def _numbers(value: Any) -> Any:
    """Without the names of files."""
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items() if k not in ("grid", "picture", "file", "saved")}
    return [_numbers(v) for v in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("verb", ["top", "stats"])
def test_a_pass_goes_on_where_it_stopped_and_refuses_pictures_that_are_gone(
    verb: str, lenet: Graph, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.png").unlink()
    out, events = tmp_path / "out", list[Event]()
    RUNS[verb](lenet, photos, out)
    Image.new("L", (30, 30), 90).save(photos / "c.png")
    run: Any = {"top": top.run, "stats": stats.run}[verb]
    more: Any = ("conv1", top.Options(k=2, device="cpu")) if verb == "top" else (stats.Options("conv1", device="cpu"),)
    again = run(lenet, [photos], *more, out, on_event=events.append)
    assert "2 of 3 images are done already" in [e.text for e in events if isinstance(e, Note)]
    assert next(e.total for e in events if isinstance(e, Progress)) == 1
    whole = run(lenet, [photos], *more, None)
    assert _numbers(again.to_json()) == _numbers(whole.to_json())
    (photos / "a.png").unlink()
    with pytest.raises(UsageError, match=r"'a\.png' was seen by an earlier run and is gone"):
        run(lenet, [photos], *more, out)


def test_arrays_are_seen_like_files(lenet: Graph, photos: Path) -> None:
    pixels = read_image(photos / "b.png").pixels
    from_file = activations.run(lenet, [photos / "b.png"], activations.Options("conv1", device="cpu"))
    from_array = activations.run(lenet, pixels, activations.Options("conv1", device="cpu"))
    assert _numbers(from_file.content["images"]) == _numbers(from_array.content["images"])
    assert from_array.content["images"][0]["file"] == "picture 0"
    best = top.run(lenet, [pixels, photos / "a.png"], "conv1", top.Options(k=1, units="0"))
    x = [model_input(p, lenet) for p in (pixels, read_image(photos / "a.png"))]
    peaks = [
        float(lenet.session([lenet.layer("conv1").tensor]).run(v)[lenet.layer("conv1").tensor][0, 0].max()) for v in x
    ]
    expected = ["picture 0", str(photos / "a.png")][int(np.argmax(peaks))]
    assert best.content["layers"][0]["units"][0]["top"][0]["image"] == expected


def test_a_shard_needs_a_folder_and_shards_merge_to_the_whole(lenet: Graph, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").unlink()
    options = top.Options(k=2, device="cpu")
    with pytest.raises(UsageError, match="keeps its state in a folder"):
        top.run(lenet, [photos], "conv1", replace(options, shard=(1, 2)))
    for i in (1, 2):
        top.run(lenet, [photos], "conv1", replace(options, shard=(i, 2)), tmp_path / "out")
    merged = top.run(lenet, [photos], "conv1", options, tmp_path / "out")
    assert _numbers(merged.to_json()) == _numbers(top.run(lenet, [photos], "conv1", options).to_json())


def test_stats_names_dead_and_alike_units_and_the_latter_only_from_enough_pictures() -> None:
    entry = {
        "images": 16,
        "dead": [3, 8],
        "always_on": [],
        "correlated": [{"a": 1, "b": 2, "correlation": -0.99}, {"a": 4, "b": 5, "correlation": 0.5}],
    }
    assert stats.in_words(entry) == "dead: 3, 8; alike: 1 and 2"
    assert stats.in_words({**entry, "images": 15}) == "dead: 3, 8"


def _keras_like(tmp_path: Path, order: str = "RGB") -> Graph:
    """Layers as Keras has them: ``block1_conv1`` is its activation's output, the convolution lies inside."""
    weight = np.arange(2 * 3 * 9, dtype=np.float32).reshape(2, 3, 3, 3)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "model/block1_conv1/Conv"),
        helper.make_node("Relu", ["c"], ["r"], "model/block1_conv1/Relu"),
        helper.make_node("MaxPool", ["r"], ["y"], "model/block1_pool/MaxPool", kernel_shape=[2, 2]),
    ]
    onnx.save(tiny_model(nodes, {"w": weight}), tmp_path / "net.onnx")
    graph = load(tmp_path / "net.onnx", check=False)
    return replace(graph, preprocessing=replace(graph.preprocessing, order=order))


def test_a_framework_s_layer_stands_for_the_convolution_in_it(tmp_path: Path) -> None:
    graph = _keras_like(tmp_path)
    for asked in ("block1_conv1", "block1*", "block1_conv1/Conv"):
        found = weights.run(graph, weights.Options(asked))
        assert [e["layer"] for e in found.content["layers"]] == ["block1_conv1/Conv"]
    with pytest.raises(UsageError, match="has no filters"):
        weights.run(graph, weights.Options("block1_pool"))


def test_a_glob_means_the_framework_s_own_layers(tmp_path: Path) -> None:
    graph = _keras_like(tmp_path)
    assert [la.name for la in graph.match("block1*")] == ["block1_conv1", "block1_pool"]
    assert [la.name for la in graph.match("*/Conv")] == ["block1_conv1/Conv"]


def test_filters_of_a_model_in_bgr_are_shown_in_the_colours_of_pictures(tmp_path: Path) -> None:
    from convscope.engine.activations.weights import kernel, shown_kernel

    graph = _keras_like(tmp_path, "BGR")
    weight, _ = kernel(graph, graph.layer("block1_conv1/Conv"))
    np.testing.assert_array_equal(shown_kernel(graph, weight), weight[:, [2, 1, 0]])


def test_attack_tells_every_step_and_the_outcome(lenet: Graph, photos: Path) -> None:
    events: list[Event] = []
    options = attack.Options("pgd", steps=3, device="cpu")
    found = attack.run(lenet, photos / "a.png", options, on_event=events.append)
    assert [e.done for e in events if isinstance(e, Progress)] == [0, 1, 2, 3]
    assert any(isinstance(e, Note) and "lenet" in e.text for e in events)
    assert found.attack is not None and found.attack.distance <= options.epsilon + 1e-6
