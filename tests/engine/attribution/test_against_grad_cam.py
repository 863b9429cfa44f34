"""Every CAM method against grad-cam 1.5.7 on the same torch network, and where that departs from the papers."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from tests.torchvision_schemas import declare

declare()
pytest.importorskip("pytorch_grad_cam", reason="grad-cam 1.5.7 is not installed", exc_type=ImportError)

import pytorch_grad_cam as reference  # noqa: E402
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined  # noqa: E402
from pytorch_grad_cam.utils.image import scale_cam_image  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, SemanticSegmentationTarget  # noqa: E402

import convscope  # noqa: E402
from convscope.engine.attribution import METHODS, Batch, Executors, Target, explain  # noqa: E402
from convscope.engine.attribution.faithfulness.measures import road  # noqa: E402
from convscope.engine.attribution.faithfulness.road import impute  # noqa: E402
from convscope.engine.attribution.methods.cam import eigen_cam, grad_cam_plus_plus, x_grad_cam  # noqa: E402
from convscope.engine.attribution.methods.layer_methods import capture  # noqa: E402
from convscope.engine.attribution.methods.perturbation import score_cam  # noqa: E402
from convscope.engine.outputs.reads import Channel  # noqa: E402

from ..outputs import proof  # noqa: E402
from .nets import images, relative, residual  # noqa: E402

explain_input = functools.partial(explain, preprocessed=True)  # of arrays in model space

TOLERANCE = 1e-4
TARGET = 3
X = images(3, 32)


def theirs_scaled(cls, layer, net=None, x=X, target=TARGET):
    """grad-cam's final map: rectified, scaled, resized."""
    net = net or residual()[0]
    with cls(model=net, target_layers=[net.get_submodule(name) for name in layer.split(",")]) as cam:
        return cam(torch.from_numpy(x), [ClassifierOutputTarget(target)] * len(x))


def theirs_raw(cls, layer):
    """grad-cam's map before it is rectified and scaled."""
    net = residual()[0]
    with cls(model=net, target_layers=[net.get_submodule(layer)]) as cam:
        kept = []
        inner = cam.get_cam_image
        cam.get_cam_image = lambda *args, **kwargs: kept.append(inner(*args, **kwargs)) or kept[-1]
        cam(torch.from_numpy(X), [ClassifierOutputTarget(TARGET)] * len(X))
        return kept[0]


def ours_raw(method, layer):
    return np.stack([a.values for a in explain_input(residual()[1], X, method, TARGET, layer)])


@pytest.mark.parametrize("layer", ["block2.relu2", "block1.relu2", "block1.conv2", "block2.bn1"])
@pytest.mark.parametrize(
    ("method", "cls"),
    [("gradcam", reference.GradCAM), ("hirescam", reference.HiResCAM), ("layercam", reference.LayerCAM)],
)
def test_gradient_cams_equal_grad_cam_before_scaling(method, cls, layer):
    assert relative(ours_raw(method, layer), theirs_raw(cls, layer)) < TOLERANCE


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam", "xgradcam", "ablationcam"])
def test_maps_equal_grad_cam_after_its_scaling(method):
    classes = {
        "gradcam": reference.GradCAM, "hirescam": reference.HiResCAM, "layercam": reference.LayerCAM,
        "xgradcam": reference.XGradCAM, "ablationcam": reference.AblationCAM,
    }  # fmt: skip
    ours = scale_cam_image(scale_cam_image(np.maximum(ours_raw(method, "block2.relu2"), 0), (32, 32)))
    assert relative(ours, theirs_scaled(classes[method], "block2.relu2")) < TOLERANCE


def test_heatmaps_equal_grad_cam_wherever_some_position_has_no_evidence():
    ours = np.stack([a.heatmap for a in explain_input(residual()[1], X, "gradcam", TARGET, "block1.conv2")])
    theirs = theirs_scaled(reference.GradCAM, "block1.conv2")
    empty = [i for i in range(len(X)) if (ours[i] == 0).any()]
    assert empty and relative(ours[empty], theirs[empty]) < TOLERANCE


def test_several_layers_are_averaged_as_grad_cam_does():
    names = "block1.relu2,block2.relu2"
    ours = np.stack([a.values for a in explain_input(residual()[1], X, "gradcam", TARGET, names)])
    theirs = theirs_scaled(reference.GradCAM, names)
    each = [ours_raw("gradcam", name) for name in names.split(",")]
    whole = [i for i in range(len(X)) if all((e[i] <= 0).any() for e in each)]
    if not whole:  # grad-cam subtracts a minimum that ours leaves: compare through its own scaling
        ours = np.mean([scale_cam_image(np.maximum(e, 0), (32, 32)) for e in each], axis=0)
        whole = list(range(len(X)))
    assert relative(scale_cam_image(ours[whole]), theirs[whole]) < TOLERANCE


def test_x_grad_cam_equals_grad_cam_and_its_epsilon_is_not_in_the_paper():
    assert relative(ours_raw("xgradcam", "block2.relu2"), theirs_raw(reference.XGradCAM, "block2.relu2")) < TOLERANCE
    graph = residual()[1]
    found = capture(
        Batch(Executors(graph), X), [Target(Channel(graph.logits, TARGET), "c")] * 3, graph.layer("block2.relu2")
    )
    assert relative(x_grad_cam(*found, epsilon=1e-7).numpy(), x_grad_cam(*found).numpy()) < TOLERANCE


def test_grad_cam_plus_plus_follows_the_paper_where_the_reference_adds_an_epsilon():
    graph = residual()[1]
    targets = [Target(Channel(graph.logits, TARGET), "c")] * 3
    activations, gradients = capture(Batch(Executors(graph), X), targets, graph.layer("block2.relu2"))
    theirs = theirs_raw(reference.GradCAMPlusPlus, "block2.relu2")
    assert relative(grad_cam_plus_plus(activations, gradients, epsilon=1e-6).numpy(), theirs) < TOLERANCE
    a, g = activations.numpy().astype(np.float64), gradients.numpy().astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = g**2 / (2 * g**2 + a.sum(axis=(2, 3), keepdims=True) * g**3)
    weights = (np.nan_to_num(alpha, posinf=0, neginf=0) * np.maximum(g, 0)).sum(axis=(2, 3))
    paper = np.einsum("nk,nkhw->nhw", weights, a)
    assert relative(ours_raw("gradcam++", "block2.relu2"), paper) < TOLERANCE


def test_eigen_cam_follows_the_paper_where_the_reference_centres():
    graph = residual()[1]
    (values,) = Batch(Executors(graph), X).values([graph.layer("block2.relu2").tensor])
    theirs = theirs_raw(reference.EigenCAM, "block2.relu2")
    centred = eigen_cam(torch.from_numpy(values), centered=True).numpy()
    for mine, other in zip(centred, theirs, strict=True):
        assert min(relative(mine, other), relative(-mine, other)) < TOLERANCE
    for mine, a in zip(ours_raw("eigencam", "block2.relu2"), values, strict=True):
        u, s, _ = np.linalg.svd(a.reshape(len(a), -1).T, full_matrices=False)
        paper = (u[:, 0] * s[0]).reshape(a.shape[1:])
        assert relative(np.abs(mine), np.abs(paper)) < TOLERANCE
        assert mine.sum() > 0


def test_eigen_grad_cam_equals_the_reference_up_to_its_arbitrary_sign():
    theirs = theirs_raw(reference.EigenGradCAM, "block2.relu2")
    evidence = ours_raw("hirescam", "block2.relu2")
    for mine, other, hires in zip(ours_raw("eigengradcam", "block2.relu2"), theirs, evidence, strict=True):
        assert min(relative(mine, other), relative(-mine, other)) < TOLERANCE
        assert np.corrcoef(mine.ravel(), hires.ravel())[0, 1] > 0


def test_score_cam_equals_the_reference_with_its_align_corners():
    graph = residual()[1]
    targets = [Target(Channel(graph.logits, TARGET), "c")] * 3
    layer = graph.layer("block2.relu2")
    ours = score_cam(Batch(Executors(graph), X), targets, layer, align_corners=True).values
    assert relative(ours, theirs_raw(reference.ScoreCAM, "block2.relu2")) < TOLERANCE


def test_score_cam_follows_the_authors_upsampling_by_default():
    """A literal version of the paper: masks with half-pixel centres, softmax over the channels' scores."""
    net, graph = residual()
    layer = graph.layer("block2.relu2")
    (values,) = Batch(Executors(graph), X).values([layer.tensor])
    ours = ours_raw("scorecam", "block2.relu2")
    for x, activations, mine in zip(X, torch.from_numpy(values), ours, strict=True):
        masks = torch.nn.functional.interpolate(activations[:, None], size=(32, 32), mode="bilinear")
        low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
        masks = (masks - low) / (high - low).clamp(min=1e-12)
        with torch.no_grad():
            scores = net(torch.from_numpy(x) * masks)[:, TARGET]
        paper = torch.einsum("k,khw->hw", scores.softmax(0), activations)
        assert relative(mine, paper.numpy()) < TOLERANCE


def test_ablation_cam_sets_to_zero_where_the_reference_uses_a_large_negative_value():
    net, graph = residual()
    layer = "block1.conv2"
    (values,) = Batch(Executors(graph), X).values([graph.layer(layer).tensor])
    assert values.min() < 0
    for index, x in enumerate(torch.from_numpy(X)):
        weights = []
        with torch.no_grad():
            whole = net(x[None])[0, TARGET]
            for channel in range(values.shape[1]):
                handle = net.block1.conv2.register_forward_hook(_silenced(channel))
                weights.append((whole - net(x[None])[0, TARGET]) / whole.abs())
                handle.remove()
        paper = np.einsum("k,khw->hw", np.asarray(weights), values[index])
        assert relative(ours_raw("ablationcam", layer)[index], paper) < TOLERANCE
    assert relative(ours_raw("ablationcam", layer), theirs_raw(reference.AblationCAM, layer)) > 0.1


def _silenced(channel):
    def hook(module, inputs, output):
        changed = output.clone()
        changed[:, channel] = 0
        return changed

    return hook


def test_full_grad_equals_the_reference_with_its_epsilon():
    net, graph = residual()
    with reference.FullGrad(model=net, target_layers=[]) as cam:
        theirs = cam(torch.from_numpy(X), [ClassifierOutputTarget(TARGET)] * 3)
    ours = np.stack([a.values for a in explain_input(graph, X, "fullgrad", TARGET, epsilon=1e-7)])
    assert relative(scale_cam_image(ours), theirs) < TOLERANCE


def test_road_imputation_equals_the_reference_without_noise():
    removed = np.random.default_rng(1).random((32, 32)) < 0.4
    ours = impute(X[0], removed, 0.0, np.random.default_rng(0))
    theirs = NoisyLinearImputer(noise=0.0)(torch.from_numpy(X[0]), torch.from_numpy((~removed).astype(np.float32)))
    assert relative(ours, theirs.numpy()) < TOLERANCE


def test_road_equals_the_reference_on_a_map_without_ties(monkeypatch):
    net, graph = residual()
    monkeypatch.setattr(torch, "randn_like", lambda t: torch.zeros_like(t))
    heat = np.random.default_rng(2).permutation(1024).reshape(1, 32, 32).astype(np.float32) / 1023
    theirs = ROADCombined(percentiles=[25, 50, 75])(
        torch.from_numpy(X[:1]), heat, [ClassifierOutputTarget(TARGET)], net
    )
    target = Target(Channel(graph.logits, TARGET), "c")
    ours = road(Executors(graph), X[0], heat[0], target, percentiles=(25, 50, 75), noise=0.0, probability=False)
    assert ours == pytest.approx(float(theirs[0]), rel=1e-3)


def test_a_pretrained_like_resnet_18_agrees_on_grad_cam_and_hires_cam():
    timm = pytest.importorskip("timm", exc_type=ImportError)
    import convscope

    torch.manual_seed(0)
    net = timm.create_model("resnet18", num_classes=10, zero_init_last=False).eval()
    graph = convscope.load(net, example_input=torch.zeros(1, 3, 64, 64), check=False)
    x = images(2, 64)
    for method, cls in (("gradcam", reference.GradCAM), ("hirescam", reference.HiResCAM)):
        ours = np.stack([a.values for a in explain_input(graph, x, method, 7, graph.last_spatial_layer())])
        theirs = theirs_scaled(cls, "layer4", net, x, 7)
        assert relative(scale_cam_image(scale_cam_image(np.maximum(ours, 0), (64, 64))), theirs) < TOLERANCE


def test_every_method_of_the_cam_family_has_a_reference_here():
    compared = {
        "gradcam", "gradcam++", "hirescam", "xgradcam", "layercam", "eigencam", "eigengradcam", "scorecam",
        "ablationcam", "fullgrad", "odam",
        "shapleycam", "smoothgradcam++", "refinecam",  # in test_new_methods
    }  # fmt: skip
    assert {n for n, m in METHODS.items() if m.family == "cam"} - compared == {"cam", "guidedgradcam"}


@pytest.mark.parametrize(("method", "cls"), [("gradcam", reference.GradCAM), ("layercam", reference.LayerCAM)])
def test_a_segmentation_s_map_equals_grad_cam_s_with_its_target_for_it(method, cls):
    net = proof.trained(proof.Segmenter(), "segmenter").eval()
    graph = convscope.load(net, example_input=torch.zeros(1, 3, 64, 64), check=False)
    x = np.stack([proof.shapes(seed)[0] for seed in range(2)])
    with torch.no_grad():
        masks = (net(torch.from_numpy(x)).argmax(dim=1) == 1).float().numpy()
    with cls(model=net, target_layers=[net.get_submodule("down.3")]) as cam:
        kept = []
        inner = cam.get_cam_image
        cam.get_cam_image = lambda *args, **kwargs: kept.append(inner(*args, **kwargs)) or kept[-1]
        cam(torch.from_numpy(x), [SemanticSegmentationTarget(1, mask) for mask in masks])
    ours = np.stack([a.values for a in explain_input(graph, x, method, 1, "down.3")])
    assert relative(ours, kept[0]) < TOLERANCE
