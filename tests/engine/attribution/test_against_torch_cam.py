"""CAM, Grad-CAM, deletion and insertion against torch-cam 0.5 on the same torch network."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.torchvision_schemas import declare

declare()
pytest.importorskip("torchcam", reason="torch-cam is not installed", exc_type=ImportError)

from torchcam import methods  # noqa: E402
from torchcam.metrics import DeletionInsertionMetric  # noqa: E402

from convscope.engine.attribution import Executors, Target, explain  # noqa: E402
from convscope.engine.attribution.faithfulness.measures import deletion, insertion  # noqa: E402
from convscope.engine.outputs.reads import Channel  # noqa: E402

from .nets import images, relative, residual  # noqa: E402

explain_input = functools.partial(explain, preprocessed=True)  # of arrays in model space

X = images(2, 32)
LAYER = "block2.relu2"


def theirs(cls, **arguments):
    net, _ = residual()
    with cls(net, target_layer=LAYER, input_shape=(3, 32, 32), **arguments) as extractor:
        scores = net(torch.from_numpy(X))
        return extractor(class_idx=3, scores=scores, normalized=False)[0].detach().numpy()


@pytest.mark.parametrize(
    ("method", "cls", "arguments"),
    [("cam", methods.CAM, {"fc_layer": "head"}), ("gradcam", methods.GradCAM, {}), ("layercam", methods.LayerCAM, {})],
)
def test_maps_before_scaling(method, cls, arguments):
    ours = np.stack([a.values for a in explain_input(residual()[1], X, method, 3, LAYER)])
    reference = theirs(cls, **arguments)
    ours = ours if reference.min() < 0 else np.maximum(ours, 0)
    assert relative(ours, reference) < 1e-4


@pytest.mark.parametrize("blurred", [False, True])
def test_deletion_and_insertion(blurred):
    """16 steps divide the 1024 positions evenly, so both cut at the same places."""
    net, graph = residual()
    graph = replace(graph, labels=tuple(f"class {i}" for i in range(net(torch.from_numpy(X[:1])).shape[1])))
    baseline = torch.from_numpy(ndimage.gaussian_filter(X, (0, 0, 5, 5)))
    with methods.GradCAM(net, target_layer=LAYER, input_shape=(3, 32, 32)) as extractor:
        metric = DeletionInsertionMetric(
            extractor, partial(torch.softmax, dim=-1), steps=16, baseline=(lambda x: baseline[:1]) if blurred else None
        )
        metric.update(torch.from_numpy(X[:1]), 3)
        reference = metric.summary()
        coarse = extractor(class_idx=3, scores=net(torch.from_numpy(X[:1])).softmax(dim=-1))[0].detach()
    # their own map: it explains the probability here, and the last bit decides the order of equal pixels
    heat = torch.nn.functional.interpolate(coarse[:, None], (32, 32), mode="bilinear")[0, 0].numpy()
    executors, target = Executors(graph), Target(Channel(graph.logits, 3), "3")
    if blurred:
        area = insertion(executors, X[0], heat, target, steps=16)
        assert area == pytest.approx(reference["insertion_auc"], abs=1e-5)
    else:
        area = deletion(executors, X[0], heat, target, steps=16)
        assert area == pytest.approx(reference["deletion_auc"], abs=1e-5)
