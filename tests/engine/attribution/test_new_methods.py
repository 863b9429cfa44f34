"""Shapley-CAM, Smooth Grad-CAM++, Refine-CAM, Sobol, HSIC, KernelSHAP and LIME against references and closed forms."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.torchvision_schemas import declare

declare()

for reference in ("captum", "pytorch_grad_cam", "torchcam"):
    pytest.importorskip(reference, exc_type=ImportError)

from captum.attr import ShapleyValues  # noqa: E402
from pytorch_grad_cam import ShapleyCAM  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402
from torchcam.methods import FinerCAM, GradCAM, RefineCAM  # noqa: E402

import convscope  # noqa: E402
from convscope.engine.attribution import Batch, Executors, Question, explain  # noqa: E402
from convscope.engine.attribution.methods.higher_cams import product_of  # noqa: E402
from convscope.engine.attribution.methods.sensitivity import dependence, masked_scores, total_indices  # noqa: E402
from convscope.engine.attribution.methods.superpixels import (  # noqa: E402
    drawn_coalitions,
    every_coalition,
    local_fit,
    shapley_fit,
    superpixels,
)  # fmt: skip
from convscope.engine.outputs.target import Target, of_function  # noqa: E402
from convscope.errors import UsageError  # noqa: E402

from .nets import gated, images, relative, residual  # noqa: E402

explain_input = functools.partial(explain, preprocessed=True)
X = images(2, 32)
C = 3


def test_shapley_cam_takes_the_curvature_as_the_reference_does() -> None:
    net, graph = gated()
    x = images(2, graph.image_size[0])
    found = np.stack([a.values for a in explain_input(graph, x, "shapleycam", C, "down")])
    plain = np.stack([a.values for a in explain_input(graph, x, "gradcam", C, "down")])
    expected = _shapley(net, x, C)
    assert relative(found, expected) < 1e-4
    assert relative(found, plain) > 1e-2  # tanh bends


def _shapley(net: nn.Module, x: np.ndarray, index: int) -> np.ndarray:
    """The paper's formula with a Hessian-vector product of torch, the head written out."""
    kept: dict[str, Tensor] = {}
    handle = net.down.register_forward_hook(lambda _m, _i, o: kept.update(a=o))  # type: ignore[operator, union-attr]
    score = net(torch.from_numpy(x))[:, index].sum()
    handle.remove()
    (g,) = torch.autograd.grad(score, kept["a"], create_graph=True)
    (ha,) = torch.autograd.grad(g, kept["a"], kept["a"].detach())
    weights = (g - 0.5 * ha).mean((2, 3))
    return torch.einsum("nkhw,nk->nhw", kept["a"], weights).detach().numpy()


def test_shapley_cam_equals_the_library() -> None:
    net, graph = gated()
    x = images(1, graph.image_size[0])
    cam = ShapleyCAM(model=net, target_layers=[net.down])
    theirs = cam(torch.from_numpy(x), [ClassifierOutputTarget(C)])
    ours = np.maximum(explain_input(graph, x, "shapleycam", C, "down").heatmap, 0)
    scaled = (ours - ours.min()) / max(float(np.ptp(ours)), 1e-12)  # the library subtracts the minimum
    theirs = (theirs[0] - theirs.min()) / max(float(np.ptp(theirs)), 1e-12)
    assert np.abs(scaled - theirs).max() < 2e-3  # it enlarges by another filter


def test_smooth_grad_cam_plus_plus_without_noise_is_grad_cam_plus_plus() -> None:
    graph = residual()[1]
    plain = [a.values for a in explain_input(graph, X, "gradcam++", C)]
    smooth = [a.values for a in explain_input(graph, X, "smoothgradcam++", C, noise=0.0)]
    assert relative(np.stack(smooth), np.stack(plain)) < 1e-5
    first, again = (explain_input(graph, X, "smoothgradcam++", C, batch=b)[1].values for b in (1, 8))
    assert relative(first, again) < 1e-5
    bent = gated()[1]  # with a head that bends, noise changes the gradients
    x = images(1, 16)
    assert (
        relative(explain_input(bent, x, "smoothgradcam++", C).values, explain_input(bent, x, "gradcam++", C).values)
        > 1e-3
    )


def test_refine_cam_is_the_library_s_product_of_maps() -> None:
    maps = [np.random.default_rng(i).random((2, s, s)).astype(np.float32) for i, s in enumerate((4, 8))]
    for found in maps:
        found[:, 0, 0] = 0  # the library subtracts each map's minimum; here that changes nothing
    theirs = RefineCAM.fuse_cams([torch.from_numpy(m.copy()) for m in maps], normalized=False)
    assert relative(product_of(maps), theirs.numpy()) < 1e-6
    graph = residual()[1]
    layers = ["act", "block2.relu2"]
    ours = explain_input(graph, X[:1], "refinecam", C, layers)
    each = [np.maximum(explain_input(graph, X[:1], "gradcam++", C, layer).values, 0)[None] for layer in layers]
    assert relative(ours.values, product_of(each)[0]) < 1e-5
    assert "multiplied" in explain_input(graph, X[:1], "refinecam", C).notes[0]


def test_finer_cam_is_the_library_s_contrast() -> None:
    net, graph = residual()
    with FinerCAM(net, "block2.relu2", input_shape=(3, 32, 32), base_method=GradCAM, gamma=0.6) as cam:
        scores = net(torch.from_numpy(X[:1]))
        (theirs,) = cam(C, scores, normalized=False)
    ours = explain_input(graph, X[:1], "gradcam", Question(C, against="top:3"), "block2.relu2")
    assert len(ours.target.against) == 3
    assert relative(np.maximum(ours.values, 0), theirs[0].detach().numpy()) < 1e-4


class Cells(nn.Module):
    """A score that is linear in the means of a picture's quarters, so that its shares are known."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([4.0, 2.0, 1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        means = nn.functional.adaptive_avg_pool2d(x.mean(1, keepdim=True), 2).flatten(1)
        return torch.stack([means @ self.weights, 0 * means[:, 0]], 1)


def cells() -> tuple[Target, Executors]:
    graph = convscope.load(Cells().eval(), example_input=torch.zeros(1, 3, 8, 8), check=False)
    return of_function(lambda rows: rows[graph.logits][0], [graph.logits]), Executors(graph, batch=16)


def test_sobol_s_total_indices_are_the_shares_of_variance_of_a_linear_score() -> None:
    weights = np.asarray([4.0, 2.0, 1.0, 0.0])
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 20000, 4))
    mixed = np.stack([np.where(np.arange(4) == i, b, a) @ weights for i in range(4)])
    expected = weights**2 / (weights**2).sum()
    assert total_indices(a @ weights, mixed) == pytest.approx(expected, abs=0.02)
    target, executors = cells()
    batch = Batch(executors, np.ones((1, 3, 8, 8), np.float32))
    for method, options in (("sobol", {"designs": 64}), ("hsic", {"designs": 300})):
        found = explain_input(executors.graph, batch.x, method, target, cells=2, **options).values.ravel()
        assert found.argsort()[::-1].tolist() == [0, 1, 2, 3], method
    assert masked_scores(batch, 0, target, np.ones((3, 4)), 2) == pytest.approx([7.0] * 3)


def test_hsic_is_the_trace_of_the_centred_kernels() -> None:
    rng = np.random.default_rng(0)
    z, y = (rng.random((30, 3)) < 0.5).astype(float), rng.normal(size=30)
    found = dependence(z, y)
    distances = (y[:, None] - y[None]) ** 2
    kernel = np.exp(-distances / (2 * np.median(distances[np.triu_indices(30, 1)])))
    centre = np.eye(30) - 1 / 30
    for i in range(3):
        equal = (z[:, None, i] == z[None, :, i]).astype(float)
        assert found[i] == pytest.approx(np.trace(equal @ centre @ kernel @ centre) / 29**2, rel=1e-9)
    assert (dependence(z, np.ones(30)) == 0).all()


def test_kernel_shap_of_all_coalitions_is_captum_s_exact_shapley_values() -> None:
    net, graph = residual()
    x = images(1, 32)
    found = explain_input(graph, x, "kernelshap", C, pieces=6, baseline="zero")
    picture = graph.preprocessing.denormalize(x).clip(0, 1).transpose(0, 2, 3, 1)[0]
    labels = superpixels(picture, 6)
    mask = torch.from_numpy(labels)[None, None].expand(1, 3, 32, 32).contiguous()
    theirs = ShapleyValues(net).attribute(torch.from_numpy(x), target=C, feature_mask=mask, baselines=0.0)
    assert relative(found.values, theirs[0, 0].detach().numpy()) < 1e-4
    assert found.figures["pieces"] == labels.max() + 1


def test_drawn_coalitions_find_the_values_of_an_additive_game_and_their_sum() -> None:
    rng = np.random.default_rng(0)
    shares = rng.normal(size=20)
    masks = drawn_coalitions(20, 200, rng)
    assert ((masks[::2] ^ masks[1::2]).all(axis=1)).all()
    assert shapley_fit(masks, masks @ shares + 1, 1.0, 1.0 + shares.sum()) == pytest.approx(shares, abs=1e-8)
    assert len(every_coalition(4)) == 14


def test_lime_finds_the_coefficients_of_a_linear_score() -> None:
    rng = np.random.default_rng(0)
    shares = rng.normal(size=10)
    masks = rng.random((4000, 10)) < 0.5
    assert local_fit(masks, masks @ shares, 0.25, ridge=1e-9) == pytest.approx(shares, abs=1e-6)
    found = local_fit(masks, masks @ shares, 0.25)
    assert found == pytest.approx(shares, abs=0.02)  # the ridge draws a little towards zero


def test_superpixels_follow_edges_and_cover_the_picture() -> None:
    picture = np.zeros((40, 60, 3))
    picture[:, 33:] = 1
    labels = superpixels(picture, 12)
    assert labels.shape == (40, 60)
    assert sorted(np.unique(labels)) == list(range(labels.max() + 1))
    assert not set(labels[:, :33].ravel()) & set(labels[:, 33:].ravel())


@pytest.mark.parametrize(("method", "options"), [("sobol", {"designs": 1}), ("hsic", {"cells": 0}),
                                                 ("kernelshap", {"pieces": 0}), ("lime", {"samples": 1})])  # fmt: skip
def test_wrong_numbers_are_refused(method: str, options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        explain_input(residual()[1], X[:1], method, C, **options)
