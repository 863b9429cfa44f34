"""No result depends on the pictures beside it, and pictures are told apart on whichever axis they are counted."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope
from convscope.engine.activations.fields import Peak, effective_boxes
from convscope.engine.graph.graph import Graph
from convscope.engine.pictures.read import Picture
from convscope.errors import UsageError


class Mixed(nn.Module):
    """Divided by the mean over the batch: pictures change one another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = torch.relu(self.first(x))
        return self.second(found / (found.mean() + 0.1)).mean((2, 3))


class Reader(nn.Module):
    """A reader of lines with time first behind the convolution: (T, N, K)."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.memory, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.LSTM(48, 5), nn.Linear(5, 7)

    def forward(self, x: Tensor) -> Tensor:
        found = torch.relu(self.features(x)).permute(3, 0, 1, 2).flatten(2)
        return self.head(self.memory(found)[0])


@pytest.fixture(scope="module")
def mixed() -> Graph:
    torch.manual_seed(0)
    return convscope.load(Mixed().eval(), example_input=torch.zeros(1, 3, 12, 12), check=False)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("reader") / "reader.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: sizes become constants
        torch.onnx.export(Reader().eval(), (torch.zeros(1, 1, 8, 20),), path, dynamo=False, input_names=["x"])
    return convscope.load(path, check=False)


def pictures(graph: Graph, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    height, width = graph.image_size
    return [rng.random((height, width, graph.channels), dtype=np.float32) * (i + 1) / count for i in range(count)]


def named(graph: Graph, count: int = 3) -> list[Picture]:
    return [Picture(pixels, f"p{i}") for i, pixels in enumerate(pictures(graph, count))]


def test_activations_of_a_network_that_mixes_its_batch_are_those_of_each_picture_alone(mixed: Graph) -> None:
    layer = mixed.layers[-1].name
    assert mixed.mixes_batch is not None
    together = convscope.activations(mixed, pictures(mixed), layer)[layer]
    alone = [convscope.activations(mixed, [p], layer, batch=1)[layer] for p in pictures(mixed)]
    assert np.array_equal(together, np.concatenate(alone))


def test_statistics_and_best_pictures_of_such_a_network_do_not_depend_on_the_batch(mixed: Graph) -> None:
    layer = mixed.layers[-1].name
    for verb, options in ((convscope.stats, {}), (convscope.top, {"k": 2})):
        many, one = (verb(mixed, named(mixed), layer=layer, batch=size, **options).content for size in (3, 1))
        assert many["layers"] == one["layers"]


def reference(reader: Graph, rows: int) -> np.ndarray:
    """(N, T, K) of the last layer from the session itself, picture by picture."""
    session = reader.session([reader.outputs[0].name])
    found = [session.run(p.transpose(2, 0, 1)[None])[reader.outputs[0].name] for p in pictures(reader, rows)]
    return np.concatenate([value.transpose(1, 0, 2) for value in found])


@pytest.mark.parametrize("count", [3, 20])  # 20: as many pictures as steps
def test_activations_with_time_first_are_one_for_each_picture(reader: Graph, count: int) -> None:
    layer = reader.layers[-1]
    assert reader.batch_axes[layer.tensor] == 1
    found = convscope.activations(reader, pictures(reader, count), layer.name, batch=count)[layer.name]
    expected = reference(reader, count).transpose(0, 2, 1)
    assert found.shape == expected.shape and np.allclose(found, expected, atol=1e-5)


def test_statistics_and_best_pictures_with_time_first_are_of_whole_pictures(reader: Graph) -> None:
    layer, values = reader.layers[-1], reference(reader, 3)
    found = convscope.stats(reader, named(reader), layer=layer.name, batch=2).content["layers"][0]
    assert [unit["mean"] for unit in found["units"]] == pytest.approx(values.mean((0, 1)).tolist(), abs=1e-5)
    best = convscope.top(reader, named(reader), layer=layer.name, k=1).content["layers"][0]["units"]
    for unit in best:
        top: Any = unit["top"][0]
        peaks = values[:, :, unit["unit"]].max(axis=1)
        assert (top["image"], top["value"]) == (f"p{peaks.argmax()}", pytest.approx(peaks.max(), abs=1e-5))


def test_pictures_of_units_with_time_first_are_those_of_each_unit_alone(reader: Graph) -> None:
    layer = reader.layers[-1].name
    both = convscope.filters(reader, layer, units=[0, 3], steps=3, size=(8, 20), preset="lucid")
    alone = convscope.filters(reader, layer, units=[3], steps=3, size=(8, 20), preset="lucid")
    assert np.array_equal(both[1].image, alone[0].image)


def test_where_a_unit_is_excited_is_found_by_gradient_with_time_first(reader: Graph) -> None:
    layer = reader.layers[-1]
    peak = Peak(layer, 2, 15)
    ((_, (box,)),) = effective_boxes(reader, {"p0": [peak]}, {"p0": named(reader)[0]}, field="gradient")
    assert box[1] >= 5 and box[3] >= 14  # around the fifteenth of twenty columns; the memory looks back from there


def test_class_activation_maps_are_not_taken_where_time_is_first(reader: Graph) -> None:
    late = next(layer for layer in reader.layers if layer.tensor in reader.batch_axes)
    with pytest.raises(UsageError, match="counts the pictures on axis 1, not on its first"):
        convscope.explain(reader, pictures(reader)[0], "hirescam", layer=late.name)
    assert all("features" in found.layers[0] or "Relu" in found.layers[0] for found in convscope.explain(
        reader, pictures(reader)
    ))  # fmt: skip


class _Joined(nn.Module):
    """Pictures as tokens of one sequence: they attend to one another, behind a first axis of one."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.query, self.key = nn.Conv2d(3, 6, 4), nn.Linear(6, 6), nn.Linear(6, 6)
        self.token = nn.Parameter(torch.randn(1, 1, 6))

    def forward(self, x: Tensor) -> Tensor:
        found = torch.relu(self.features(x)).mean((2, 3))
        line = torch.cat([self.token, found.reshape(1, -1, 6)], dim=1)
        attended = torch.softmax(self.query(line) @ self.key(line).transpose(1, 2), dim=2) @ line
        return attended[:, 1:].transpose(0, 1).flatten(1)


@pytest.mark.parametrize(
    ("meet", "mixes"),
    [
        (lambda a: a @ a.T, True),  # (N, K) with itself: pictures are compared
        (lambda a: torch.einsum("nk,mk->nm", a, a), True),
        (lambda a: torch.einsum("nk,nk->k", a, a)[None] + a, True),
        (lambda a: torch.einsum("...k,...j->...kj", a, a).flatten(1), False),
        (lambda a: torch.einsum("nk,nj->jkn", a, a).permute(2, 0, 1).flatten(1), False),
        (lambda a: torch.bmm(a[:, None], a[:, :, None]).flatten(1), False),
        (lambda a: (a[None] - a[:, None]).abs().sum(1), True),
        (lambda a: (a[None] > a[:, None]).float().sum(1), True),
        (lambda a: a[:, None] * a[:, :, None].sum(2), False),
        (lambda a: torch.matmul(a.T, a)[:1] + a, True),
    ],
)
def test_pictures_that_meet_in_a_product_are_found(meet: Any, mixes: bool) -> None:
    class Met(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(3, 6, 4)

        def forward(self, x: Tensor) -> Any:
            return meet(torch.relu(self.features(x)).mean((2, 3)))

    torch.manual_seed(0)
    graph = convscope.load(Met().eval(), example_input=torch.zeros(1, 3, 8, 8), check=False)
    assert (graph.mixes_batch is not None) == mixes


def test_pictures_that_are_tokens_of_one_sequence_are_run_one_at_a_time() -> None:
    torch.manual_seed(0)
    graph = convscope.load(_Joined().eval(), example_input=torch.zeros(1, 3, 8, 8), check=False)
    assert graph.mixes_batch is not None
    name = graph.layers[-1].name
    together = convscope.activations(graph, pictures(graph), name)[name]
    alone = [convscope.activations(graph, [p], name)[name] for p in pictures(graph)]
    assert np.array_equal(together, np.concatenate(alone))


TAKEN = {
    "x[0]": lambda y: y[0],
    "the first": lambda y: y[:1],
    "the last, turned": lambda y: y.flip(0),
    "squeezed and back": lambda y: y.squeeze(0).unsqueeze(0),
    "the best of all": lambda y: y.reshape(-1).topk(3)[0],
    "one row": lambda y: y.flatten(0).unsqueeze(0),
    "twice": lambda y: y.repeat(2, 1),
}


@pytest.mark.parametrize("how", TAKEN)
def test_an_export_that_loses_the_batch_of_one_runs_one_picture_at_a_time_behind_that_and_not_before(
    how: str, tmp_path: Path
) -> None:
    """Its result for several pictures is that of each, one behind the other; it was that of one, or an error."""

    class Taken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = TAKEN[how](self.head(self.features(x).mean((2, 3))))
            return found

    torch.manual_seed(0)
    path = tmp_path / "taken.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Taken().eval(), (torch.zeros(1, 3, 8, 8),), path, dynamo=False, input_names=["x"])
    graph = convscope.load(path)
    assert graph.mixes_batch is not None
    x = np.random.default_rng(0).random((3, 3, 8, 8), dtype=np.float32)
    output = graph.outputs[0].name
    session = graph.session([output], device="cpu")
    alone = np.concatenate([session.run(one[None])[output].ravel() for one in x])
    np.testing.assert_array_equal(session.run(x)[output].ravel(), alone)
    together = graph.twin([output]).only(torch.from_numpy(x)).numpy().ravel()
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    assert session.alone and not graph.session([graph.layers[0].tensor], device="cpu").alone


class _Pages(nn.Module):
    """Maps, which are an output too, and numbers made of all pictures as tokens that lie in front of the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = torch.relu(self.features(x))
        tokens = maps.flatten(2).permute(2, 0, 1)  # (H W, N, 4)
        met = torch.softmax(tokens @ tokens.transpose(1, 2), dim=2) @ tokens
        return self.head(met).mean(0), maps


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam", "occlusion"])
def test_a_picture_is_explained_where_tokens_lie_in_front_of_a_batch_that_mixes(method: str) -> None:
    module = _Pages().eval()
    graph = convscope.load(module, example_input=torch.zeros(1, 3, 6, 6), check=False)
    assert graph.mixes_batch is not None
    (picture, *_) = pictures(graph)
    found = convscope.explain(graph, picture, method, output=graph.outputs[0].name)
    assert np.isfinite(found.heatmap).all() and found.heatmap.max() > 0


def test_a_part_that_begins_with_one_picture_s_tokens_is_not_taken_for_as_many_pictures() -> None:
    graph = convscope.load(_Pages().eval(), example_input=torch.zeros(1, 3, 6, 6), check=False)
    tokens = next(layer.tensor for layer in graph.layers if layer.shape[-1] == 4 and layer.shape[1] is None)
    name = graph.outputs[0].name
    parts = [tokens, *(graph.index.sides((tokens,), (name,)) or ())]
    whole = graph.session([*parts, name]).run(pictures(graph)[0].transpose(2, 0, 1)[None])
    assert len(whole[tokens]) == 36
    twin = graph.twin([name], parts)
    assert twin.alone
    found = twin({part: torch.from_numpy(whole[part]) for part in parts}, pictures=1)[name]
    assert np.allclose(found, whole[name], atol=1e-5)


def test_a_signal_that_is_seen_as_a_picture_of_one_row_mixes_nothing() -> None:
    torch.manual_seed(0)
    graph = convscope.load(
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU()), example_input=torch.zeros(1, 2, 16), check=False
    )
    assert graph.own_input is not None
    assert graph.mixes_batch is None
