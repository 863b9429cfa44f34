"""The atlas as a whole: complete, equal however it was made, and never made twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import convscope
from convscope.engine.activations.folder_pass import reduced_batches
from convscope.engine.activations.statistics import UnitStatistics
from convscope.engine.ascent.album import Album
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.many import Studio
from convscope.engine.atlas import build, rendering, units
from convscope.engine.atlas import compile as compile_module
from convscope.engine.atlas import plan as plan_module
from convscope.engine.atlas.build import Manner
from convscope.engine.atlas.files import Folder
from convscope.engine.atlas.numbers import Numbers, best_shown
from convscope.engine.atlas.plan import FINE, Plan
from convscope.engine.atlas.report import compiled, status, verified
from convscope.engine.graph.graph import Graph
from convscope.engine.pictures.read import model_input, read_image
from convscope.engine.runs.events import Skipped
from convscope.errors import PartlyDone, RefusedInput, UsageError

from ...tiny import small_cnn
from .places import fingerprint, made, network, photographs


@pytest.fixture(scope="module")
def graph() -> Graph:
    return network()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def whole(graph: Graph, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas made in one go by one process."""
    folder = tmp_path_factory.mktemp("whole") / "atlas"
    made(graph, photos, folder)
    return folder


def test_every_unit_of_every_layer_is_there(whole: Path) -> None:
    found = status(Folder(whole))
    assert [(row["name"], row["units"], row["fine"]) for row in found["layers"]] == [
        ("relu1", 8, 8), ("relu2", 12, 12), ("fc", 5, 5),
    ]  # fmt: skip
    assert found["missing"] == 0
    assert verified(Folder(whole))["missing"] == []
    assert {p.name for p in whole.iterdir()} >= {"index.html", "app.js", "app.css", "d", "s", "u", "p", "manifest.json"}


def test_the_same_call_again_makes_no_picture_and_changes_no_byte(
    graph: Graph, photos: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(whole)
    times = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    monkeypatch.setattr(Studio, "make", lambda *_: pytest.fail("a picture was made again"))
    made(graph, photos, whole)
    assert fingerprint(whole) == before
    changed = {p.name for p, t in times.items() if p.stat().st_mtime_ns != t}
    assert changed <= {"manifest.json"}


def test_pictures_are_those_of_filters(graph: Graph, photos: Path, whole: Path) -> None:
    files = Folder(whole)
    plan = Plan.read(files)
    planned = plan.layers[1]
    result = filters(graph, planned.layer, [3, 7], preset="lucid", size=16, steps=3)
    for one in result.units:
        pixels, record, _ = units.get(files, planned.recipes[FINE], one.unit)
        if one.status != "dead":
            assert np.array_equal(pixels, np.rint(one.image * 255).astype(np.uint8))
        assert record["activation_end"] == one.activation_end


def test_best_photographs_are_those_of_a_search_through_all(graph: Graph, photos: Path, whole: Path) -> None:
    plan = Plan.read(Folder(whole))
    numbers = Numbers(Folder(whole), plan)
    paths = sorted(photos.iterdir())
    session = graph.session([p.layer.tensor for p in plan.layers])
    x = np.concatenate([model_input(read_image(path), graph) for path in paths])
    values = session.run(np.concatenate([x, x[-2:]]))  # eight at once, as the atlas does
    for planned in plan.layers:
        peaks = values[planned.layer.tensor][: len(paths)].reshape(len(paths), planned.units, -1).max(axis=2)
        figures = numbers.layer(planned.layer)
        for unit in range(planned.units):
            order = sorted(range(len(paths)), key=lambda i: (-peaks[i, unit], paths[i].name))[: plan.k]
            assert [name for name, _, _ in best_shown(figures, unit)] == [paths[i].name for i in order]


def test_numbers_are_those_of_stats_to_the_last_digit(graph: Graph, photos: Path, whole: Path) -> None:
    plan = Plan.read(Folder(whole))
    numbers = Numbers(Folder(whole), plan)
    layers = [planned.layer for planned in plan.layers]
    states = [UnitStatistics.empty(layer) for layer in layers]
    paths = {path.name: path for path in photos.iterdir()}
    for _, outputs in reduced_batches(graph, layers, paths, batch=8, device="cpu", failed=lambda p, e: None):
        for state in states:
            state.add(outputs)
    for layer, state in zip(layers, states, strict=True):
        expected, found = state.to_json(), dict(numbers.layer(layer).facts)
        assert json.dumps(found["units"]) == json.dumps(expected["units"])
        assert (found["dead"], found["always_on"]) == (expected["dead"], expected["always_on"])


def test_an_atlas_made_under_other_coarse_settings_keeps_its_fine_pictures(
    graph: Graph, photos: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(graph, photos, tmp_path / "atlas", layers="relu1", stages=("numbers", "coarse", "relations"))
    monkeypatch.setattr(plan_module, "COARSE_STEPS", 2)
    asked: list[str] = []
    make = Studio.make

    def counted(self: Studio, wanted: Any, progress: Any = None) -> Any:
        asked.extend([self.chosen.preset.name] * len(wanted))
        return make(self, wanted, progress)

    monkeypatch.setattr(Studio, "make", counted)
    made(graph, photos, tmp_path / "atlas", layers="relu1", stages=("numbers", "coarse", "relations"))
    assert asked == ["lucid, coarse"] * 8  # of another plan
    folder = shutil.copytree(whole, tmp_path / "whole")
    asked.clear()
    made(graph, photos, folder)
    assert asked == []  # the fine ones are there, and need no coarse ones before them


def test_the_time_for_pictures_begins_with_the_first_picture(
    graph: Graph, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    measure = build.numbers.measure

    def slow(*arguments: Any) -> None:
        clock[0] += 100
        measure(*arguments)

    monkeypatch.setattr(build.numbers, "measure", slow)
    monkeypatch.setattr(build, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    found = made(graph, photos, tmp_path / "atlas", layers="relu1", manner=Manner(budget=50))
    assert clock[0] == 100
    assert not found.late and found.counts["missing"] == found.counts["coarse"] == 0


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"missing": 3, "coarse": 1}, "3 of 25 units are not made, 1 is coarse"),
        ({"missing": 0, "coarse": 25}, "25 are coarse"),
        ({}, "some pictures are not made"),
    ],
)
def test_what_is_left_is_said_without_zeros(counts: dict[str, int], said: str) -> None:
    assert build.Atlas("atlas", 25, counts).left == said


def test_a_signal_is_drawn_as_stripes_and_a_picture_as_it_is() -> None:
    signal = np.linspace(0, 255, 600).astype(np.uint8).reshape(1, 600, 1)
    striped = compile_module._striped(signal)
    assert striped.shape[:2] == (256, 256)
    assert (striped == striped[:1]).all() and (np.diff(striped[0].astype(int)) >= 0).all()
    picture = np.zeros((2, 600, 3), np.uint8)
    assert compile_module._striped(picture) is picture


def test_a_run_with_an_end_takes_one_block_of_each_layer_then_two_then_four(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rendering.BLOCKS, "cpu", 1)
    plan = Plan.read(Folder(whole))
    order = {planned.layer.index: range(planned.units) for planned in plan.layers}
    work = rendering.blocks(plan, FINE, lambda identity: True, order, spread=True)
    first, second, third = (planned.layer.index for planned in plan.layers)
    assert [(block.layer, *block.units) for block in work[:10]] == [
        (first, 0), (second, 0), (third, 0),
        (first, 1), (first, 2), (second, 1), (second, 2), (third, 1), (third, 2),
        (first, 3),
    ]  # fmt: skip
    assert len(work) == len({block.name for block in work}) == 25


def test_a_gpu_gets_larger_blocks_of_the_same_units(whole: Path) -> None:
    plan = Plan.read(Folder(whole))
    order = {planned.layer.index: range(200) for planned in plan.layers}
    here, there = (
        rendering.blocks(replace(plan, device=device), FINE, lambda identity: True, order, spread=False)
        for device in ("cpu", "cuda")
    )
    assert (len(here), len(there)) == (13 * len(plan.layers), 2 * len(plan.layers))
    assert [(b.layer, u) for b in here for u in b.units] == [(b.layer, u) for b in there for u in b.units]


def test_coarse_pictures_are_small_and_short_and_classes_too(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COARSE_SIZE": 8, "COARSE_CLASS": 12, "COARSE_STEPS": 5}.items():
        monkeypatch.setattr(plan_module, name, value)
    for preset in ("convscope", "lucid", "maco"):
        for name, side in (("relu2", 8), ("fc", 12)):
            wishes = plan_module.Wishes(preset)
            fine, coarse = (plan_module.stage_settings(graph, graph.layer(name), s, wishes) for s in (FINE, "coarse"))
            assert (coarse.size, coarse.steps) == ((side, side), 5)
            assert coarse.preset.name == f"{fine.preset.name}, coarse"
    short = plan_module.stage_settings(graph, graph.layer("fc"), "coarse", plan_module.Wishes("lucid", size=6, steps=2))
    assert (short.size, short.steps) == ((6, 6), 2)  # never larger nor longer than the fine ones


def test_two_processes_give_the_bytes_of_one(graph: Graph, photos: Path, whole: Path, tmp_path: Path) -> None:
    made(graph, photos, tmp_path / "atlas", manner=Manner(workers=2))
    assert fingerprint(tmp_path / "atlas") == fingerprint(whole)


def test_shards_in_any_order_and_twice_give_the_bytes_of_one_run(
    graph: Graph, photos: Path, whole: Path, tmp_path: Path
) -> None:
    parts = []
    for i in (1, 2, 3, 2):
        parts.append(tmp_path / f"part{len(parts)}")
        made(graph, photos, parts[-1], manner=Manner(shard=(i, 3)))
        assert not (parts[-1] / "index.html").exists()
    for order in range(3):
        random.Random(order).shuffle(parts)
        merged = tmp_path / f"merged{order}"
        for part in parts:
            shutil.copytree(part, merged, dirs_exist_ok=True)
        made(graph, photos, merged, stages=("relations",))
        assert fingerprint(merged) == fingerprint(whole)


def test_shards_one_after_the_other_in_one_folder_leave_nothing_out(
    graph: Graph, photos: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which units are whose must not depend on what is there already."""
    for i in (2, 3, 1):
        made(graph, photos, tmp_path / "atlas", manner=Manner(shard=(i, 3)))
    monkeypatch.setattr(Studio, "make", lambda *_: pytest.fail("a unit was left out"))
    made(graph, photos, tmp_path / "atlas")
    assert fingerprint(tmp_path / "atlas") == fingerprint(whole)


def test_a_run_that_ends_at_any_write_goes_on_to_the_same_bytes(
    graph: Graph, photos: Path, whole: Path, tmp_path: Path
) -> None:
    """As with a plug pulled: nothing after the n-th write happens, not even cleaning up."""

    class Ended(BaseException):
        pass

    class Short(Folder):
        left = 0

        def write(self, name: str, data: bytes) -> None:
            if self.left == 0:
                raise Ended
            self.left -= 1
            super().write(name, data)

    drawn = random.Random(0)
    files = Short(tmp_path / "atlas")
    for _ in range(10):
        files.left = drawn.randrange(1, 25)
        try:
            made(graph, photos, files)
            break
        except Ended:
            continue
    files.left = 10_000
    made(graph, photos, files)
    assert fingerprint(tmp_path / "atlas") == fingerprint(whole)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_kill_9_leaves_nothing_that_a_second_run_does_not_mend(
    graph: Graph, photos: Path, whole: Path, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.engine.atlas.places import made, network\n"
        "from convscope.engine.render import artifacts\n"
        "replace, left = os.replace, [int(sys.argv[3])]\n"
        "def cut(a, b):\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    replace(a, b)\n"
        "os.replace = cut\n"
        "made(network(), Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[3]
    folder = tmp_path / "atlas"
    command = [sys.executable, "-c", script, str(photos), str(folder), "20"]
    done = subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(folder.rglob("*.part"))
    assert list((folder / "store" / "leases").rglob("*.json"))
    made(graph, photos, folder)
    assert not list(folder.rglob("*.part"))
    assert not list((folder / "store" / "leases").rglob("*.json"))
    assert fingerprint(folder) == fingerprint(whole)


def test_pictures_of_an_album_are_taken_over(
    graph: Graph, photos: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Plan.read(Folder(whole)).layers[0].recipes[FINE]
    album = Album(tmp_path / "album", recipe.identity, {})
    for one in filters(graph, "relu1", preset="lucid", size=16, steps=3).units:
        album.add(one)
    rendered: list[str] = []
    plain = Studio.make

    def counted(self: Studio, units: Any, progress: Any = None) -> Any:
        rendered.extend(f"{self.layer.name} {self.chosen.steps}" for _ in units)
        return plain(self, units, progress)

    monkeypatch.setattr(Studio, "make", counted)
    made(graph, photos, tmp_path / "atlas", albums=[tmp_path / "album"], layers="relu1")
    assert len(rendered) == 0 or all(" 3" in r for r in rendered)
    assert status(Folder(tmp_path / "atlas"))["fine"] == 8
    with pytest.raises(UsageError, match="were made with another model"):
        made(graph, photos, tmp_path / "other", albums=[tmp_path / "album"], size=12, layers="relu1")


def test_variants_are_those_of_filters_under_hashes_of_their_own(
    graph: Graph, photos: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(whole, tmp_path / "atlas")
    before = units.kept(Folder(folder))
    asked: list[tuple[str, bool]] = []
    plain = Studio.make

    def counted(self: Studio, wanted: Any, progress: Any = None) -> Any:
        asked.extend((self.chosen.preset.name, self.chosen.negative) for _ in wanted)
        return plain(self, wanted, progress)

    monkeypatch.setattr(Studio, "make", counted)
    made(graph, photos, folder, layers="relu2", preset=("lucid", "chollet"), negative=True)
    assert asked == [("lucid", True)] * 12 + [("chollet", False)] * 12  # nothing that was there
    files = Folder(folder)
    plan = Plan.read(files)
    assert plan.variants == {
        "variant1": {"preset": "lucid", "negative": True}, "variant2": {"preset": "chollet", "negative": False},
    }  # fmt: skip
    monkeypatch.undo()
    for stage, words in (("variant1", {"preset": "lucid", "negative": True}), ("variant2", {"preset": "chollet"})):
        (one,) = filters(graph, "relu2", [5], size=16, steps=3, **words).units
        recipe = plan.layers[0].recipes[stage]
        identity = units.unit_id(recipe, 5)
        pixels, record, _ = units.get(files, recipe, 5)
        assert identity not in before
        assert record["activation_end"] == one.activation_end
        if one.status != "dead":
            assert np.array_equal(pixels, np.rint(one.image * 255).astype(np.uint8))
    number, rows = _details(folder, plan.layers[0].layer.index)
    assert number == 0
    for unit, row in enumerate(rows):
        assert [v["stage"] for v in row["variants"]] == ["variant1", "variant2"]
        assert all((folder / v["file"]).is_file() and f"/{unit:05d}-" in v["file"] for v in row["variants"])
    assert [(v["preset"], v["units"]) for v in status(files)["variants"]] == [("lucid", 12), ("chollet", 12)]
    assert verified(files)["missing"] == verified(files)["unlisted"] == []


def _details(folder: Path, layer: int) -> tuple[int, list[dict[str, Any]]]:
    """What the page is told of a layer's first units."""
    text = (folder / "d" / f"L{layer:04d}-000.js").read_text()
    index, number, rows = json.loads("[" + text.removeprefix("ATLAS_UNITS(").rstrip().removesuffix(");") + "]")
    assert index == layer
    return number, rows


@pytest.mark.parametrize(
    ("presets", "message"),
    [(("lucid", "nice"), "preset 'nice' is unknown"), (("maco", "maco"), "'maco' is named twice"), ((), "no preset")],
)
def test_presets_that_are_none_or_twice_are_refused(
    graph: Graph, photos: Path, tmp_path: Path, presets: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        made(graph, photos, tmp_path / "atlas", preset=presets)
    assert not (tmp_path / "atlas").exists()


def test_time_that_is_over_leaves_a_page_that_says_what_is_missing(graph: Graph, photos: Path, tmp_path: Path) -> None:
    found = made(graph, photos, tmp_path, manner=Manner(budget=0.0))
    assert found.late
    assert found.counts["missing"] == 25
    text = (tmp_path / "d" / "manifest.js").read_text()
    assert '"missing":25' in text
    assert made(graph, photos, tmp_path).counts["missing"] == 0


def test_a_full_disk_is_said_and_the_same_call_goes_on(
    graph: Graph, photos: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, left = os.replace, [15]

    def full(a: Any, b: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(a))
        replace(a, b)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PartlyDone, match="the disk is full"):
        made(graph, photos, tmp_path / "atlas")
    left[0] = 10_000
    made(graph, photos, tmp_path / "atlas")
    assert fingerprint(tmp_path / "atlas") == fingerprint(whole)


def test_a_picture_that_cannot_be_read_is_left_out_and_named(graph: Graph, photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "broken.png").write_bytes(b"no picture")
    said: list[Any] = []
    made(graph, folder, tmp_path / "atlas", on_event=said.append)
    assert [event.path.name for event in said if isinstance(event, Skipped)] == ["broken.png"]
    numbers = Numbers(Folder(tmp_path / "atlas"), Plan.read(Folder(tmp_path / "atlas")))
    assert list(numbers.failed) == ["broken.png"]
    assert len(numbers.names) == 6
    assert "broken.png" in (tmp_path / "atlas" / "d" / "manifest.js").read_text()


def test_photographs_none_of_which_can_be_read_are_refused_before_any_picture_is_made(
    graph: Graph, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(RefusedInput, match=r"none of the 1 photographs could be read; the first: .*broken\.png"):
        made(graph, tmp_path / "photos", tmp_path / "atlas")
    assert not (tmp_path / "atlas" / "store" / "units").exists()


def test_the_folder_of_another_model_is_refused(graph: Graph, photos: Path, whole: Path) -> None:

    other = convscope.load(small_cnn(seed=1), preprocessing="unit", check=False)
    with pytest.raises(UsageError, match="holds the atlas of another model"):
        made(other, photos, whole)


def test_verify_names_what_is_missing_changed_and_not_listed(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "atlas")
    (folder / "app.css").unlink()
    (folder / "u" / "L0002" / "00003.webp").write_bytes(b"else")
    (folder / "p" / "99999.webp").write_bytes(b"more")
    found = verified(Folder(folder))
    assert found["missing"] == ["app.css"]
    assert found["changed"] == ["u/L0002/00003.webp"]
    assert found["unlisted"] == ["p/99999.webp"]


def test_any_damaged_file_of_the_store_is_found_by_verify_and_refused_or_told_by_compile(
    whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(whole, folder)
    before, rng = fingerprint(folder), random.Random(0)
    kinds = ("numbers", "relations", "fields", "units", "photographs")
    for kind in kinds:
        found = sorted(path for path in (folder / "store" / kind).rglob("*") if path.is_file())
        file = found[len(found) // 2]
        data, name = file.read_bytes(), file.relative_to(folder).as_posix()
        for _ in range(3):
            at = rng.randrange(len(data))
            file.write_bytes(
                data[:at] if kind == "relations" else data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
            )
            assert name in verified(Folder(folder))["changed"]
            if kind != "photographs":  # what they show may be checked by their sums alone
                try:
                    compiled(Folder(folder))
                except UsageError as error:
                    assert "is damaged; re" in str(error)
                file.write_bytes(data)
                compiled(Folder(folder))
                assert fingerprint(folder) == before
        file.write_bytes(data)
    failed = folder / "store" / "failed" / "x.json"
    failed.parent.mkdir(exist_ok=True)
    failed.write_text("[")
    with pytest.raises(UsageError, match=r"x.json is damaged; remove it"):
        status(Folder(folder))


def test_compile_needs_neither_the_model_nor_the_photographs(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "atlas")
    for name in ("d", "s", "u", "p"):
        shutil.rmtree(folder / name)
    (folder / "manifest.json").unlink()
    compiled(Folder(folder))
    assert fingerprint(folder) == fingerprint(whole)
