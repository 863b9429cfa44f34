"""Every verb from Python, as a user would write it: run as a test, and type-checked against the installed wheel."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import convscope
from convscope import objectives


def main(folder: Path) -> None:
    """Uses the shipped LeNet with pictures held in every usual way."""
    graph = convscope.load("lenet", check=False)
    rng = np.random.default_rng(0)
    digit = rng.random((28, 28), dtype=np.float32)
    Image.fromarray((255 * digit).astype(np.uint8)).save(folder / "digit.png")
    tensor = torch.from_numpy(rng.random((2, 1, 28, 28), dtype=np.float32))

    units: convscope.AscentResult = convscope.filters(graph, "conv2", "0-2", steps=4, folder=folder / "filters")
    again = convscope.filters(graph, "conv2", [0, 1, 2], steps=4, folder=folder / "filters")
    assert [u.unit for u in units.units] == [0, 1, 2]
    assert all((a == b).all() for a, b in zip(units.images, again.images, strict=True))
    both = convscope.filters(graph, ["conv1", "conv2"], 0, steps=2)
    assert len(both) == 2
    mixed = objectives.channel("conv2", 3) - 0.1 * objectives.layer("conv1")
    assert convscope.filters(graph, mixed, steps=2)[0].image.shape[-1] == 1
    (made,) = convscope.ascend(graph, lambda taps: taps["conv2"][:, 3].mean((1, 2)), steps=2)
    assert made.shape[-1] == 1

    assert convscope.maximize(graph, [3, "7"], steps=4)[1].name == "7"
    assert len(convscope.dream(graph, folder / "digit.png", "conv2", size=28, steps=4)) == 1
    assert len(convscope.invert(graph, digit, "conv1", steps=4)) == 1
    assert len(convscope.accent(graph, digit, "conv2", 3, steps=4)) == 1

    arrays = convscope.activations(graph, tensor, "conv*")
    hooked = convscope.activations(graph, graph.preprocessing.normalize(tensor), "conv*", preprocessed=True)
    assert arrays["conv1"].shape == (2, 20, 24, 24)
    assert np.allclose(arrays["conv2"], hooked["conv2"], atol=1e-5)
    best = convscope.top(graph, [folder / "digit.png", digit], "conv2", k=1)
    assert best.to_json()["layers"]
    assert convscope.stats(graph, tensor, "conv2").to_json()["images"] == 2
    kernels = convscope.weights(graph, "conv1").kernels
    assert kernels is not None
    assert kernels["conv1"].shape == (20, 1, 5, 5)

    assert len(convscope.predict(graph, tensor).to_json()["images"]) == 2
    why = convscope.explain(graph, Image.open(folder / "digit.png"), target=3)
    assert why.heatmap.shape == (28, 28)
    attacked = convscope.attack(graph, digit, population=8, steps=2)
    assert attacked.attack is not None

    comparison: convscope.Comparison = convscope.compare("lenet", graph)
    assert comparison.verdict == "identical"
    assert convscope.verify(graph).ok
    assert convscope.info(graph)["parameters"] == 431080
    written = convscope.export(graph, folder / "explains-itself.onnx")
    assert Path(written.path).is_file()
    shown = convscope.atlas(graph, folder / "digit.png", folder / "atlas", layers="conv1", size=24, steps=2)
    assert shown.units == 20


if __name__ == "__main__":
    main(Path(sys.argv[1]))
