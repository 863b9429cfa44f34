"""The rules of units: pure functions, verdicts, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper

import convscope
from convscope.engine.ascent import network
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.loop import AscentBatch
from convscope.engine.ascent.many import Studio
from convscope.engine.ascent.maximize import maximize
from convscope.engine.ascent.network import Network
from convscope.engine.ascent.photograph import dream, invert
from convscope.engine.ascent.recipe.canvases import Noise
from convscope.engine.ascent.recipe.presets import PRESETS
from convscope.engine.ascent.recipe.spectrum import reference_pictures
from convscope.engine.ascent.results import tile
from convscope.engine.ascent.verdicts import verdict
from convscope.engine.graph.graph import Graph
from convscope.errors import RefusedInput, UsageError

from ...tiny import model, small_cnn
from .nets import small, with_silent_filters

PHOTO = np.ascontiguousarray(reference_pictures(3, (40, 48))[4].transpose(1, 2, 0))

_RED = np.concatenate([np.ones((2, 1, 16, 16), np.float32), np.zeros((2, 2, 16, 16), np.float32)], axis=1)


@pytest.mark.parametrize(
    "preset", ["strongest", "objects", "parts", "tile", "lucid", "maco", "chollet", "yosinski-a", "dream"]
)
def test_a_units_picture_is_byte_identical_in_batches_of_1_4_and_16(preset: str) -> None:
    graph = small()
    made = {
        batch: filters(graph, "conv2", [5, 1, 7, 2, 9], preset=preset, size=24, steps=6, batch=batch)
        for batch in (1, 4, 16)
    }
    for other in (4, 16):
        for one, two in zip(made[1].units, made[other].units, strict=True):
            assert one.image.tobytes() == two.image.tobytes()
            assert one.history == two.history and one.activation_end == two.activation_end


@pytest.mark.parametrize("preset", ["objects", "lucid", "maco", "yosinski-b"])
def test_pictures_of_much_work_go_through_the_network_alone_and_are_byte_identical_in_every_batch(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = _pictures_with_gradients(monkeypatch, views=PRESETS[preset].transform.views)
    monkeypatch.setattr(network, "_BUSY", 0.0)
    made = [filters(small(), "conv2", [5, 1, 7], preset=preset, size=24, steps=6, batch=n).units for n in (1, 3, 16)]
    assert set(sizes) == {1}
    for other in made[1:]:
        for one, two in zip(made[0], other, strict=True):
            assert one.image.tobytes() == two.image.tobytes()
            assert one.history == two.history and one.activation_end == two.activation_end


def test_a_lone_picture_of_much_work_is_computed_once_and_one_of_little_work_beside_a_companion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = small()
    sizes = _pictures_with_gradients(monkeypatch)
    filters(graph, "conv2", 7, size=24, steps=5)
    assert set(sizes) == {2}
    sizes.clear()
    monkeypatch.setattr(network, "_BUSY", 0.0)
    filters(graph, "conv2", 7, size=24, steps=5)
    assert set(sizes) == {1}


def test_work_is_counted_per_operator_and_grows_with_the_picture() -> None:
    taken = Network(small(), [small().layer("conv2").tensor], "cpu")
    least = next(side for side in range(8, 4096, 8) if taken.is_busy_with((side, side)))
    assert not taken.is_busy_with((least // 2, least // 2)) and taken.is_busy_with((least // 2, least // 2), views=6)


def test_pictures_share_the_reading_of_weights_that_leave_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small()
    layer = graph.layer("conv2")
    taken = Network(graph, [layer.tensor], "cpu")
    monkeypatch.setattr(network, "_BUSY", 0.0)
    assert taken.is_busy_with((8, 8))
    monkeypatch.setattr(network, "_CACHED", 0.0)
    again = Network(graph, [layer.tensor], "cpu")
    before = graph.layers[: layer.index + 1]
    times = sum(la.macs for la in before) / sum(la.parameters for la in before)  # a weight is used, at the own size
    enough = graph.image_size[0] * (network._READING / times) ** 0.5
    assert not again.is_busy_with((int(0.9 * enough), int(0.9 * enough)))
    assert again.is_busy_with((int(1.1 * enough), int(1.1 * enough)))


def _pictures_with_gradients(monkeypatch: pytest.MonkeyPatch, views: int = 1) -> list[int]:
    """How many pictures go through the network at a time when a gradient is asked for, filled as it happens."""
    sizes: list[int] = []
    plain = Network.__call__

    def counted(self: Network, pictures: torch.Tensor, redirect: bool = False) -> dict[str, torch.Tensor]:
        if pictures.requires_grad and not redirect:
            sizes.append(len(pictures) // views)
        return plain(self, pictures, redirect)

    monkeypatch.setattr(Network, "__call__", counted)
    return sizes


def test_a_units_picture_does_not_depend_on_which_units_are_asked_for() -> None:
    graph = small()
    alone = filters(graph, "conv2", 7, size=24, steps=8)[0]
    among = filters(graph, "conv2", [2, 7, 0], size=24, steps=8)[1]
    assert alone.image.tobytes() == among.image.tobytes()


def test_the_seed_changes_the_picture_and_nothing_else_does() -> None:
    graph = small()
    zero, again, one = (filters(graph, "conv2", 1, size=24, steps=4, seed=s)[0].image for s in (0, 0, 1))
    assert np.array_equal(zero, again) and not np.array_equal(zero, one)


def test_running_out_of_memory_halves_the_batch_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small()
    expected = filters(graph, "conv2", [0, 1, 2, 3], size=24, steps=3, batch=4)
    plain = Network.__call__

    def tight(self: Network, pictures: torch.Tensor, redirect: bool = False) -> dict[str, torch.Tensor]:
        if len(pictures) > 2 and pictures.requires_grad:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return plain(self, pictures, redirect)

    monkeypatch.setattr(Network, "__call__", tight)
    made = filters(graph, "conv2", [0, 1, 2, 3], size=24, steps=3, batch=4)
    assert [u.image.tobytes() for u in made.units] == [u.image.tobytes() for u in expected.units]


def test_a_filter_of_zeros_with_bias_minus_one_is_dead_with_a_reason() -> None:
    made = filters(with_silent_filters(), "relu", [0, 1], size=16, steps=6)
    alive, dead = made.units
    assert alive.status == "ok" and alive.activation_end >= alive.reference
    assert dead.status == "dead" and dead.activation_end == 0
    assert "no higher than -1 from any start" in dead.reason
    cross = tile(dead)
    assert cross.max() == 0.75 and cross.min() < 0.5


@pytest.mark.parametrize("asked", [10, 200])
def test_a_unit_that_stays_silent_costs_at_most_twice_the_steps_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    taken, step = [], AscentBatch._step

    def counted(self: AscentBatch, *arguments: Any) -> Any:
        taken.append(self.steps)
        return step(self, *arguments)

    monkeypatch.setattr(AscentBatch, "_step", counted)
    dead = filters(with_silent_filters(), "relu", 1, size=16, steps=asked)[0]
    assert dead.status == "dead" and asked < len(taken) <= 2 * asked
    assert f"given up after {len(taken) - asked} further steps" in dead.reason


@pytest.mark.parametrize("preset", ["chollet", "convscope"])
def test_a_filter_that_the_start_leaves_at_zero_is_woken(preset: str) -> None:
    graph = with_silent_filters()
    unit = filters(graph, "relu", 2, preset=preset, size=16, steps=60)[0]
    assert unit.activation_end > 0 and unit.status in ("ok", "weak")


def test_a_unit_that_a_photograph_wakes_is_never_called_dead() -> None:
    assert verdict(0.0, 0.0, 0.25, True, -14.5)[0] == "weak"
    assert verdict(0.0, 0.0, 0.0, True, -14.5)[0] == "dead"
    graph = with_silent_filters()
    unit = filters(graph, "relu", 2, preset="chollet", size=16, steps=1, photos=_RED)[0]
    assert unit.reference > 0 and unit.status != "dead"


def _constant_behind(gate: str) -> Graph:
    """Unit 0 lives; unit 1 has no weights and a bias of 1, unit 2 one that saturates a clip at 6."""
    weight = np.zeros((3, 3, 3, 3), dtype=np.float32)
    weight[0] = np.random.default_rng(0).normal(0, 1, (3, 3, 3))
    weights = {"w": weight, "b": np.array([0.0, 1.0, 100.0], dtype=np.float32)}
    bounds: dict[str, Any] = {"low": np.float32(0), "high": np.float32(6)} if gate == "Clip" else {}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node(gate, ["c", *bounds], ["y"], "gate"),
    ]
    made = model(nodes, {**weights, **bounds}, shape=("N", 3, None, None))
    return convscope.load(made, preprocessing="unit", check=False)


@pytest.mark.parametrize("gate", ["Relu", "Clip", "Sigmoid"])
@pytest.mark.parametrize("preset", ["chollet", "convscope"])
def test_a_value_that_no_input_changes_is_dead_behind_every_activation(gate: str, preset: str) -> None:
    alive, low, high = filters(_constant_behind(gate), "gate", [0, 1, 2], preset=preset, size=16, steps=4).units
    assert alive.status != "dead"
    assert [unit.status for unit in (low, high)] == ["dead", "dead"]
    assert low.reason.startswith("no input changes it") and high.reason.startswith("no input changes it")


def test_a_verdict_says_when_a_photograph_excites_the_unit_more_than_its_picture() -> None:
    status, reason = verdict(0.1, 1.0, 2.0, False, None)
    assert status == "weak" and reason == "reaches 1, photographs reach 2: the best of them excites it more than this"
    assert "more" not in verdict(0.1, 2.5, 2.0, False, None)[1]


def test_a_photograph_that_no_step_changes_is_no_picture_of_the_unit() -> None:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 1))
    with torch.no_grad():
        layers[2].bias.fill_(-80.0)  # so far below zero that float32 has no gradient of the sigmoid
    saturated = torch.nn.Sequential(layers, torch.nn.Sigmoid()).eval()
    graph = convscope.load(saturated, example_input=torch.zeros(1, 3, 16, 16), check=False)
    unit = filters(graph, graph.layers[-1].name, 0, size=16, steps=8, preset="chollet")[0]
    assert "a photograph's start" in unit.rescue
    assert np.corrcoef(unit.image.ravel(), unit.start.ravel())[0, 1] > 0.99, "but for the contrast of `chollet`"
    assert unit.status == "weak" and unit.reason.startswith("is still the photograph it began at")


def test_a_value_that_photographs_change_is_not_dead_though_no_step_changed_it() -> None:
    status, reason = verdict(1.0, 1.0, 2.0, True, None, 0.5)
    assert status == "weak" and reason == "stays at the 1 of its start, though a photograph reaches 2"
    assert verdict(3.0, 3.0, 2.0, False, None, 0.5)[0] == "ok"
    assert verdict(1.0, 1.0, 1.0, True, None, 1.0)[0] == "dead"


def test_a_unit_that_everything_lowers_is_said_to_be_at_its_best_without_a_picture() -> None:
    """Its picture is a plain field, which nobody could otherwise tell from a fault."""
    weights = {
        "w": np.full((1, 3, 1, 1), -1, np.float32),
        "b": np.array([2.5], np.float32),
        "v": np.array([[[[1]]]], np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["x", "half"], ["centred"]),
        helper.make_node("Relu", ["centred"], ["r"]),
        helper.make_node("Conv", ["r", "w", "b"], ["y"], "inhibited"),
    ]
    made = model(nodes, {**weights, "half": np.array(0.5, np.float32)}, shape=("N", 3, None, None))
    graph = convscope.load(made, preprocessing="unit", check=False)
    start = np.full((16, 16, 3), 0.25, np.float32)
    unit = filters(graph, "inhibited", 0, size=16, steps=4, start=start, photos=_RED)[0]
    assert unit.status == "ok" and unit.reason.startswith("reaches 2.5 at its start, and no photograph more")


def test_a_picture_given_to_start_from_is_kept_and_not_changed_for_a_photograph() -> None:
    start = np.full((24, 24, 3), 0.25, np.float32)
    made = filters(small(), "conv2", [1, 4, 7], size=24, steps=2, start=start)
    for unit in made.units:
        assert unit.rescue == "" and np.allclose(unit.start, start, atol=0.02)
        assert unit.status == "ok" or f"photographs reach {unit.reference:.3g}" in unit.reason


def test_top_keeps_the_strongest_living_units_in_order() -> None:
    graph = with_silent_filters()
    made = filters(graph, "relu", preset="convscope", size=16, steps=20, top=3)
    assert 1 not in [u.unit for u in made.units]
    ends = [u.activation_end for u in made.units]
    assert ends == sorted(ends, reverse=True)


def test_redirected_gradients_reach_a_picture_that_would_get_none() -> None:
    graph = with_silent_filters()
    network = Network(graph, [graph.layer("relu").tensor], "cpu")
    picture = torch.zeros(2, 3, 8, 8)
    picture[1, 0] = 1.0  # bright red wakes unit 2
    for redirect, expected in ((False, [False, True]), (True, [True, True])):
        x = picture.clone().requires_grad_()
        value = network(x, redirect)[network.tensors[0]][:, 2].sum()
        (gradient,) = torch.autograd.grad(value, x)
        assert [bool((g != 0).any()) for g in gradient] == expected
    plain, helped = (
        torch.autograd.grad(network(x := picture.clone().requires_grad_(), r)[network.tensors[0]][1, 2].sum(), x)[0]
        for r in (False, True)
    )
    assert torch.equal(plain[1], helped[1])


def test_a_class_is_maximized_before_the_softmax() -> None:
    graph = small()
    made = maximize(graph, [2, 4], size=24, steps=40)
    assert all(u.activation_end > u.activation_start for u in made.units)
    assert all(u.activation_end > 1 or u.activation_end > u.activation_start for u in made.units)


def test_a_dream_raises_the_layer_and_stays_a_picture_of_the_photograph() -> None:
    made = dream(small(), PHOTO, "conv2", size=48, steps=8)
    unit = made[0]
    assert unit.image.shape == (40, 48, 3) and unit.activation_end > unit.activation_start
    assert 0 < np.abs(unit.image - PHOTO).mean() < 0.3


def test_an_inversion_comes_near_the_photographs_values() -> None:
    graph = small()
    unit = invert(graph, PHOTO, "conv1", size=24, steps=120)[0]
    assert unit.activation_end > 0.5 * unit.activation_start and unit.activation_end > -0.3
    strong = invert(graph, PHOTO, "conv1", gain=2.0, size=24, steps=40)[0]
    assert not np.array_equal(strong.image, unit.image)


@pytest.mark.parametrize("preset", sorted(PRESETS.keys() - {"jacobgil"}))  # whose decay undoes what its steps do here
def test_an_inversion_compares_the_whole_picture_under_every_preset(preset: str) -> None:
    unit = invert(small(), PHOTO, "conv1", preset=preset, size=24, steps=40)[0]
    assert unit.image.shape == (24, 24, 3) and unit.activation_end > unit.activation_start


def test_noise_start_and_strip_are_as_asked() -> None:
    graph = small()
    unit = filters(graph, "conv2", 0, size=24, steps=6, preset="chollet", noise=Noise("normal", 127, 30), strip=3)[0]
    assert abs(unit.start.mean() - 127 / 255) < 0.02 and len(unit.strip) == 3
    photo = filters(graph, "conv2", 0, size=24, steps=1, preset="chollet", start=PHOTO)[0]
    expected = reference_pictures(3, (40, 48))[4].mean()
    assert abs(photo.start.mean() - expected) < 0.01


def test_results_tell_where_they_come_from() -> None:
    graph = small()
    made = filters(graph, "conv2", [0, 1], size=24, steps=2)
    told = made.to_json(["a.png", "b.png"])
    assert told["model"]["sha256"] == graph.sha256 and told["units"][1]["file"] == "b.png"
    assert told["size"] == 24 and len(told["units"][0]["history"]) == 2
    assert "data:image" in made._repr_html_() and made.grid().shape == (120, 242, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "conv22"}, "closest: 'conv2'"),
        ({"units": [12]}, "unit 12 is out of range: layer 'conv2' has 12 units"),
        ({"size": 0}, "size 0 is not positive"),
        ({"steps": 0}, "steps 0 is not positive"),
        ({"batch": "many"}, "batch 'many' is not a positive number"),
        ({"noise": Noise("pink")}, "noise 'pink' is unknown"),
        ({"size": 1}, "cannot compute"),
    ],
)
def test_wrong_use_is_one_line(change: dict[str, object], message: str) -> None:
    arguments = {"layer": "conv2" if "size" not in change else "p1", "units": [0], "steps": 1, **change}
    if arguments["layer"] == "p1":
        arguments["layer"] = "pool1"
    with pytest.raises(UsageError, match=message) as caught:
        filters(small(), **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_nan_in_the_model_is_refused() -> None:
    model = small_cnn()
    for tensor in model.graph.initializer:
        if tensor.name == "conv2.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(12, np.nan, dtype=np.float32), tensor.name))
    graph = convscope.load(model, preprocessing="torch", check=False)
    with pytest.raises(RefusedInput, match="NaN or infinity"):
        filters(graph, "conv2", 0, size=16, steps=1)


def test_networks_with_kernels_of_three_axes_are_ascended() -> None:
    weights: dict[str, np.ndarray] = {
        "w": np.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32),
        "deep": np.random.default_rng(1).normal(0, 0.3, (2, 1, 3, 1, 1)).astype(np.float32),
        "at": np.array([1], np.int64),
        "four": np.array([0, 8, 16, 16], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Unsqueeze", ["c", "at"], ["u"]),
        helper.make_node("Conv", ["u", "deep"], ["d"], "deep", pads=[1, 0, 0, 1, 0, 0]),
        helper.make_node("Reshape", ["d", "four"], ["y"], "joined"),
    ]
    graph = convscope.load(model(nodes, weights), preprocessing="unit", check=False)
    made = filters(graph, graph.layers[-1].name, 3, size=16, steps=4)
    assert made[0].activation_end > made[0].activation_start


def test_progress_counts_to_the_end() -> None:
    seen = []
    filters(small(), "conv2", [0, 1, 2], size=16, steps=2, batch=2, progress=seen.append)
    assert (seen[-1].done, seen[-1].batch, seen[-1].step, seen[-1].steps) == (2, 1, 2, 2)


def test_auto_batches_stay_where_bits_are_known_to_agree() -> None:
    graph = small()
    from convscope.engine.ascent.settings import settings

    assert 1 <= Studio(graph, graph.layer("conv2"), settings(graph)).batch <= 16


def test_the_opacity_of_a_picture_is_where_its_gradients_were_and_changes_nothing_else() -> None:
    """A unit that sees the middle of the picture alone: every gradient lies in its receptive field."""
    plain, seen = (
        filters(small(), "conv2", [3, 5], size=32, steps=12, position=(8, 8), alpha=alpha).units
        for alpha in (False, True)
    )
    for one, two in zip(plain, seen, strict=True):
        assert one.alpha is None and one.image.tobytes() == two.image.tobytes()
        assert two.alpha is not None and two.alpha.shape == (32, 32) and two.alpha.min() == 0 and two.alpha.max() == 1
    outside = np.ones((32, 32), bool)
    outside[6:28, 6:28] = False  # the field of 8 pixels at (16, 16), and the views' jitter
    assert not seen[0].alpha[outside].any()


def test_opacity_does_not_depend_on_the_batch_or_on_smaller_stages() -> None:
    one, four = (
        filters(small(), "conv2", [3, 5, 1], size=28, preset="objects", steps=20, alpha=True, batch=batch)
        for batch in (1, 4)
    )
    for a, b in zip(one.units, four.units, strict=True):
        assert a.alpha is not None and b.alpha is not None and a.alpha.tobytes() == b.alpha.tobytes()
        assert a.alpha.shape == (28, 28) and (a.alpha == 1).mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_pictures_that_excite_the_unit_as_the_cpus_do() -> None:
    graph = small()
    cpu, gpu = (filters(graph, "conv2", 3, size=32, steps=60, device=d)[0] for d in ("cpu", "cuda"))
    assert gpu.activation_end == pytest.approx(cpu.activation_end, rel=0.1)
