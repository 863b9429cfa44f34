"""Attacks on models whose weakness is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import convscope
from convscope.engine.attack import gradient_attack, paint, pixel_attack
from convscope.errors import UsageError

from .attribution.nets import residual


@pytest.fixture(scope="module")
def brittle():
    """Two classes on 8 x 8 gray-free pictures; the red of pixel (3, 5) alone outweighs all else by far."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.copy_(torch.tensor([1.0, 0.0]))
        net[1].weight[1].view(3, 8, 8)[0, 3, 5] = 4.0
    return convscope.load(net.eval(), example_input=torch.zeros(2, 3, 8, 8))


def test_one_pixel_is_found_and_only_it_is_changed(brittle):
    image = np.full((3, 8, 8), 0.1, np.float32)
    found = pixel_attack(brittle, image, population=60, iterations=30)
    assert found.success and found.original == 0 and int(found.after.argmax()) == 1
    assert found.changed == [(3, 5)]
    assert found.to_json()["pixels"][0]["row"] == 3
    assert found.attacked.min() >= 0 and found.attacked.max() <= 1


def test_a_targeted_attack_reaches_its_class(brittle):
    found = pixel_attack(brittle, np.full((3, 8, 8), 0.1, np.float32), target=1, population=60, iterations=30)
    assert found.success and found.target == 1


def test_the_same_seed_gives_the_same_attack(brittle):
    image = np.full((3, 8, 8), 0.1, np.float32)
    first, again = (pixel_attack(brittle, image, population=20, iterations=5, seed=3) for _ in range(2))
    assert (first.attacked == again.attacked).all() and first.evaluations == again.evaluations


def test_a_model_that_withstands_is_an_answer():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.copy_(torch.tensor([1.0, 0.0]))
    graph = convscope.load(net.eval(), example_input=torch.zeros(2, 3, 8, 8))
    found = pixel_attack(graph, np.full((3, 8, 8), 0.5, np.float32), population=8, iterations=3)
    assert not found.success and len(found.changed) <= 1


def test_every_generation_is_scored_in_one_call_per_batch(brittle):
    generations = []
    found = pixel_attack(
        brittle,
        np.zeros((3, 8, 8), np.float32),
        pixels=2,
        population=16,
        iterations=4,
        batch=8,
        progress=lambda generation, best: generations.append((generation, best)),
    )
    assert [g for g, _ in generations] == list(range(1, len(generations) + 1))
    assert found.evaluations == 1 + 16 * (1 + len(generations)) + len(generations) + 1


def test_paint_sets_exactly_the_named_pixels():
    image = np.zeros((3, 4, 4), np.float32)
    painted = paint(image, np.asarray([[1.9, 2.0, 0.1, 0.2, 0.3, 4.0, 4.0, 1.0, 1.0, 9.0]]))
    assert painted[0, :, 1, 2].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert painted[0, :, 3, 3].tolist() == [1, 1, 1]
    assert np.count_nonzero(painted[0].any(axis=0)) == 2


def test_fgsm_is_one_step_along_the_gradients_sign():
    net, graph = residual()
    image = np.random.default_rng(0).random((3, 32, 32)).astype(np.float32) * 0.5 + 0.25
    x = torch.from_numpy(image[None]).requires_grad_()
    logits = net(x)
    loss = nn.functional.cross_entropy(logits, logits.argmax(dim=1))
    sign = torch.autograd.grad(loss, x)[0][0].sign().numpy()
    found = gradient_attack(graph, image, method="fgsm", epsilon=0.03)
    assert np.abs(found.attacked - (image + 0.03 * sign)).max() < 1e-6
    assert found.distance == pytest.approx(0.03, abs=1e-6)


def test_pgd_stays_within_epsilon_and_is_stronger_than_fgsm():
    net, graph = residual()
    image = np.random.default_rng(1).random((3, 32, 32)).astype(np.float32)
    found = {m: gradient_attack(graph, image, method=m, epsilon=0.02, steps=20) for m in ("fgsm", "pgd")}
    label = found["pgd"].original
    with torch.no_grad():
        left = {m: torch.log_softmax(net(torch.from_numpy(a.attacked[None])), 1)[0, label] for m, a in found.items()}
    assert left["pgd"] <= left["fgsm"] + 1e-4
    assert found["pgd"].distance <= 0.02 + 1e-6
    assert found["pgd"].attacked.min() >= 0 and found["pgd"].attacked.max() <= 1


def test_gradients_go_through_the_preprocessing():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    graph = convscope.load(net, example_input=torch.zeros(2, 3, 2, 2), preprocessing="caffe")
    image = np.full((3, 2, 2), 0.5, np.float32)
    found = gradient_attack(graph, image, method="fgsm", epsilon=0.1)
    weights = net[1].weight.detach().numpy()
    slope = (weights[1 - found.original] - weights[found.original]).reshape(3, 2, 2)[::-1]  # caffe is BGR
    assert np.allclose(found.attacked - image, 0.1 * np.sign(slope), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixels": 65}, "pixels=65 is out of range: the image has 64"),
        ({"target": 0}, "says class 0 already"),
        ({"target": 7}, "class 7 is out of range"),
        ({"population": 4}, "population 4"),
    ],
)
def test_wrong_numbers_are_refused(brittle, arguments, message):
    with pytest.raises(UsageError, match=message):
        pixel_attack(brittle, np.zeros((3, 8, 8), np.float32), **arguments)


@pytest.mark.parametrize(("arguments", "message"), [({"method": "cw"}, "attack 'cw'"), ({"epsilon": 2}, "epsilon 2")])
def test_wrong_gradient_attacks_are_refused(brittle, arguments, message):
    with pytest.raises(UsageError, match=message):
        gradient_attack(brittle, np.zeros((3, 8, 8), np.float32), **arguments)


def test_logits_of_one_position_are_classes() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 3, 1)).eval()
    graph = convscope.load(net, example_input=torch.zeros(2, 3, 8, 8))
    image = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
    assert len(gradient_attack(graph, image, epsilon=0.3).after) == 3
    assert len(pixel_attack(graph, image, population=5, iterations=1).after) == 3


@pytest.mark.parametrize("image", [np.full((3, 8, 8), 200), np.full((3, 8, 8), np.nan), np.zeros((8, 8, 3))])
def test_what_is_no_picture_is_refused(brittle, image):
    for attack in (pixel_attack, gradient_attack):
        with pytest.raises(UsageError, match="picture"):
            attack(brittle, image.astype(np.float32))
