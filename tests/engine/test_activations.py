"""Activations, streamed and reduced, are those of a plain run of the session."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image

import convscope
from convscope.engine.activations.reductions import STATISTICS, output_name, reduced_session
from convscope.engine.activations.stream import activations
from convscope.engine.pictures.read import image_paths, model_input, read_image
from convscope.errors import UsageError
from tests import tiny
from tests.pictures import mixed_folder


@pytest.fixture(scope="module")
def graph() -> convscope.Graph:
    return convscope.load(tiny.small_cnn(), check=False)


@pytest.fixture
def folder(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    for i in range(7):
        Image.fromarray(rng.integers(0, 255, (20 + i, 30, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.iterdir())


def plain(graph: convscope.Graph, paths: list[Path], tensor: str) -> np.ndarray:
    x = np.concatenate([model_input(read_image(p), graph) for p in paths])
    return graph.session([tensor], device="cpu").run(x)[tensor]


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_streamed_activations_equal_one_run_whatever_the_batch(
    graph: convscope.Graph, folder: list[Path], batch: int
) -> None:
    layers = [graph.layer("conv1"), graph.layer("relu2"), graph.layer("fc")]
    found = list(activations(graph, folder, layers, batch=batch, device="cpu"))
    assert [p for b in found for p in b.paths] == folder
    assert [b.first for b in found] == list(range(0, 7, batch))
    for layer in layers:
        together = np.concatenate([b.values[layer.name] for b in found])
        np.testing.assert_allclose(together, plain(graph, folder, layer.tensor), atol=1e-5)


def test_a_broken_picture_is_reported_and_left_out(graph: convscope.Graph, folder: list[Path]) -> None:
    folder[2].write_bytes(b"broken")
    failures: list[Path] = []
    layers = [graph.layer("conv1")]
    found = list(activations(graph, folder, layers, batch=4, device="cpu", failed=lambda p, e: failures.append(p)))
    assert failures == [folder[2]]
    assert [p for b in found for p in b.paths] == [p for p in folder if p != folder[2]]


def test_a_batch_keeps_its_values_while_later_ones_are_computed_and_after_the_session_is_gone(
    graph: convscope.Graph, folder: list[Path]
) -> None:
    kept, copies = [], []
    for found in activations(graph, folder, [graph.layer("conv1")], batch=2, device="cpu"):
        kept.append(found.values["conv1"])
        copies.append(found.values["conv1"].copy())
    gc.collect()
    assert len(kept) == 4 and not any(np.shares_memory(kept[0], other) for other in kept[1:])
    assert all(np.array_equal(a, b) for a, b in zip(kept, copies, strict=True))


@pytest.mark.parametrize("opset", [11, 17, 18])
def test_reductions_in_the_graph_equal_numpy(opset: int) -> None:
    graph = convscope.load(tiny.small_cnn(opset=opset), check=False)
    layers = [graph.layer("relu1"), graph.layer("fc")]
    x = np.random.default_rng(1).random((3, 3, 16, 16), dtype=np.float32)
    found = reduced_session(graph, layers, device="cpu").run(x)
    for layer in layers:
        values = graph.session([layer.tensor], device="cpu").run(x)[layer.tensor]
        flat = values.reshape(*values.shape[:2], -1)
        expected = {
            "mean": flat.mean(2), "max": flat.max(2), "argmax": flat.argmax(2), "zeros": (flat == 0).mean(2),
            "variance": flat.var(2), "min": flat.min(2),
        }  # fmt: skip
        for statistic in STATISTICS:
            np.testing.assert_allclose(found[output_name(layer, statistic)], expected[statistic], atol=1e-5)


def test_a_channels_last_layer_is_reduced_along_its_channels() -> None:
    weights = {"w": np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]
    graph = convscope.load(tiny.model(nodes, weights), check=False)
    layer = graph.layer("y")
    assert layer.channels == 6
    x = np.random.default_rng(1).random((2, 3, 16, 16), dtype=np.float32)
    values = graph.session(["y"], device="cpu").run(x)["y"]
    found = reduced_session(graph, [layer], device="cpu").run(x)
    np.testing.assert_allclose(found[output_name(layer, "max")], values.max((1, 2)), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 4])
def test_of_a_mixed_folder_the_good_are_processed_and_the_others_named(
    graph: convscope.Graph, tmp_path: Path, batch: int
) -> None:
    bad = mixed_folder(tmp_path)
    paths = image_paths([tmp_path])
    failures: dict[str, str] = {}
    layer = graph.layer("relu2")
    found = list(
        activations(
            graph, paths, [layer], batch=batch, device="cpu", failed=lambda p, e: failures.update({p.name: str(e)})
        )
    )
    assert failures.keys() == bad.keys()
    for name, reason in bad.items():
        assert f"'{tmp_path / name}'" in failures[name] and reason in failures[name] and "\n" not in failures[name]
    good = [p for p in paths if p.name not in bad]
    assert [p for b in found for p in b.paths] == good and len(good) == 6
    together = np.concatenate([b.values["relu2"] for b in found])
    np.testing.assert_allclose(together, plain(graph, good, layer.tensor), atol=1e-5)
    same = [good.index(tmp_path / name) for name in ("good.png", "moving.webp")]  # its first frame
    np.testing.assert_allclose(together[same[0]], together[same[1]], atol=1e-5)


def test_a_folder_of_broken_pictures_only_yields_nothing_and_names_all(graph: convscope.Graph, tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(b"broken")
    failures: list[str] = []
    layers = [graph.layer("conv1")]
    paths = image_paths([tmp_path])
    assert list(activations(graph, paths, layers, device="cpu", failed=lambda p, e: failures.append(p.name))) == []
    assert failures == [f"{i}.png" for i in range(9)]


def test_one_path_and_names_of_layers_will_do(graph: convscope.Graph, folder: list[Path]) -> None:
    (by_name,) = activations(graph, str(folder[0]), ["conv1", 0], device="cpu")
    (by_layer,) = activations(graph, folder[:1], [graph.layer("conv1")], device="cpu")
    np.testing.assert_array_equal(by_name.values["conv1"], by_layer.values["conv1"])


def test_mistakes_are_errors_and_not_an_empty_result(graph: convscope.Graph, folder: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"absent\.png"):
        list(activations(graph, "absent.png", ["conv1"], device="cpu"))
    for wrong in ({"layers": []}, {"layers": ["conv1"], "workers": 0}, {"layers": ["conv1"], "size": (0, 20)}):
        with pytest.raises(UsageError, match="none may be zero"):
            list(activations(graph, folder, device="cpu", **wrong))


def test_a_second_input_is_said_in_a_line(folder: list[Path]) -> None:
    made = tiny.small_cnn()
    made.graph.input.append(helper.make_tensor_value_info("aux", 1, ["N", 5]))
    made.graph.node.append(helper.make_node("Add", ["logits", "aux"], ["moved"], "moved"))
    made.graph.output[0].name = "moved"
    two = convscope.load(made, preprocessing="unit", check=False)
    assert any("aux" in note for note in two.source.notes)
    one = convscope.load(tiny.small_cnn(), preprocessing="unit", check=False)
    given = convscope.load(made, preprocessing="unit", check=False, inputs={"aux": np.full((1, 5), 2, np.float32)})
    (plain,), (default,), (moved,) = (
        list(activations(graph, folder[0], [graph.logits], device="cpu")) for graph in (one, two, given)
    )
    values = [next(iter(batch.values.values())) for batch in (plain, default, moved)]
    np.testing.assert_allclose(values[1], values[0], atol=1e-6)
    np.testing.assert_allclose(values[2], values[0] + 2, atol=1e-5)
