"""Statistics, facets, accentuation and default layers on networks of tokens: units are channels, places the grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import convscope
from convscope.engine.activations.reductions import reduced_session
from convscope.engine.activations.statistics import UnitStatistics
from convscope.engine.ascent.accent import accent, kept_layer
from convscope.engine.ascent.facets import facets
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.recipe.objectives import diversity, neuron
from convscope.engine.attribution.places import default_layers
from convscope.engine.attribution.targets import unit_target
from convscope.engine.graph.summary import row_in_words
from convscope.engine.runs import stats
from convscope.errors import UsageError

from ..torchvision_schemas import declare

declare()
pytest.importorskip("timm")
from timm.models.levit import Levit  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

SWIN: dict[str, Any] = {"embed_dim": 16, "depths": (1, 1, 1), "num_heads": (2, 2, 4), "window_size": 4}
# kind -> layer of tokens or of maps with channels last, its rows and columns, tokens of no place before them
LAYERS = {"vit": ("blocks.0", (4, 6), 1), "swin": ("layers.1.blocks.0", (8, 8), 0)}


def loaded(net: torch.nn.Module, size: tuple[int, int]) -> convscope.Graph:
    torch.manual_seed(0)
    for parameter in net.parameters():  # timm begins with weights so small that every map is flat
        torch.nn.init.normal_(parameter, std=0.3)
    return convscope.load(net.eval(), size=size, preprocessing="unit")


@pytest.fixture(scope="module")
def graphs() -> dict[str, convscope.Graph]:
    vit = VisionTransformer((32, 48), 8, embed_dim=16, depth=2, num_heads=2, num_classes=5)
    return {"vit": loaded(vit, (32, 48)), "swin": loaded(SwinTransformer(64, 4, num_classes=5, **SWIN), (64, 64))}


@pytest.fixture(params=LAYERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def by_hand(graph: convscope.Graph, kind: str, x: np.ndarray) -> np.ndarray:
    """(N, units, places) of ONNX Runtime's tensor: (N, units, T) of this ViT, (N, rows, columns, units) of Swin."""
    name, _, prefix = LAYERS[kind]
    raw = graph.session([graph.layer(name).tensor]).run(x)[graph.layer(name).tensor]
    return raw[:, :, prefix:] if kind == "vit" else raw.reshape(len(raw), -1, raw.shape[3]).transpose(0, 2, 1)


def pictures(graph: convscope.Graph, count: int = 3) -> np.ndarray:
    shape = (count, 3, *graph.image_size)
    return np.random.default_rng(0).random(shape).astype(np.float32)


def test_statistics_of_units_are_those_of_the_grid(graphs: dict[str, convscope.Graph], kind: str) -> None:
    graph, layer, x = graphs[kind], graphs[kind].layer(LAYERS[kind][0]), pictures(graphs[kind])
    found = UnitStatistics.empty(layer)
    found.add(reduced_session(graph, [layer], device="cpu").run(x))
    values = by_hand(graph, kind, x).astype(np.float64)
    units = found.to_json()["units"]
    assert len(units) == values.shape[1]
    for name, expected in (
        ("mean", values.mean(axis=(0, 2))),
        ("max", values.max(axis=(0, 2))),
        ("mean_max", values.max(axis=2).mean(axis=0)),
        ("std", values.transpose(1, 0, 2).reshape(len(units), -1).std(axis=1)),
    ):
        np.testing.assert_allclose([unit[name] for unit in units], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_stats_takes_the_layers_of_tokens_where_no_layer_is_named(graphs: dict[str, convscope.Graph]) -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    assert {"patch_embed.proj", "blocks.0", "norm"} <= {
        entry["layer"] for entry in stats.run(graphs["vit"], [image]).content["layers"]
    }


def test_facets_are_compared_by_the_channels_of_the_grid(graphs: dict[str, convscope.Graph], kind: str) -> None:
    graph, layer, x = graphs[kind], graphs[kind].layer(LAYERS[kind][0]), pictures(graphs[kind], 2)
    maps = by_hand(graph, kind, x).astype(np.float64)
    grams = [(m @ m.T).ravel() for m in maps]
    cosine = grams[0] @ grams[1] / np.linalg.norm(grams[0]) / np.linalg.norm(grams[1])
    raw = torch.from_numpy(graph.session([layer.tensor]).run(x)[layer.tensor])
    assert diversity(layer, 2)({layer.tensor: raw}).tolist() == pytest.approx([-cosine, -cosine], rel=1e-4)


def test_facets_of_a_unit_of_tokens_are_compared_in_its_own_layer(
    graphs: dict[str, convscope.Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def spy(place: Any, group: int) -> Any:
        compared.append(place.name)
        return diversity(place, group)

    monkeypatch.setattr("convscope.engine.ascent.facets.diversity", spy)
    made = facets(graphs["vit"], "blocks.0.mlp.act", 3, 2, steps=2)
    assert set(compared) == {"blocks.0.mlp.act"} and len(made.units) == 2


def test_accent_reports_the_units_mean_over_the_grid(graphs: dict[str, convscope.Graph], kind: str) -> None:
    graph = graphs[kind]
    picture = pictures(graph, 1)[0].transpose(1, 2, 0)
    made = accent(graph, picture, LAYERS[kind][0], 2, steps=1)[0]
    shown = np.ascontiguousarray(made.start.transpose(2, 0, 1)[None], dtype=np.float32)
    expected = by_hand(graph, kind, shown)[0, 2].mean()
    assert made.activation_start == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_the_layer_that_accent_keeps_is_four_times_as_fine_behind_attention_too(
    graphs: dict[str, convscope.Graph],
) -> None:
    kept = kept_layer(graphs["swin"], graphs["swin"].layer("layers.2.blocks.0"))
    assert kept.maps(np.zeros([1, *kept.shape[1:]])).shape[2:] == (16, 16) and kept.name.startswith("layers.0.blocks")
    assert kept_layer(graphs["vit"], graphs["vit"].layer("blocks.1")).name == "patch_embed.proj"


def test_a_unit_as_a_target_is_its_mean_over_the_grid_and_a_neuron_a_place_of_it(
    graphs: dict[str, convscope.Graph], kind: str
) -> None:
    graph, (name, (rows, columns), _) = graphs[kind], LAYERS[kind]
    x = pictures(graph, 1)
    values = by_hand(graph, kind, x)[0, 3].reshape(rows, columns)
    tensor = graph.layer(name).tensor
    raw = {tensor: graph.session([tensor]).run(x)[tensor][0]}
    assert unit_target(graph, name, 3).read.value(raw) == pytest.approx(values.mean(), rel=1e-4, abs=1e-6)
    assert unit_target(graph, name, 3, (2, 5)).read.value(raw) == pytest.approx(values[2, 5], rel=1e-5)
    with pytest.raises(UsageError, match="lies outside"):
        unit_target(graph, name, 3, (2, columns))


@pytest.mark.parametrize(("of", "target", "expected"), [
    ("vit", "blocks.1.norm2", "blocks.1/Add"), ("vit", "blocks.0.attn.qkv", "patch_embed.proj"),
    ("swin", "layers.1.blocks.0.norm1", "layers.1.downsample.reduction"),
])  # fmt: skip
def test_a_hidden_unit_is_explained_at_the_last_map_or_the_last_tokens_before_it(
    graphs: dict[str, convscope.Graph], of: str, target: str, expected: str
) -> None:
    graph = graphs[of]
    (found,) = default_layers(graph, (graph.layer(target).tensor,))
    assert found.name == expected


def test_info_shows_the_grid_of_tokens_beside_their_shape(graphs: dict[str, convscope.Graph]) -> None:
    shapes = {row[1]: row[3] for row in map(row_in_words, graphs["vit"].layers)}
    assert (shapes["blocks.0.norm1"], shapes["patch_embed.proj"]) == ("Nx25x16 (4x6 + 1)", "Nx16x4x6")


def test_tokens_are_followed_through_a_batch_norm_that_takes_each_as_a_row() -> None:
    net = Levit(img_size=64, embed_dim=(16, 24), key_dim=8, depth=(1, 1), num_heads=(2, 3), num_classes=5)
    graph = loaded(net, (64, 64))
    last = graph.last_spatial_layer()
    assert (last.name, last.shape, last.channels) == ("stages.1.blocks.0", (None, 4, 24), 24)
    x = pictures(graph, 2)
    seen = {}
    net.stages[1].blocks[0].register_forward_hook(lambda module, inputs, output: seen.update(value=output))
    with torch.no_grad():
        net(torch.from_numpy(x))
    maps = last.maps(graph.session([last.tensor]).run(x)[last.tensor])
    np.testing.assert_allclose(maps, seen["value"].transpose(1, 2).reshape(2, 24, 2, 2), rtol=1e-3, atol=1e-3)


class GatedAtTheEnd(torch.nn.Module):
    """The last map is 1 x 1, weighed by attention at 7 x 7 as csatv2 does at 64 pixels."""

    def __init__(self, gate: torch.nn.Module) -> None:
        super().__init__()
        self.gate = gate
        self.stage1 = torch.nn.Conv2d(3, 8, 4, 4)
        self.stage2 = torch.nn.Conv2d(8, 8, 4, 4)
        self.attention = torch.nn.Conv2d(8, 4, 3, padding=1)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage2(torch.relu(self.stage1(x)))
        large = torch.nn.functional.interpolate(x, (7, 7))
        gate = torch.nn.functional.adaptive_avg_pool2d(self.attention(large), 1).mean(1, keepdim=True)
        return self.head((x * self.gate(gate)).flatten(1))


@pytest.mark.parametrize("gate", [torch.nn.Sigmoid(), torch.nn.Identity()])
def test_the_default_layer_is_no_map_that_weighs_another(gate: torch.nn.Module) -> None:
    assert loaded(GatedAtTheEnd(gate), (16, 16)).last_spatial_layer().name in ("stage1", "Relu")


def test_a_neuron_of_tokens_is_the_unit_at_one_place_of_the_grid(graphs: dict[str, convscope.Graph], kind: str) -> None:
    graph, (name, (rows, columns), _) = graphs[kind], LAYERS[kind]
    x = pictures(graph, 2)
    values = by_hand(graph, kind, x)
    with torch.no_grad():
        raw = graph.twin([graph.layer(name).tensor])(torch.from_numpy(x))
    for unit, row, column in ((0, 0, 0), (3, rows - 1, 1), (7, 1, columns - 1)):
        found = neuron(name, unit, (row, column)).on(graph)(raw).numpy()
        np.testing.assert_allclose(found, values[:, unit, row * columns + column], rtol=1e-3, atol=1e-4)
        target = unit_target(graph, name, unit, (row, column))
        assert target.score({graph.layer(name).tensor: raw[graph.layer(name).tensor][0].numpy()}) == pytest.approx(
            float(found[0]), rel=1e-5
        )
    centre = neuron(name, 2).on(graph)(raw).numpy()
    np.testing.assert_allclose(centre, values[:, 2, rows // 2 * columns + columns // 2], rtol=1e-3, atol=1e-4)


def test_ascent_at_one_place_of_the_grid_raises_the_unit_there(graphs: dict[str, convscope.Graph], kind: str) -> None:
    graph, (name, (rows, columns), _) = graphs[kind], LAYERS[kind]
    place = (1, columns - 2)
    result = filters(graph, name, [5], position=place, steps=8, preset="strongest")
    shown = result[0]
    x = np.stack([shown.start, shown.image]).transpose(0, 3, 1, 2)
    values = by_hand(graph, kind, np.ascontiguousarray(x))[:, 5, place[0] * columns + place[1]]
    assert values[1] > values[0]
    assert shown.activation_end == pytest.approx(values[1], rel=0.02, abs=0.02)  # of the place, not of the mean
    with pytest.raises(UsageError, match="is outside layer"):
        filters(graph, name, [5], position=(rows, 0), steps=2)
