"""An atlas that somebody sends: refused in one line, never a file elsewhere, never a picture under another's name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from convscope.engine.ascent.album import MANIFEST as ALBUM
from convscope.engine.atlas import units
from convscope.engine.atlas.files import Folder, is_inside
from convscope.engine.atlas.plan import FINE, Plan, unit_id
from convscope.engine.atlas.report import compiled, status, verified
from convscope.engine.graph.graph import Graph
from convscope.engine.render.artifacts import npz_bytes
from convscope.errors import ConvscopeError, UsageError

from .places import fingerprint, made, network, photographs


@pytest.fixture(scope="module")
def graph() -> Graph:
    return network()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photos"), 3)


@pytest.fixture(scope="module")
def whole(graph: Graph, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "atlas"
    made(graph, photos, folder, layers="relu1", negative=True)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "sent" / "atlas")


def _edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    changed = change(content)
    path.write_text(json.dumps(content if changed is None else changed))


def _put(*way: Any) -> Callable[[Any], None]:
    """Puts the last of the words where the others lead."""

    def change(content: Any) -> None:
        for step in way[:-2]:
            content = content[step]
        content[way[-2]] = way[-1]

    return change


LAYER: tuple[Any, ...] = ("layers", 0)
PLANS: list[Callable[[Any], Any]] = [
    _put("variants", {"x/../../../evil": {"preset": "lucid", "negative": True}}),
    _put("variants", {"variant2": {"preset": "lucid", "negative": True}}),
    _put("variants", {"variant1": {}}),
    _put(*LAYER, "recipes", "coarse", "size", [1e400, 1]),
    _put(*LAYER, "recipes", {}),
    _put(*LAYER, "index", -1),
    _put(*LAYER, "index", "../x"),
    _put(*LAYER, "index", 10**400),
    _put(*LAYER, "name", "n" * 10_001),
    _put(*LAYER, "channels", 10**9),
    _put(*LAYER, "channel_axis", None),
    _put(*LAYER, "shape", "abc"),
    _put(*LAYER, "receptive_field", {"size": ["a", "b"], "stride": [0, 0], "offset": [0, 0]}),
    _put(*LAYER, "receptive_field", "offset", [1e308, 1e308]),
    _put(*LAYER, "seen", [[], []]),
    _put(*LAYER, "tokens", {"rows": 0, "columns": 0, "prefix": 0, "count": 1}),
    lambda plan: plan["layers"].append(plan["layers"][0]),
    lambda plan: plan["photographs"].append(plan["photographs"][0]),
    _put("photographs", [["a", "b", "c"]]),
    _put("k", 0),
    _put("field", []),
    _put("command", 7),
    _put("drawing", {"nodes": [], "edges": [[0, 1]]}),
    _put("model", "image_size", [28]),
    _put("model", "labels", [["x"]]),
    _put("model", "logits", "x"),
    _put("model", 7),
    lambda plan: [plan],
]


def test_an_edited_plan_is_refused_by_its_name(whole: Path, folder: Path) -> None:
    before = (whole / "plan.json").read_text()
    for number, change in enumerate(PLANS):
        (folder / "plan.json").write_text(before)
        _edit(folder / "plan.json", change)
        for ask in (status, compiled):
            with pytest.raises(UsageError, match=r"plan\.json is damaged|another version"):
                ask(Folder(folder))
            assert [path.name for path in folder.parent.iterdir()] == ["atlas"], number
    for text in ("", "[" * 100_000, "[" + "[]," * 9_000_000 + "1]", '{"schema":2}'):
        (folder / "plan.json").write_text(text)
        with pytest.raises(UsageError, match=r"plan\.json is damaged|another version"):
            status(Folder(folder))


def _first(folder: Path, kind: str) -> Path:
    return next(path for path in sorted((folder / "store" / kind).rglob("*")) if path.is_file())


RELATIONS: list[Callable[[Any], Any]] = [
    lambda found: {},
    _put("near", []),
    _put("near", [[["x", "y"]]] * 8),
    _put("near", [[[99, 0.5]]] * 8),
    _put("inputs", [[["<img src=x>", 0, "a", "b", "c", [5]]]] * 8),
    _put("sources", ["x"]),
    lambda found: [found],
]
NUMBERS: list[Callable[[dict[str, np.ndarray]], None]] = [
    lambda a: a.update(names=np.array('["x.png"]')),
    lambda a: a.update(names=np.array("[[], [], []]")),
    lambda a: a.update(names=np.array('["p00.png", "p00.png", "p01.png"]')),
    lambda a: a.update(failed=np.array("[]")),
    lambda a: a.update({name: value[:, :3] for name, value in a.items() if value.ndim == 2}),
    lambda a: a.update({name: value[:1] for name, value in a.items() if value.ndim == 2}),
    lambda a: a.update({name: value.astype("U9") for name, value in a.items() if value.ndim == 2}),
    lambda a: a.update({name: value + 10**6 for name, value in a.items() if "argmax" in name}),
    lambda a: a.update({name: value - 10**6 for name, value in a.items() if "argmax" in name}),
    lambda a: a.clear(),
]
FIELDS: list[Callable[[dict[str, np.ndarray]], None]] = [
    lambda a: a.update(keys=a["keys"][:, :2]),
    lambda a: a.update(boxes=a["boxes"] * 0 + 2**30),
    lambda a: a.update(boxes=a["boxes"] - 10**6),
    lambda a: a.update(keys=np.array(3)),
    lambda a: a.update(keys=np.array(3), boxes=np.array(3)),
    lambda a: a.clear(),
]


@pytest.mark.parametrize(("kind", "changes"), [("numbers", NUMBERS), ("fields", FIELDS)])
def test_edited_arrays_are_refused_by_their_name(
    kind: str, changes: list[Callable[[dict[str, np.ndarray]], None]], folder: Path
) -> None:
    path = _first(folder, kind)
    before = dict(np.load(path))
    for change in changes:
        arrays = dict(before)
        change(arrays)
        path.write_bytes(npz_bytes(arrays))
        with pytest.raises(UsageError, match=f"{path.name} is damaged; remove it"):
            compiled(Folder(folder))
    np.savez_compressed(path, **before)
    with pytest.raises(UsageError, match="is damaged"):
        compiled(Folder(folder))


def test_edited_relations_and_failures_are_refused_by_their_name(folder: Path) -> None:
    path = _first(folder, "relations")
    before = path.read_text()
    for change in RELATIONS:
        _edit(path, change)
        with pytest.raises(UsageError, match=f"{path.name} is damaged; remove it"):
            compiled(Folder(folder))
        path.write_text(before)
    failed = folder / "store" / "failed" / "x.json"
    failed.parent.mkdir()
    failed.write_text('{"layer": 0, "stage": "fine", "units": 7, "name": 1, "reason": []}')
    with pytest.raises(UsageError, match=r"x\.json is damaged; remove it"):
        compiled(Folder(folder))


def test_a_certificate_of_any_other_kind_is_none(folder: Path) -> None:
    for text in ("[]", "5", "[" * 100_000, '{"graph": 7}'):
        (folder / "store" / "certificate.json").write_text(text)
        compiled(Folder(folder))
        assert '"certificate":null' in (folder / "d" / "manifest.js").read_text()


def _recorded(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with Image.open(path) as picture:
        picture.load()
    record = json.loads(picture.text["convscope-unit"])  # type: ignore[attr-defined]
    change(record)
    record["sha256"] = units._sum(record, np.asarray(picture))  # as a stranger would
    info = PngInfo()
    info.add_itxt("convscope-unit", json.dumps(record))
    picture.save(path, pnginfo=info)


def test_swapped_foreign_edited_and_cut_pictures_are_told_and_made_again_to_the_same_bytes(
    graph: Graph, photos: Path, folder: Path
) -> None:
    before, plan = fingerprint(folder), Plan.read(Folder(folder))
    recipe = plan.layers[0].recipes[FINE]
    paths = [folder / units.name_of(unit_id(recipe, unit)) for unit in range(8)]
    first, second = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)
    paths[2].write_bytes(first[: len(first) // 2])
    Image.new("RGB", (16, 16)).save(paths[3])
    paths[4].write_bytes(b"")
    _recorded(paths[5], lambda record: record.update(history="abc"))
    _recorded(paths[6], lambda record: record.update(activation_end=None))
    with pytest.raises(UsageError, match="and 6 more are damaged; repeat the command that made the atlas"):
        compiled(Folder(folder))
    made(graph, photos, folder, layers="relu1", negative=True)
    assert fingerprint(folder) == before
    assert not verified(Folder(folder))["changed"]


def test_a_list_removes_no_file_outside_and_vouches_for_no_page_that_another_wrote(folder: Path) -> None:
    precious = folder.parent / "precious.txt"
    precious.write_text("text")
    page = (folder / "index.html").read_text()
    rows = json.loads((folder / "manifest.json").read_text())["files"]
    rows += [{"name": name, "bytes": 1, "sha256": "x"} for name in ("d/../../precious.txt", f"d/{precious}")]
    (folder / "manifest.json").write_text(json.dumps({"files": rows}))
    (folder / "index.html").write_text("<script>alert(1)</script>")  # whose sum the list still states as before
    (folder / "d" / "manifest.js").write_text("alert(1)")
    compiled(Folder(folder))
    assert precious.read_text() == "text"
    assert (folder / "index.html").read_text() == page
    assert "alert" not in (folder / "d" / "manifest.js").read_text()


@pytest.mark.parametrize("name", ["d", "u", "u/L0002", "s", "p", "store/leases", "store"])
def test_nothing_is_written_through_a_folder_that_is_a_link(
    name: str, graph: Graph, photos: Path, folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if (folder / name).exists():
        shutil.rmtree(folder / name)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(UsageError, match=r"is a link, and what it leads to is not written|not all measured"):
        made(graph, photos, folder, layers="relu1", negative=True, seed=1)
    assert not list(elsewhere.rglob("*"))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/../b", "/etc/passwd", "d//x", "C:\\x", "a\\b", "a:b", "a\0b", "d/.", "d/\ud800"]
)
def test_a_name_that_leads_out_is_none(name: str, tmp_path: Path) -> None:
    assert not is_inside(name)
    for act in (Folder(tmp_path).read, Folder(tmp_path).remove, lambda one: Folder(tmp_path).write(one, b"")):
        with pytest.raises(ConvscopeError, match="is no name of a file"):
            act(name)


def test_an_album_that_somebody_sends_is_not_waited_for_and_not_written(
    graph: Graph, photos: Path, whole: Path, tmp_path: Path
) -> None:
    album = tmp_path / "album"
    album.mkdir()
    options: dict[str, Any] = {"albums": [album], "layers": "relu1"}
    os.mkfifo(album / ALBUM)
    with pytest.raises(UsageError, match="holds no album"):
        made(graph, photos, tmp_path / "atlas", **options)
    (album / ALBUM).unlink()
    for text in ("[1]\n", '{"identity": 7}\n', "[" * 100_000):
        (album / ALBUM).write_text(text)
        with pytest.raises(UsageError, match="is damaged; leave the folder out"):
            made(graph, photos, tmp_path / "atlas", **options)
    identity = Plan.read(Folder(whole)).layers[0].recipes[FINE].identity
    (album / ALBUM).write_text(json.dumps({"identity": identity}) + '\n{"unit": 0, "file": "unit-0000.png"}\n{"un')
    before = (album / ALBUM).read_bytes()
    made(graph, photos, tmp_path / "atlas", stages=("numbers",), **options)
    assert (album / ALBUM).read_bytes() == before
    assert not status(Folder(tmp_path / "atlas"))["fine"]
