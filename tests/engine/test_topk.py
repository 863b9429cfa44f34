"""Top images: equal to brute force, whatever the order, the batches, the shards or a restart."""

from __future__ import annotations

from pathlib import Path

import convscope
import numpy as np
import pytest
from convscope.engine.topk import TopImages, shard_of
from convscope.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny

LAYER = convscope.load(tiny.small_cnn(), check=False).layer("conv2")
UNITS = LAYER.channels or 0


def figures(images: int, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Values with many ties, NaN and infinities."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, (images, UNITS)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[rng.random(values.shape) < 0.05] = -np.inf
    return [f"{i:03d}.png" for i in range(images)], values, rng.integers(0, 99, values.shape)


def state(names: list[str], values: np.ndarray, places: np.ndarray, batch: int = 5, k: int = 4) -> TopImages:
    found = TopImages.empty(LAYER, k, "id")
    for i in range(0, len(names), batch):
        found.add(names[i : i + batch], values[i : i + batch], places[i : i + batch])
    return found


def saved(top: TopImages, path: Path) -> bytes:
    top.save(path)
    return path.read_bytes()


def test_the_best_equal_brute_force_with_ties_and_nan() -> None:
    names, values, places = figures(40)
    found = state(names, values, places)
    for unit in range(UNITS):
        usable = [(-values[i, unit], names[i], places[i, unit]) for i in range(40) if not np.isnan(values[i, unit])]
        expected = sorted(usable)[:4]
        assert found.images[unit].tolist() == [name for _, name, _ in expected]
        assert found.places[unit].tolist() == [place for _, _, place in expected]
        assert found.nans[unit] == np.isnan(values[:, unit]).sum()


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(24)), st.integers(1, 9), st.integers(1, 4), st.randoms(use_true_random=False))
def test_order_batches_shards_and_repetition_do_not_matter(order, batch, shards, random) -> None:  # type: ignore[no-untyped-def]
    import tempfile

    names, values, places = figures(24, 1)
    with tempfile.TemporaryDirectory() as folder:
        expected = saved(state(names, values, places), Path(folder) / "a")
        parts = []
        for i in range(shards):
            rows = list(order)[i::shards]
            parts.append(state([names[r] for r in rows], values[rows], places[rows], batch))
        random.shuffle(parts)
        merged = TopImages.empty(LAYER, 4, "id")
        for part in parts:
            merged.merge(part)
        merged.add(names[:7], values[:7], places[:7])  # a retried batch
        assert saved(merged, Path(folder) / "b") == expected


def test_a_stopped_search_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    names, values, places = figures(30, 2)
    whole = saved(state(names, values, places), tmp_path / "whole")
    saved(state(names[:13], values[:13], places[:13]), tmp_path / "half")
    resumed = TopImages.restore(tmp_path / "half")
    left = [i for i, name in enumerate(names) if name not in resumed.done]
    resumed.add([names[i] for i in left], values[left], places[left])
    assert saved(resumed, tmp_path / "resumed") == whole


def test_states_of_another_model_do_not_mix_and_rubbish_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another model"):
        TopImages.empty(LAYER, 4, "a").merge(TopImages.empty(LAYER, 4, "b"))
    (tmp_path / "state").write_text("{}")
    with pytest.raises(UsageError, match="no state"):
        TopImages.restore(tmp_path / "state")


def test_shards_are_disjoint_and_complete() -> None:
    paths = [Path(str(i)) for i in range(11)]
    parts = [shard_of(paths, (i, 3)) for i in (1, 2, 3)]
    assert sorted(p for part in parts for p in part) == sorted(paths)
