"""One trained network imported as ONNX, Keras and Torch gives the same heatmap, whatever the method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convscope.engine.attribution import METHODS, explain
from convscope.engine.graph.graph import Graph
from tests.integration import shipped_lenet, trained_vgg16

LIMIT = 1e-4  # of the largest value
# fewer samples than the defaults: the sums must agree, not converge
OPTIONS: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": 4},
    "smoothgrad-squared": {"samples": 4},
    "vargrad": {"samples": 4},
    "integratedgradients": {"steps": 8},
    "occlusion": {"window": 8, "stride": 4},
    "rise": {"masks": 60},
}


def assert_same(a: Graph, b: Graph, x: np.ndarray, method: str, targets: Any, layers: Any) -> None:
    found = [
        explain(g, x, method, target=t, layer=la, device="cpu", preprocessed=True, **OPTIONS.get(method, {}))
        for g, t, la in zip((a, b), targets, layers, strict=True)
    ]
    maps = [one if isinstance(one, list) else [one] for one in found]
    for one, two in zip(*maps, strict=True):
        assert two.score == pytest.approx(one.score, rel=LIMIT)
        assert one.heatmap.max() > 0.99  # there is a map to compare
        np.testing.assert_allclose(two.heatmap, one.heatmap, rtol=0, atol=LIMIT)
        np.testing.assert_allclose(two.values, one.values, rtol=0, atol=LIMIT * np.abs(one.values).max())


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"cam"}))  # CAM needs global average pooling
@pytest.mark.parametrize("suffix", shipped_lenet.OTHERS)
def test_lenet_explains_a_digit_alike_from_every_format(suffix: str, method: str) -> None:
    a, b = shipped_lenet.graph("onnx"), shipped_lenet.graph(suffix)
    assert_same(a, b, shipped_lenet.pictures()[1:3], method, (None, None), (None, None))


@pytest.mark.parametrize("method", ["gradcam", "layercam", "guidedbackprop", "inputxgradient"])
@pytest.mark.parametrize("kind", ["keras", "torch"])
def test_vgg16_explains_a_unit_alike_from_every_framework(kind: str, method: str) -> None:
    a, b = trained_vgg16.original(), trained_vgg16.graph(kind)
    x = a.preprocessing.normalize(trained_vgg16.few(a, trained_vgg16.SIZE)[:2]).astype(np.float32)
    names = [("block5_conv3", "block4_conv2"), ("features.29", "features.20")]
    (unit_a, layer_a), (unit_b, layer_b) = names[0], names[kind == "torch"]
    unit = strongest(a, unit_a, x)
    layers = (layer_a, layer_b) if METHODS[method].needs_layer else (None, None)
    assert_same(a, b, x, method, (f"unit:{unit_a}:{unit}", f"unit:{unit_b}:{unit}"), layers)


def strongest(graph: Graph, layer: str, x: np.ndarray) -> int:
    """The unit that is most active in the picture where it is least so: not dead in any."""
    tensor = graph.layer(layer).tensor
    return int(graph.session([tensor], device="cpu").run(x)[tensor].mean(axis=(2, 3)).min(axis=0).argmax())
