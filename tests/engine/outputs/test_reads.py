"""Every read is one number, the same in NumPy and torch, differentiable, and can be stored."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from convscope.engine.outputs import target as targets
from convscope.engine.outputs.reads import (
    READS,
    Box,
    Channel,
    Cosine,
    Distance,
    Entry,
    Logsumexp,
    Masked,
    Read,
    Symbol,
)  # fmt: skip
from convscope.engine.outputs.target import Target, of_function, scores

RNG = np.random.default_rng(0)
MASK = RNG.random((4, 5)).astype(np.float32)
VECTOR = RNG.normal(size=6).astype(np.float32)
SHAPES = {"vector": (6,), "maps": (3, 4, 5), "table": (7, 6), "turned": (6, 7)}
CASES: dict[str, Read] = {
    "class": Channel("vector", 2),
    "unit": Channel("maps", 1),
    "unit of channels last": Channel("maps", 4, axis=3),
    "mask": Masked("maps", 0, MASK),
    "neuron": Entry((("maps", (2, 3, 4)),)),
    "objectness and class": Entry((("table", (3, 4)), ("turned", (5, 1)))),
    "probabilities": Entry((("table", (3, 4)), ("table", (3, 5))), log_odds=True),
    "left": Box("table", tuple((1, c) for c in range(4)), "cxcywh", "left", (3.0, 2.0)),
    "bottom": Box("table", tuple((1, c) for c in range(4)), "tlbr", "bottom"),
    "overlap": Box("table", tuple((1, c) for c in range(4)), "cxcywh", "iou", (9.0, 9.0), (1.0, 2.0, 7.0, 8.0)),
    "cosine": Cosine("vector", VECTOR),
    "distance": Distance("vector", VECTOR),
    "distance of one": Distance("vector", np.asarray([0.3], np.float32), 2),
    "anywhere": Logsumexp("table", 3, axis=2),
    "all": Logsumexp("table"),
    "character": Symbol("table", (1, 2), 3),
    "character, turned": Symbol("turned", (1, 2), 3, axis=0),
    "character of probabilities": Symbol("table", (4,), 0, log=True),
}


def rows() -> dict[str, np.ndarray]:
    found = {name: RNG.uniform(0.2, 0.8, shape) for name, shape in SHAPES.items()}
    found["table"][1, :4] = [0.5, 0.5, 0.4, 0.5]  # a box that overlaps the reference
    found["turned"] = found["table"].T.copy()
    return found


@pytest.mark.parametrize("name", CASES)
def test_numpy_and_torch_agree_and_the_gradient_is_that_of_finite_differences(name: str) -> None:
    read, known = CASES[name], rows()
    number = float(read.value(known))
    as_torch = {n: torch.from_numpy(v).requires_grad_() for n, v in known.items()}
    value = read.value(as_torch)
    assert value.ndim == 0
    assert float(value.detach()) == pytest.approx(number, rel=1e-6, abs=1e-7)
    gradients = torch.autograd.grad(value, [as_torch[n] for n in read.tensors])
    for tensor, gradient in zip(read.tensors, gradients, strict=True):
        direction = np.random.default_rng(1).normal(size=known[tensor].shape)
        ends = [read.value({**known, tensor: known[tensor] + s * 1e-5 * direction}) for s in (1, -1)]
        expected = (float(ends[0]) - float(ends[1])) / 2e-5
        assert float((gradient.numpy() * direction).sum()) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_target_can_be_stored_and_read_back(name: str) -> None:
    known = rows()
    target = Target(
        CASES[name], name, sign=-1.0, against=(Target(Channel("vector", 0), "other"),), gamma=0.3,
        box=(1.0, 2.0, 3.0, 4.0), class_index=5,
    )  # fmt: skip
    back = targets.from_json(json.loads(json.dumps(target.to_json())))
    assert float(back.score(known)) == pytest.approx(float(target.score(known)), rel=1e-6)
    assert (back.name, back.box, back.index, back.tensors) == (target.name, target.box, 5, target.tensors)


def test_every_read_is_tried_here() -> None:
    assert {type(read) for read in CASES.values()} == set(READS.values())


def test_a_contrast_is_the_number_minus_gamma_times_the_mean_of_the_others() -> None:
    row = {"vector": np.asarray([1.0, 5.0, 2.0, 4.0])}
    others = tuple(Target(Channel("vector", i), str(i)) for i in (0, 3))
    assert Target(Channel("vector", 1), "c", against=others, gamma=0.6).score(row) == pytest.approx(5 - 0.6 * 2.5)


def test_a_sequence_with_time_first_counts_its_pictures_along_the_second_axis() -> None:
    values = RNG.normal(size=(9, 2, 6))
    target = Target(Symbol("y", (4,), 1, batch_axis=1), "c")
    found = scores({"y": values}, [target], 2)
    expected = [values[4, n, 1] - np.delete(values[4, n], 1).max() for n in range(2)]
    assert found == pytest.approx(expected)
    third = Target(Channel("y", 3, axis=2, batch_axis=1), "c")
    assert scores({"y": values}, [third], 2) == pytest.approx(values[:, :, 3].mean(axis=0))


def test_a_callable_gets_the_outputs_of_one_picture_and_is_named_but_not_stored() -> None:
    target = of_function(lambda rows: rows["a"].sum() - rows["b"][0], ["a", "b"], "mine")
    outputs = {"a": np.ones((2, 3)), "b": np.asarray([[1.0], [2.0]])}
    assert scores(outputs, [target], 2).tolist() == [2.0, 1.0]
    assert target.to_json()["read"] == "function"
    with pytest.raises(ValueError, match="'function' is none of channel"):
        targets.from_json(target.to_json())


def test_saturated_probabilities_have_finite_log_odds() -> None:
    for p in (0.0, 1.0):
        read = Entry((("p", (0,)),), log_odds=True)
        assert np.isfinite(read.value({"p": np.asarray([p], np.float32)}))
        assert torch.isfinite(read.value({"p": torch.tensor([p])}))
