"""Every gradient method, and occlusion, against captum 0.9 on the same torch networks."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import convscope
from tests.torchvision_schemas import declare

declare()
pytest.importorskip("captum", reason="captum 0.9 is not installed", exc_type=ImportError)

from captum import attr  # noqa: E402
from captum._utils.models.linear_model import SkLearnRidge  # noqa: E402
from captum.metrics import sensitivity_max  # noqa: E402

from convscope.engine.attribution import Question, explain  # noqa: E402
from convscope.engine.attribution.faithfulness.measures import max_sensitivity  # noqa: E402
from convscope.engine.attribution.methods.superpixels import local_fit  # noqa: E402

from .nets import ResidualNet, gated, images, relative, residual, seeded  # noqa: E402

explain_input = functools.partial(explain, preprocessed=True)  # of arrays in model space

TOLERANCE = 1e-4
NETS = {"residual": (residual, 32, 3), "gated": (gated, 16, 1)}


@pytest.fixture(params=sorted(NETS))
def case(request):
    """(torch network, graph, model input, class)."""
    pair, size, target = NETS[request.param]
    return (*pair(), images(3, size), target)


def ours(graph, x, method, target, **options):
    found = explain_input(graph, x, method, target, **options)
    return np.stack([a.values for a in (found if isinstance(found, list) else [found])])


def theirs(attribute, x, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attribute(torch.from_numpy(x).requires_grad_(), **arguments).detach().numpy()


def test_saliency(case):
    net, graph, x, target = case
    reference = theirs(attr.Saliency(net).attribute, x, target=target, abs=False)
    assert relative(ours(graph, x, "saliency", target), reference) < TOLERANCE


def test_input_x_gradient(case):
    net, graph, x, target = case
    reference = theirs(attr.InputXGradient(net).attribute, x, target=target)
    assert relative(ours(graph, x, "inputxgradient", target), reference) < TOLERANCE


def test_integrated_gradients(case):
    net, graph, x, target = case
    reference = theirs(attr.IntegratedGradients(net).attribute, x, target=target, n_steps=50)
    assert relative(ours(graph, x, "integratedgradients", target, baseline="zero"), reference) < TOLERANCE


@pytest.mark.parametrize(
    ("method", "cls"), [("guidedbackprop", attr.GuidedBackprop), ("deconvnet", attr.Deconvolution)]
)
def test_rectifier_rules(method, cls):
    net, graph = residual()
    x = images(3, 32)
    assert relative(ours(graph, x, method, 3), theirs(cls(net).attribute, x, target=3)) < TOLERANCE


def test_captum_leaves_relu6_alone_and_we_treat_it_as_a_rectifier():
    net, graph = gated()
    x = images(3, 16)
    plain = theirs(attr.GuidedBackprop(net).attribute, x, target=1)
    assert relative(ours(graph, x, "guidedbackprop", 1), plain) > 0.01
    kept = net.relu6
    try:
        net.relu6 = Saturating()  # a ReLU to captum's eyes, with ReLU6's gradient
        reference = theirs(attr.GuidedBackprop(net).attribute, x, target=1)
    finally:
        net.relu6 = kept
    assert relative(ours(graph, x, "guidedbackprop", 1), reference) < TOLERANCE


@pytest.mark.parametrize(
    ("method", "kind"),
    [("smoothgrad", "smoothgrad"), ("smoothgrad-squared", "smoothgrad_sq"), ("vargrad", "vargrad")],
)
def test_noise_forms_with_the_same_noise(case, method, kind, monkeypatch):
    net, graph, x, target = case
    x, samples = x[:1], 6
    spread = 0.15 * float(x.max() - x.min())
    drawn = np.random.default_rng(4).normal(0.0, spread, (samples, *x.shape[1:])).astype(np.float32)
    monkeypatch.setattr(torch, "normal", lambda mean, std: torch.from_numpy(drawn))
    tunnel = attr.NoiseTunnel(attr.Saliency(net))
    reference = theirs(tunnel.attribute, x, target=target, nt_type=kind, nt_samples=samples, stdevs=spread, abs=False)
    assert relative(ours(graph, x, method, target, samples=samples, seed=4), reference) < TOLERANCE


def test_deep_lift():
    net = seeded(ResidualNet(average_first=True))
    graph = convscope.load(net, example_input=torch.zeros(2, 3, 32, 32))
    x = images(3, 32)
    reference = theirs(attr.DeepLift(net).attribute, x, target=3, baselines=torch.zeros(3, 3, 32, 32))
    assert relative(ours(graph, x, "deeplift", 3, baseline="zero"), reference) < TOLERANCE


def test_deep_lift_on_maximum_pooling_equals_the_rule_where_captum_misses_it_beside_a_relu():
    """captum is right without the ReLU; with it, its hooks on the shared tensor run in the wrong order."""
    x, baseline = images(2, 8), images(1, 8, seed=9)
    for relu, agrees in ((nn.Identity(), True), (nn.ReLU(), False)):
        net = seeded(nn.Sequential(nn.MaxPool2d(2), relu, nn.Flatten(), nn.Linear(48, 2)))
        graph = convscope.load(net, example_input=torch.zeros(2, 3, 8, 8))
        found = ours(graph, x, "deeplift", 1, baseline=baseline[0])
        weights = net[3].weight[1].detach().numpy().reshape(3, 4, 4)
        hand = np.stack([_pooled_rescale(row, baseline[0], weights, not agrees) for row in x])
        assert relative(found, hand) < 1e-6
        reference = theirs(
            attr.DeepLift(net).attribute, x, target=1, baselines=torch.from_numpy(np.repeat(baseline, 2, 0))
        )
        assert (relative(reference, hand) < 1e-6) == agrees


def test_deep_lift_is_complete_on_gates_where_captum_is_not():
    net, graph = gated()
    x = images(3, 16)
    found = explain_input(graph, x, "deeplift", 1, baseline="zero")
    assert max(abs(a.figures["completeness_gap"]) for a in found) < 1e-4
    reference = theirs(attr.DeepLift(net).attribute, x, target=1, baselines=torch.zeros(3, 3, 16, 16))
    change = np.asarray([a.figures["score_change"] for a in found])
    assert np.abs(reference.sum(axis=(1, 2, 3)) - change).max() > 1e-3


def test_guided_grad_cam():
    net, graph = residual()
    x = images(3, 32)
    reference = theirs(attr.GuidedGradCam(net, net.block2.relu2).attribute, x, target=3, interpolate_mode="bilinear")
    assert relative(ours(graph, x, "guidedgradcam", 3, layer="block2.relu2"), reference) < TOLERANCE


def test_occlusion(case):
    net, graph, x, target = case
    reference = theirs(
        attr.Occlusion(net).attribute, x, target=target, sliding_window_shapes=(3, 5, 5), strides=(3, 3, 3), baselines=0
    )
    found = ours(graph, x, "occlusion", target, window=5, stride=3, baseline="zero")
    assert relative(found, reference[:, 0]) < TOLERANCE


def test_max_sensitivity_with_the_same_noise(case):
    net, graph, x, target = case
    x = x[:1]
    noise = np.random.default_rng(0).uniform(-0.02, 0.02, (10, *x.shape[1:])).astype(np.float32)
    reference = sensitivity_max(
        lambda inputs, **_: (attr.Saliency(net).attribute(inputs[0], target=target, abs=False),),
        (torch.from_numpy(x),),
        perturb_func=lambda inputs, radius: (inputs[0] + torch.from_numpy(noise),),
        n_perturb_samples=10,
    )
    found = max_sensitivity(lambda rows: ours(graph, rows, "saliency", target), x[0])
    assert found == pytest.approx(float(reference[0]), rel=1e-3)


class Saturating(nn.ReLU):
    """ReLU6 that is an instance of ReLU."""

    def forward(self, x):
        return x.clamp(0, 6)


def _pooled_rescale(x, reference, weights, rectified):
    """DeepLIFT's contributions through 2 x 2 maximum pooling, an optional ReLU and a linear layer, by hand."""
    found = np.zeros(x.shape)
    for channel, row, column in np.ndindex(weights.shape):
        window = (channel, slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
        new, old = x[window], reference[window]
        top, change = max(new.max(), old.max()), float(new.max() - old.max())
        after = max(new.max(), 0) - max(old.max(), 0) if rectified else change
        slope = weights[channel, row, column] * after / change
        found[window][np.unravel_index(new.argmax(), (2, 2))] += slope * (top - old.max())
        found[window][np.unravel_index(old.argmax(), (2, 2))] += slope * (new.max() - top)
    return found


class Likeness(nn.Module):
    """The cosine of a network's output with a vector."""

    def __init__(self, net: nn.Module, vector: np.ndarray) -> None:
        super().__init__()
        self.net, self.vector = net, torch.from_numpy(vector)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.cosine_similarity(self.net(x), self.vector[None], dim=1)


@pytest.mark.parametrize("method", ["inputxgradient", "integratedgradients", "gradcam"])
def test_the_likeness_of_an_embedding_to_a_vector(case, method):
    net, graph, x, _ = case
    vector = np.random.default_rng(1).normal(size=net(torch.from_numpy(x[:1])).shape[1]).astype(np.float32)
    model = Likeness(net, vector)
    options: dict[str, Any] = {
        "decoder": "embedding",
        **({"baseline": "zero"} if method == "integratedgradients" else {}),
    }
    question = Question(like=vector)
    if method == "gradcam":
        name = "block2.relu2" if hasattr(net, "block2") else "relu"
        reference = theirs(attr.LayerGradCam(model, net.get_submodule(name)).attribute, x)[:, 0]
        found = np.stack([a.values for a in explain_input(graph, x, method, question, name, **options)])
    else:
        attribute = {"inputxgradient": attr.InputXGradient, "integratedgradients": attr.IntegratedGradients}[method]
        steps = {"n_steps": 50, "method": "gausslegendre"} if method == "integratedgradients" else {}
        options |= {"steps": 50} if steps else {}
        reference = theirs(attribute(model).attribute, x, **steps)
        found = ours(graph, x, method, question, **options)
    assert relative(found, reference) < (1e-5 if method == "inputxgradient" else TOLERANCE)


def test_lime_s_fit_is_captum_s_on_the_same_masks():
    rng = np.random.default_rng(0)
    masks = rng.random((200, 8)) < 0.5
    masks[0] = True
    found = rng.normal(size=200)
    rest = iter(range(200))

    def draw(original, **kwargs):
        return torch.from_numpy(masks[next(rest)][None].astype(np.float32))

    def likeness(original, perturbed, interpretable, **kwargs):
        shown = float(interpretable.mean())
        return torch.tensor([np.exp(-((1 - np.sqrt(shown)) ** 2) / 0.25**2)])

    scores = {masks[i].tobytes(): found[i] for i in range(200)}
    base = attr.LimeBase(
        lambda z: torch.tensor([scores[(z[0].numpy() > 0.5).tobytes()]], dtype=torch.float32),
        SkLearnRidge(alpha=1.0),
        similarity_func=likeness,
        perturb_func=draw,
        perturb_interpretable_space=True,
        from_interp_rep_transform=lambda z, original, **kwargs: z,
        to_interp_rep_transform=None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = base.attribute(torch.ones(1, 8), n_samples=200)
    found = np.asarray([scores[mask.tobytes()] for mask in masks])
    assert relative(local_fit(masks, found, 0.25)[None], reference.numpy().reshape(1, -1)) < TOLERANCE
