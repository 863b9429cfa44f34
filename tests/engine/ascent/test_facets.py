"""Several pictures of one unit: unlike each other, exciting all the same, and a function of themselves."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from convscope.engine.ascent.facets import facets
from convscope.engine.ascent.network import Network
from convscope.engine.ascent.results import AscentResult
from convscope.errors import UsageError

from .nets import small

SHAPE = {"size": 24, "steps": 60}


def likeness(made: AscentResult) -> float:
    """The mean cosine of the pictures' Gram matrices at conv2, written out."""
    graph = small()
    network = Network(graph, ["c2"], "cpu")
    grams = []
    for unit in made.units:
        with torch.no_grad():
            maps = network(torch.from_numpy(unit.image.transpose(2, 0, 1)[None].copy()))["c2"][0].flatten(1).numpy()
        grams.append((maps @ maps.T).ravel())
    pairs = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in combinations(grams, 2)]
    return float(np.mean(pairs))


def test_facets_are_less_alike_than_pictures_from_different_starts_and_excite_the_unit_all_the_same() -> None:
    alike, unlike = (facets(small(), "conv2", 3, 3, weight=w, **SHAPE) for w in (0.0, 2.0))
    assert likeness(unlike) < likeness(alike) - 0.05
    assert [u.name for u in unlike.units] == ["facet 1", "facet 2", "facet 3"]
    for unit in unlike.units:
        assert unit.unit == 3 and unit.status == "ok" and unit.activation_end > 2 * unit.reference


def test_facets_are_the_same_every_time_and_another_seed_gives_others() -> None:
    one, again, other = (facets(small(), "conv2", 3, 2, size=16, steps=8, seed=seed) for seed in (0, 0, 1))
    assert [u.image.tobytes() for u in one.units] == [u.image.tobytes() for u in again.units]
    assert not np.array_equal(one[0].image, other[0].image)


def test_facets_of_a_class_differ_in_the_last_feature_map() -> None:
    made = facets(small(), "fc", 2, 2, size=24, steps=30)
    assert all(u.activation_end > u.activation_start for u in made.units)


@pytest.mark.parametrize("count", [0, 1, 13])
def test_a_count_that_is_none_is_refused(count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} facets of a unit were asked for; give a number from 2 to 12"):
        facets(small(), "conv2", 3, count)
