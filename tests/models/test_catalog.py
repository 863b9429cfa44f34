"""The catalog: every entry complete, names resolved, the shipped LeNet as good as its README says."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope.cli.main import run
from convscope.errors import ConvscopeError, UsageError
from convscope.models import catalog
from convscope.models.builders import VGG16, vgg16_onnx, vgg16_torch
from convscope.models.recipes import RECIPES


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.name)
def test_every_entry_says_where_it_comes_from(recipe: catalog.Recipe) -> None:
    assert recipe.origin
    assert recipe.licence
    assert bool(recipe.url) == bool(recipe.sha256)
    assert not recipe.sha256 or re.fullmatch("[0-9a-f]{64}", recipe.sha256)
    assert catalog.find(recipe.name) is recipe
    assert not recipe.is_shipped or catalog.local_path(recipe).is_file()


def test_a_path_wins_over_a_name_and_an_unknown_name_gets_the_closest(tmp_path: Path) -> None:
    path = tmp_path / "lenet"
    path.touch()
    assert catalog.resolve(str(path)) == path
    with pytest.raises(UsageError, match="closest: 'lenet'"):
        catalog.resolve("lennet")


def test_the_shipped_lenet_reads_digits() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    from convscope.engine.pictures.read import resize

    found = datasets.load_digits()
    pictures = np.stack([np.pad(resize((i / 16).astype(np.float32), (20, 20)), 4) for i in found.images[:300]])
    graph = catalog.load(catalog.find("lenet"))
    x = graph.preprocessing.normalize(pictures[:, None])
    logits = graph.session([graph.logits], device="cpu").run(x)[graph.logits]
    assert (logits.argmax(1) == found.target[:300]).mean() > 0.75  # another data set, drawn with other pens
    assert graph.labels == tuple("0123456789")
    assert graph.image_size == (28, 28)


def narrow_weights() -> list[tuple[np.ndarray, np.ndarray]]:
    rng, before, found = np.random.default_rng(0), 3, []
    for count, channels in VGG16:
        for _ in range(count):
            kernel = rng.normal(0, np.sqrt(2 / (9 * before)), (3, 3, before, channels // 16))
            found.append((kernel.astype(np.float32), rng.normal(0, 0.1, channels // 16).astype(np.float32)))
            before = channels // 16
    return found


def test_the_vgg16_trunk_is_the_same_network_as_onnx_and_torch() -> None:
    import torch

    weights = narrow_weights()
    graph = convscope.load(vgg16_onnx(weights))
    assert [la.name for la in graph.layers if la.op == "Relu"][:3] == ["block1_conv1", "block1_conv2", "block2_conv1"]
    assert graph.layer("block5_conv3/Conv").op == "Conv"
    x = np.random.default_rng(1).random((2, 3, 32, 32), dtype=np.float32)
    expected = vgg16_torch(weights)(torch.from_numpy(x)).detach().numpy()
    found = graph.session([graph.outputs[0].name], device="cpu").run(x)[graph.outputs[0].name]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_changed_recipe_builds_its_file_anew_and_an_unchanged_one_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path))
    built: list[Path] = []

    def build(target: Path, progress: object) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"built")
        built.append(target)

    monkeypatch.setattr("convscope.models.builders.vgg16_hed", build)
    recipe = catalog.find("vgg16-hed")
    assert catalog.fetch(recipe) == catalog.fetch(recipe)
    newer = catalog.fetch(replace(recipe, version=recipe.version + 1))
    assert built == [catalog.local_path(recipe), newer]
    assert newer.name == "vgg16-hed.onnx"  # the graph's name, whatever the version


def test_a_shipped_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = replace(catalog.find("lenet"), file="lenet/gone.onnx")
    with pytest.raises(ConvscopeError, match=r"gone\.onnx is missing; reinstall"):
        catalog.fetch(gone)


@pytest.mark.parametrize("command", ["path", "fetch"])
def test_the_path_of_a_model_is_one_line_or_one_object(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = catalog.local_path(catalog.find("lenet"))
    assert run(["models", command, "lenet"]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    assert run(["models", command, "lenet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    digest = hashlib.sha256(expected.read_bytes()).hexdigest()
    size = expected.stat().st_size
    assert found == {"schema_version": 1, "name": "lenet", "path": str(expected), "bytes": size, "sha256": digest}
    assert run(["models", command, "lennet", "--json"]) == 2
    assert capsys.readouterr().out == ""
