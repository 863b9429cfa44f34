"""Networks of signals and volumes against torch by hand: their maps are where the picture shows them, in every verb."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope
from convscope.engine.atlas.connections import connection
from convscope.engine.atlas.stations import IMAGE, Stations
from convscope.engine.graph.graph import Graph
from convscope.errors import UsageError


class Sound(nn.Module):
    """(N, 1, 256): two convolutions with a gate of one place in between, the mean over time, 3 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool, self.gate = nn.Conv1d(1, 4, 9, 4), nn.MaxPool1d(2), nn.Conv1d(4, 4, 1)
        self.last, self.head = nn.Conv1d(4, 6, 3, padding=1), nn.Linear(6, 3)

    def maps(self, x: Tensor) -> Tensor:
        x = self.pool(self.first(x).relu())
        return self.last(x * self.gate(x.mean(2, keepdim=True)).sigmoid()).relu()

    def above(self, maps: Tensor) -> Tensor:
        return self.head(maps.mean(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.maps(x))


class Volume(nn.Module):
    """(N, 1, 6, 8, 8): two convolutions with a pool between them, the mean over all places, 3 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool = nn.Conv3d(1, 4, 3, padding=1), nn.MaxPool3d(2)
        self.last, self.head = nn.Conv3d(4, 5, 3, padding=1), nn.Linear(5, 3)

    def maps(self, x: Tensor) -> Tensor:
        return self.last(self.pool(self.first(x).relu())).relu()

    def above(self, maps: Tensor) -> Tensor:
        return self.head(maps.mean((2, 3, 4)))

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.maps(x))


OWN = {"sound": (1, 1, 256), "volume": (1, 1, 6, 8, 8)}
SEEN = {"sound": (1, 256), "volume": (48, 8)}  # rows and columns of the picture


@cache
def loaded(kind: str) -> tuple[nn.Module, Graph]:
    torch.manual_seed(3)
    net = (Sound() if kind == "sound" else Volume()).eval()
    return net, convscope.load(net, example_input=torch.zeros(OWN[kind]))


@cache
def given(kind: str) -> tuple[Tensor, np.ndarray]:
    """What the network takes, and the picture (N, C, H, W) that shows it."""
    x = torch.from_numpy(np.random.default_rng(1).normal(0, 0.5, OWN[kind]).astype(np.float32))
    return x, x.reshape(1, 1, *SEEN[kind]).numpy()


def by_hand(kind: str, index: int, *, elementwise: bool) -> np.ndarray:
    """Grad-CAM or HiResCAM in the layer's own shape."""
    net, _ = loaded(kind)
    maps = net.maps(given(kind)[0])
    (gradient,) = torch.autograd.grad(net.above(maps)[0, index], maps)
    weights = gradient if elementwise else gradient.mean(tuple(range(2, maps.ndim)), keepdim=True)
    return (maps * weights).sum(1)[0].detach().numpy()


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("method", ["gradcam", "hirescam"])
def test_class_activation_maps_are_torchs_and_lie_where_the_picture_shows_them(kind: str, method: str) -> None:
    _, graph = loaded(kind)
    made = [convscope.explain(graph, given(kind)[1], method, i, preprocessed=True) for i in range(3)]
    for index, found in enumerate(made):
        expected = by_hand(kind, index, elementwise=method == "hirescam")
        np.testing.assert_allclose(found.values.reshape(expected.shape), expected, rtol=1e-4, atol=1e-6)
        mode = "linear" if kind == "sound" else "trilinear"
        positive = torch.from_numpy(expected).clamp(min=0)[None, None]
        large = torch.nn.functional.interpolate(positive, OWN[kind][2:], mode=mode)[0, 0].numpy().reshape(SEEN[kind])
        assert found.heatmap.shape == SEEN[kind]
        np.testing.assert_allclose(found.heatmap, large / max(large.max(), 1e-30), atol=2e-5)
    assert any(found.heatmap.any() for found in made)


@pytest.mark.parametrize(("kind", "names"), [("sound", ("first", "pool")), ("volume", ("first", "pool", "last"))])
def test_a_place_sees_the_part_of_the_picture_that_its_gradient_reaches(kind: str, names: tuple[str, ...]) -> None:
    net, graph = loaded(kind)
    rng = np.random.default_rng(0)
    for name in names:
        layer = graph.layer(name)
        module = {"first": lambda x: net.first(x), "pool": lambda x: net.pool(net.first(x).relu()), "last": net.maps}[
            name
        ]
        field, grid = layer.receptive_field, layer.tokens
        assert field is not None and grid is not None
        hulls: dict[int, np.ndarray] = {}
        for _ in range(24):  # a pool takes one of the values that it sees: of many signals each one comes once
            x = torch.from_numpy(rng.normal(0, 1, OWN[kind])).float().requires_grad_()
            values = module(x)[0].abs().sum(0).reshape(-1)
            for place in (0, grid.count // 2, grid.count - 1):
                (gradient,) = torch.autograd.grad(values[place], x, retain_graph=True)
                reached = (gradient != 0).reshape(SEEN[kind]).numpy()
                hulls[place] = hulls.get(place, np.zeros(SEEN[kind], bool)) | reached
        for place, reached in hulls.items():
            rows, columns = np.nonzero(reached)
            box = field.box(*divmod(place, grid.columns))
            assert box is not None
            low = [max(0.0, box[0]), max(0.0, box[1])]
            high = [min(SEEN[kind][0], box[2]), min(SEEN[kind][1], box[3])]
            assert [*low, *high] == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1], (name, place)


@pytest.mark.parametrize("kind", OWN)
def test_the_first_layer_of_an_atlas_reads_the_signal_or_the_volume(kind: str) -> None:
    net, graph = loaded(kind)
    stations = Stations(graph)
    first = stations.all[0]
    (link,) = (connection(graph, stations, maker, first.layer.channels or 0) for maker in stations.makers(first))
    assert link is not None
    assert link.layers.tolist() == [IMAGE]
    weight = next(net.parameters()).detach().numpy()
    np.testing.assert_allclose(link.lengths[:, 0], np.linalg.norm(weight.reshape(len(weight), -1), axis=1), rtol=1e-5)


@pytest.mark.parametrize("kind", OWN)
def test_the_default_of_every_verb_finds_the_maps(kind: str, tmp_path) -> None:
    net, graph = loaded(kind)
    names = [layer.name for layer in graph.layers if layer.has_maps]
    x, picture = given(kind)
    units = convscope.activations(graph, picture, graph.last_spatial_layer().name, preprocessed=True)
    expected = net.maps(x).detach().numpy()
    np.testing.assert_allclose(next(iter(units.values.values())).reshape(expected.shape), expected, atol=1e-5)
    photo = np.random.default_rng(2).random((12, 16, 3)).astype(np.float32)
    assert [layer["layer"] for layer in convscope.stats(graph, [photo]).content["layers"]] == names
    assert set(convscope.activations(graph, photo).content["images"][0]["layers"][0]) >= {"layer", "mean"}
    assert convscope.dream(graph, photo, names[0], steps=2).size == SEEN[kind]
    for resize in (None, "input"):
        found = convscope.export(graph, tmp_path / f"{resize}.onnx", resize=resize)
        assert found.layer == graph.last_spatial_layer().name and found.verification.ok


@pytest.mark.parametrize("kind", OWN)
def test_filters_of_signals_and_volumes_are_torchs(kind: str) -> None:
    net, graph = loaded(kind)
    found = convscope.weights(graph)
    assert found.kernels is not None
    expected = net.state_dict()["first.weight"].numpy()
    np.testing.assert_array_equal(found.kernels["first"], expected)
    assert next(layer["shape"] for layer in found.content["layers"]) == list(expected.shape)


def test_a_unit_or_a_place_of_a_volume_is_a_target() -> None:
    net, graph = loaded("volume")
    x, picture = given("volume")
    values = net.maps(x)[0].detach().numpy()  # 3 slices of 4 x 4
    layer = graph.last_spatial_layer().name
    ask = {f"unit:{layer}:2": values[2].mean(), f"unit:{layer}:2@6,1": values[2, 1, 2, 1]}
    for target, expected in ask.items():
        found = convscope.explain(graph, picture, "saliency", target, preprocessed=True)
        assert found.score == pytest.approx(float(expected), abs=1e-5)


def test_where_there_is_no_map_the_default_says_that_it_takes_another_method() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    graph = convscope.load(net, example_input=torch.zeros(1, 3, 8, 8))
    notes: list[str] = []
    photo = np.random.default_rng(2).random((8, 8, 3)).astype(np.float32)
    from convscope.engine.runs import explain as explain_run

    explain_run.run(graph, photo, on_event=lambda event: notes.append(getattr(event, "text", "")))
    assert any(note.startswith("method: saliency, which needs no feature map") for note in notes)
    assert convscope.explain(graph, photo).method == "saliency"
    with pytest.raises(UsageError, match="saliency"):
        convscope.explain(graph, photo, "gradcam")
