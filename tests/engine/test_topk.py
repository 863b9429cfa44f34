"""Top images: equal to brute force, whatever the order, the batches, the shards or a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import convscope
from convscope.engine.activations.reductions import reduced_session
from convscope.engine.activations.topk import TopImages, shard_of
from convscope.errors import UsageError
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


def test_two_states_that_saw_the_same_images_count_them_once(tmp_path: Path) -> None:
    names, values, places = figures(30, 3)
    whole = saved(state(names, values, places), tmp_path / "whole")
    first, second = state(names[:20], values[:20], places[:20]), state(names[5:], values[5:], places[5:])
    for one, other in ((first, second), (second, first)):
        merged = TopImages.empty(LAYER, 4, "id")
        for part in (one, other, one):
            merged.merge(part)
        assert saved(merged, tmp_path / "merged") == whole


def test_an_error_in_the_middle_of_a_batch_loses_nothing_of_what_was_saved(tmp_path: Path) -> None:
    names, values, places = figures(30, 4)
    whole = saved(state(names, values, places), tmp_path / "whole")
    found = TopImages.empty(LAYER, 4, "id")
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it is raised half-way
        for i in range(0, 30, 5):
            found.add(names[i : i + 5], values[i : i + 5], places[i : i + 5])
            if i == 15:
                raise KeyboardInterrupt
            found.save(tmp_path / "state")
    resumed = TopImages.restore(tmp_path / "state")
    assert len(resumed.done) == 15
    resumed.add(names, values, places)
    assert saved(resumed, tmp_path / "resumed") == whole


CHILD = """
import sys
from pathlib import Path
from tests.engine.test_topk import LAYER, TopImages, figures
names, values, places = figures(400, 5)
found = TopImages.empty(LAYER, 4, "id")
for i in range(400):
    found.add(names[i : i + 1], values[i : i + 1], places[i : i + 1])
    found.save(Path(sys.argv[1]))
"""


def test_a_killed_search_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    names, values, places = figures(400, 5)
    whole = saved(state(names, values, places), tmp_path / "whole")
    kept, root = tmp_path / "killed" / "state.json", Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", CHILD, str(kept)], env={**os.environ, "PYTHONPATH": str(root)}
    )
    end = time.monotonic() + 60
    while not (kept.exists() and len(TopImages.restore(kept).done) > 20) and time.monotonic() < end:
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)  # it saves after every image: most likely in the middle of one
    assert child.wait(30) == -signal.SIGKILL
    resumed = TopImages.restore(kept)
    assert 20 < len(resumed.done) < 400
    left = [i for i, name in enumerate(names) if name not in resumed.done]
    resumed.add([names[i] for i in left], values[left], places[left])
    assert saved(resumed, tmp_path / "resumed") == whole


def test_a_real_pass_equals_brute_force_with_nan_anywhere_in_a_plane() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], "/relu/Relu")
    graph = convscope.load(tiny.model([node], {}, ("N", 6, None, None)), check=False)
    layer = graph.layers[0]
    rng = np.random.default_rng(0)
    maps = rng.integers(-2, 5, (40, 6, 5, 7)).astype(np.float32)
    maps[rng.random(maps.shape) < 0.01] = np.nan
    session, found = reduced_session(graph, [layer], device="cpu"), TopImages.empty(layer, 5, "id")
    names = [f"{i:02d}" for i in rng.permutation(40)]
    for i in range(0, 40, 8):
        found.add_outputs(layer, names[i : i + 8], session.run(maps[i : i + 8]))
    planes = np.maximum(maps, 0).reshape(40, 6, -1)
    for unit in range(6):
        best = sorted((-p[unit].max(), n, p[unit].argmax()) for p, n in zip(planes, names, strict=True)
                      if not np.isnan(p[unit]).any())[:5]  # fmt: skip
        assert [
            (-v, n, p) for v, n, p in zip(found.values[unit], found.images[unit], found.places[unit], strict=True)
        ] == best
        assert found.nans[unit] == np.isnan(planes[:, unit]).any(axis=1).sum() > 0


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
