"""`explain` on graphs: targets, layers, batches, completeness, and what it refuses."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope
from convscope.engine.attribution import (
    METHODS,
    Batch,
    Executors,
    Target,
    explain,
    explain_batch,
    find_methods,
    segmentation_target,
    unit_target,
)
from convscope.engine.attribution.batch import passes, side_tensors
from convscope.engine.attribution.methods.layer_methods import capture
from convscope.engine.attribution.methods.perturbation import score_cam
from convscope.engine.outputs.reads import Channel
from convscope.errors import UsageError

from .nets import channels_last, gated, images, relative, residual, seeded, segmenter

explain_input = functools.partial(explain, preprocessed=True)  # of arrays in model space

QUICK = {"rise": {"masks": 40}, "smoothgrad": {"samples": 3}, "smoothgrad-squared": {"samples": 3},
         "vargrad": {"samples": 3}, "integratedgradients": {"steps": 8}}  # fmt: skip


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_gives_a_heatmap_of_the_input_with_its_maximum_at_one(method):
    found = explain_input(residual()[1], images(1, 32), method, 1, **QUICK.get(method, {}))
    assert found.heatmap.shape == (32, 32) and found.heatmap.dtype == np.float32
    assert found.heatmap.min() >= 0 and found.heatmap.max() == pytest.approx(1.0)
    assert np.isfinite(found.values).all()
    assert bool(found.layers) == METHODS[method].needs_layer
    assert found.graph == residual()[1].sha256


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_images_map_does_not_depend_on_its_batch_mates(method):
    x, options = images(5, 32), QUICK.get(method, {})
    together = explain_input(residual()[1], x, method, 1, **options)
    alone = explain_input(residual()[1], x[3:4], method, 1, **options)
    assert relative(together[3].values, alone.values) < 1e-4


@pytest.mark.parametrize("layer", ["block1.conv1", "block1.relu1", "block2.conv2", "block1.relu2", "pool", "stem"])
def test_gradients_of_a_bypassed_layer_equal_those_of_the_whole_network(layer):
    """A skip connection goes around these layers; the head gets what bypasses them as constants."""
    net, graph = residual()
    x = images(2, 32)
    tap = graph.layer(layer)
    activations, gradients = capture(Batch(Executors(graph), x), [Target(Channel(graph.logits, 2), "c")] * 2, tap)
    kept = {}
    handle = net.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.update(o=o))
    score = net(torch.from_numpy(x))[:, 2].sum()
    handle.remove()
    (expected,) = torch.autograd.grad(score, kept["o"])
    assert relative(activations.numpy(), kept["o"].detach().numpy()) < 1e-4
    assert relative(gradients.numpy(), expected.numpy()) < 1e-4


def test_a_channels_last_layer_gives_the_same_map_as_any_other():
    net, graph = channels_last()
    x = images(2, 32)
    tap = next(layer for layer in graph.layers if layer.op == "Relu")
    assert tap.channel_axis == 3 and tap.channels == 12
    kept = {}
    handle = net.act.register_forward_hook(lambda m, i, o: kept.update(o=o))
    score = net(torch.from_numpy(x))[:, 2].sum()
    handle.remove()
    (gradients,) = torch.autograd.grad(score, kept["o"])
    expected = torch.einsum("nhwk,nk->nhw", kept["o"].detach(), gradients.mean(dim=(1, 2)))
    assert relative(np.stack([a.values for a in explain_input(graph, x, "gradcam", 2, tap)]), expected.numpy()) < 1e-4
    unit = explain_input(graph, x[:1], "saliency", f"unit:{tap.name}:5@1,2")
    assert unit.score == pytest.approx(kept["o"][0, 1, 2, 5].item(), abs=1e-5)
    for method in ("scorecam", "ablationcam", "eigencam", "hirescam"):
        assert explain_input(graph, x[:1], method, 2, tap).values.shape == (8, 8)


def test_what_bypasses_a_layer_is_found_on_the_graph():
    graph = residual()[1]
    assert side_tensors(graph, [graph.layer("block2.relu2")], [graph.logits]) == ()
    (side,) = side_tensors(graph, [graph.layer("block2.conv1")], [graph.logits])
    assert side == graph.layer("block1.relu2").tensor


def test_a_target_before_the_layer_is_refused():
    with pytest.raises(UsageError, match="has no influence on"):
        explain_input(residual()[1], images(1, 32), "gradcam", "unit:block1.relu2:3", "block2.relu2")


def test_the_default_target_is_the_predicted_class_and_top_k_are_the_strongest():
    net, graph = residual()
    x = images(2, 32)
    order = net(torch.from_numpy(x)).argsort(dim=1, descending=True)
    assert [a.target.index for a in explain_input(graph, x)] == order[:, 0].tolist()
    assert [a.target.index for a in explain_input(graph, x, target="top:3")] == order[:, :3].flatten().tolist()


def test_a_score_is_the_logit():
    net, graph = residual()
    x = images(1, 32)
    assert explain_input(graph, x, target=4).score == pytest.approx(net(torch.from_numpy(x))[0, 4].item(), rel=1e-4)


def test_a_units_saliency_is_the_gradient_of_its_mean_and_a_neurons_of_its_value():
    net, graph = residual()
    x = torch.from_numpy(images(1, 32)).requires_grad_()
    features = net.pool(net.act(net.stem(x)))
    expected = torch.autograd.grad(features[0, 3].mean(), x, retain_graph=True)[0]
    assert (
        relative(explain_input(graph, x.detach().numpy(), "saliency", "unit:pool:3").values, expected[0].numpy()) < 1e-4
    )
    expected = torch.autograd.grad(features[0, 3, 2, 5], x)[0]
    found = explain_input(graph, x.detach().numpy(), "saliency", "unit:pool:3@2,5")
    assert relative(found.values, expected[0].numpy()) < 1e-4
    assert found.target.name == "pool:3@2,5"


def test_the_default_layer_lies_before_the_target():
    found = explain_input(residual()[1], images(1, 32), "gradcam", "unit:block2.conv1:0")
    graph = residual()[1]
    assert graph.layer(found.layers[0]).index < graph.layer("block2.conv1").index


def test_any_output_of_a_model_with_several_can_be_explained():
    net, graph = segmenter()
    x = torch.from_numpy(images(1, 16)).requires_grad_()
    expected = torch.autograd.grad(net(x)[1][0, 1], x)[0]
    name = graph.outputs[1].name
    assert (
        relative(explain_input(graph, x.detach().numpy(), "saliency", f"output:{name}:1").values, expected[0].numpy())
        < 1e-4
    )


def test_a_segmentations_class_is_summed_over_where_it_is_strongest():
    net, graph = segmenter()
    x = torch.from_numpy(images(1, 16)).requires_grad_()
    logits = net(x)[0]
    mask = logits[0].argmax(dim=0) == 2
    assert mask.any()
    expected = torch.autograd.grad((logits[0, 2] * mask).sum(), x, retain_graph=True)[0]
    assert relative(explain_input(graph, x.detach().numpy(), "saliency", 2).values, expected[0].numpy()) < 1e-4
    own = np.zeros(mask.shape)
    own[1:3, 2:5] = 1
    expected = torch.autograd.grad((logits[0, 2] * torch.from_numpy(own)).sum(), x)[0]
    found = explain_input(graph, x.detach().numpy(), "saliency", segmentation_target(graph, 2, own))
    assert relative(found.values, expected[0].numpy()) < 1e-4


def test_cam_equals_grad_cam_up_to_the_maps_size_where_the_head_is_linear():
    graph = residual()[1]
    x = images(2, 32)
    cam, grad = (np.stack([a.values for a in explain_input(graph, x, m, 1)]) for m in ("cam", "gradcam"))
    assert relative(cam, grad * cam[0].size) < 1e-4


def test_cam_weights_are_the_linear_layers():
    net, graph = residual()
    x = images(1, 32)
    features = {}
    handle = net.block2.register_forward_hook(lambda m, i, o: features.update(o=o.detach()))
    net(torch.from_numpy(x))
    handle.remove()
    expected = torch.einsum("k,khw->hw", net.head.weight[1].detach(), features["o"][0])
    assert relative(explain_input(graph, x, "cam", 1).values, expected.numpy()) < 1e-4


def test_cam_refuses_a_head_that_is_not_average_pooling_and_one_linear_layer():
    with pytest.raises(UsageError, match="needs global average pooling and one linear layer after 'relu'"):
        explain_input(gated()[1], images(1, 16), "cam", 0)


@pytest.mark.parametrize("pair", [residual, gated])
def test_integrated_gradients_and_deep_lift_add_up_to_the_change_of_the_score(pair):
    size = 32 if pair is residual else 16
    for method, options, tolerance in (("integratedgradients", {"steps": 200}, 0.02), ("deeplift", {}, 1e-4)):
        found = explain_input(pair()[1], images(1, size), method, 2, **options)
        assert abs(found.figures["completeness_gap"]) < tolerance
        gap = found.values.sum() - found.figures["score_change"]
        assert gap == pytest.approx(found.figures["completeness_gap"], abs=1e-4)


def test_integrated_gradients_of_a_linear_model_are_exact_with_one_step():
    net = seeded(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)))
    graph = convscope.load(net, example_input=torch.zeros(2, 3, 8, 8))
    x = images(1, 8)
    found = explain_input(graph, x, "integratedgradients", 1, steps=1, baseline="zero")
    weights = net[1].weight[1].detach().numpy().reshape(3, 8, 8)
    assert relative(found.values, weights * x[0]) < 1e-6
    assert abs(found.figures["completeness_gap"]) < 1e-5


def test_occlusion_of_a_linear_model_is_the_windows_mean_of_weights_times_input():
    net = seeded(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)))
    graph = convscope.load(net, example_input=torch.zeros(2, 3, 8, 8))
    x = images(1, 8)
    found = explain_input(graph, x, "occlusion", 1, window=1, stride=1, baseline="zero")
    weights = net[1].weight[1].detach().numpy().reshape(3, 8, 8)
    assert relative(found.values, (weights * x[0]).sum(axis=0)) < 1e-4


def test_rise_finds_the_one_quadrant_that_matters():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.zero_()
        net[1].weight[1].view(3, 16, 16)[:, :8, 8:] = 0.01
    graph = convscope.load(net.eval(), example_input=torch.zeros(2, 3, 16, 16))
    heat = explain_input(graph, np.ones((1, 3, 16, 16), np.float32), "rise", 1, masks=600, cells=4).heatmap
    assert heat[2:6, 10:14].min() > heat[10:, :6].max()


def test_rise_and_smooth_grad_repeat_with_their_seed_and_change_without():
    graph, x = residual()[1], images(1, 32)
    for method, options in (("rise", {"masks": 30}), ("smoothgrad", {"samples": 3})):
        first, again, other = (explain_input(graph, x, method, 1, seed=s, **options).values for s in (1, 1, 2))
        assert (first == again).all() and (first != other).any()


def test_score_cam_scores_equal_masks_once():
    net = seeded(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)))
    with torch.no_grad():
        net[0].bias[[0, 2, 5]] = -100.0  # three silent channels
        net[0].weight[3] = net[0].weight[1] * 2
        net[0].bias[3] = net[0].bias[1] * 2  # the same mask as channel 1
    graph = convscope.load(net, example_input=torch.zeros(2, 3, 16, 16))
    executors = Executors(graph, batch=1)
    seen = []
    inner = executors.scores
    executors.scores = lambda x, *args, **kwargs: seen.append(len(x)) or inner(x, *args, **kwargs)
    batch = Batch(executors, images(1, 16))
    score_cam(batch, [Target(Channel(graph.logits, 0), "c")], graph.layer("1"))
    assert sum(seen) <= 4


def test_coarse_score_cam_is_close_to_the_exact_one_and_says_so():
    net = seeded(
        nn.Sequential(nn.Conv2d(3, 12, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3))
    )
    model = convscope.load(net, example_input=torch.zeros(2, 3, 32, 32))
    exact = explain_input(model, images(1, 32), "scorecam", 0)
    coarse = explain_input(model, images(1, 32), "scorecam", 0, coarse=0.5, refine=4)
    assert np.corrcoef(exact.values.ravel(), coarse.values.ravel())[0, 1] > 0.95
    assert "0.5" in coarse.notes[0]


def test_coarse_score_cam_refuses_a_head_of_one_size():
    with pytest.raises(UsageError, match="coarse needs a model that takes any image size"):
        explain_input(gated()[1], images(1, 16), "scorecam", 0, layer="down", coarse=0.5)


def test_ablation_cam_of_a_linear_head_is_cam_divided_by_the_score():
    net, graph = residual()
    with torch.no_grad():
        bias = net.head.bias.clone()
    x = images(1, 32)
    ablation, cam = explain_input(graph, x, "ablationcam", 1), explain_input(graph, x, "cam", 1)
    share = ablation.values * abs(ablation.score)
    activations, gradients = capture(Batch(Executors(graph), x), [ablation.target], graph.layer("block2.relu2"))
    drop = (gradients * activations).sum(dim=(2, 3))
    assert relative(share, torch.einsum("nk,nkhw->nhw", drop, activations)[0].numpy()) < 1e-4
    assert cam.score - float(bias[1]) == pytest.approx(float(drop.sum()), rel=1e-3)


def test_methods_are_found_by_name_and_typos_get_the_closest():
    assert [m.name for m in find_methods("GradCAM, layercam")] == ["gradcam", "layercam"]
    assert len(find_methods("all")) == len(METHODS)
    with pytest.raises(UsageError, match="method 'gradcan' is unknown; closest: gradcam"):
        find_methods("gradcan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 9}, "class 9 is out of range"),
        ({"target": "unit:block1.relu2:99"}, "unit 99 is out of range: layer 'block1.relu2' has 8 units"),
        ({"target": "unit:block1.relu2:1@9,0"}, r"position \(9, 0\) lies outside"),
        ({"target": "output:none:1"}, "output 'none' is not in"),
        ({"target": "top:0"}, "top:0 asks for no class"),
        ({"layer": "head"}, "no feature maps; choose a layer with height and width"),
        ({"layer": "block9"}, "layer 'block9' is not in"),
        ({"steps": 4}, "option 'steps' is unknown to gradcam"),
        ({"method": "integratedgradients", "steps": 0}, "steps 0 is too small"),
        ({"method": "integratedgradients", "baseline": "mauve"}, "baseline 'mauve' is unknown"),
        ({"method": "integratedgradients", "baseline": np.zeros((5, 5, 5))}, "does not fit the input"),
        ({"method": "occlusion", "window": 99}, "window 99 and stride 49 do not fit"),
        ({"method": "rise", "masks": 0}, "masks 0"),
        ({"method": "gradcam,cam"}, "one method at a time"),
        ({"batch": 0}, "batch 0 is less than 1"),
    ],
)
def test_wrong_use_is_refused_in_one_line(arguments, message):
    with pytest.raises(UsageError, match=message) as caught:
        explain_input(residual()[1], images(1, 32), **arguments)
    assert "\n" not in str(caught.value)


def test_several_methods_share_one_forward_pass():
    graph = residual()[1]
    executors = Executors(graph)
    runs = []
    inner = executors.session
    executors.session = lambda *args: runs.append(args) or inner(*args)
    batch = Batch(executors, images(2, 32))
    explain_batch(batch, find_methods("gradcam,hirescam,layercam,eigencam"), 1)
    assert len(runs) == 1


def test_passes_have_one_shape():
    parts = list(passes(np.arange(10), 4))
    assert [start for start, _ in parts] == [0, 4, 8]
    assert [len(rows) for _, rows in parts] == [4, 4, 4]
    assert parts[-1][1].tolist() == [8, 9, 9, 9]


def test_a_unit_target_by_layer_object():
    graph = residual()[1]
    assert unit_target(graph, graph.layer("pool"), 2).name == "pool:2"


def test_rise_does_not_depend_on_the_batch() -> None:
    _, graph = residual()
    found = [explain_input(graph, images(1, 32), "rise", target=1, batch=batch, masks=30).values for batch in (3, 16)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("integratedgradients", "steps", 2.5),
        ("integratedgradients", "steps", "x"),
        ("smoothgrad", "noise", -1),
        ("smoothgrad", "noise", float("nan")),
        ("smoothgrad", "seed", -1),
        ("rise", "keep", "x"),
        ("occlusion", "stride", 0),
        ("scorecam", "refine", 2.5),
    ],
)
def test_an_options_wrong_value_is_refused_by_its_name(method: str, option: str, value: object) -> None:
    _, graph = residual()
    with pytest.raises(UsageError, match=f"option {option}[ =]"):
        explain_input(graph, images(1, 32), method, **{option: value})


def test_pictures_and_numbers_are_taken_in_every_usual_form() -> None:
    _, graph = residual()
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    whole = explain(graph, picture, target=np.int64(1), layer=np.int64(3)).heatmap
    np.testing.assert_array_equal(whole, explain(graph, picture / 255, target=1, layer=3).heatmap)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    for same in (
        Image.fromarray(picture),
        picture.transpose(2, 0, 1)[None],
        picture[None],
        tensor,
        tensor[None] / 255,
        (tensor / 255).requires_grad_(),
    ):
        np.testing.assert_allclose(explain(graph, same, target=1, layer=3).heatmap, whole, atol=1e-5)
    assert len(explain(graph, [picture, Image.fromarray(picture), tensor], target=1)) == 3
    gray = explain(graph, picture[:, :, 0], target=1).heatmap
    np.testing.assert_array_equal(gray, explain(graph, np.repeat(picture[:, :, :1], 3, 2), target=1).heatmap)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"images": np.full((8, 8, 3), 200.0)}, "values outside"),
        ({"images": np.full((8, 8, 3), np.nan)}, "no finite numbers"),
        ({"images": np.zeros((8, 8, 4))}, "holds no pictures of 1 or 3 channels"),
        ({"images": np.zeros((0, 5, 3))}, "is not (height, width, "),
        ({"images": None}, "NoneType is no picture"),
        ({"images": []}, "no picture is given"),
        ({"images": np.zeros((0, 3, 32, 32))}, "is not (height, width, "),
        ({"images": np.zeros((1, 32, 32, 3)), "preprocessed": True}, "has 3 channels (N, C, H, W)"),
        ({"images": "cat.png", "preprocessed": True}, "in model space, not a str"),
        ({"layer": ""}, "no layer of"),
        ({"layer": []}, "names none"),
        ({"target": True}, "neither a class"),
        ({"target": 2.5}, "neither a class"),
    ],
)
def test_what_explains_nothing_is_refused_in_a_line(asked: dict[str, Any], words: str) -> None:
    _, graph = residual()
    with pytest.raises(UsageError) as caught:
        explain(graph, **{"images": np.zeros((32, 32, 3)), **asked})
    assert words in str(caught.value)
