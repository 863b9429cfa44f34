"""The check at import is made once for a file, and never instead of the right one: `adapters.proofs`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

import convscope
from convscope.adapters import load as loading
from convscope.adapters import proofs, sizes
from convscope.cli.main import run
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.layers import Proof
from convscope.engine.render import artifacts
from convscope.errors import ConvscopeError, ParityError, PartlyDone, RefusedInput

from .. import tiny

EARLIER = "2026-01-02"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of proofs, empty at first."""
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "proofs"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(tiny.small_cnn(), tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for every check that is made in this process."""
    made: list[str] = []
    check = loading.check_parity

    def counted(graph: Graph, **options: Any) -> Any:
        made.append(graph.sha256)
        return check(graph, **options)

    monkeypatch.setattr(loading, "check_parity", counted)
    return made


def here(path: Path, **options: Any) -> Graph:
    """The graph of a file, imported in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "stands", lambda _arch: False)
        return convscope.load(path, **options)


def dated(folder: Path) -> Path:
    """The one entry, changed to say that its proofs are of another day."""
    (entry,) = folder.iterdir()
    content = json.loads(entry.read_text())
    for proof in content["proofs"].values():
        proof["date"] = EARLIER
    entry.write_text(json.dumps(content))
    return entry


def test_a_file_is_checked_once_and_the_date_is_that_of_the_check(model: Path, cache: Path, checks: list[str]) -> None:
    first = here(model)
    assert first.proof == Proof(proofs.today())
    dated(cache)
    second = here(model)
    assert second.proof == Proof(EARLIER, is_earlier=True) and len(checks) == 1
    assert second.sha256 == first.sha256 and second.source == first.source and second.layers == first.layers


def test_the_same_behind_the_wall(model: Path, cache: Path) -> None:
    assert convscope.load(model).proof == Proof(proofs.today())
    dated(cache)
    assert convscope.load(model).proof == Proof(EARLIER, is_earlier=True)
    assert convscope.load(model, check=True).proof == Proof(proofs.today())
    assert convscope.load(model, check=False).proof is None


def test_a_copy_of_the_file_is_known_and_a_live_network_is_not_remembered(
    model: Path, cache: Path, checks: list[str], tmp_path: Path
) -> None:
    here(model)
    (tmp_path / "copy.onnx").write_bytes(model.read_bytes())
    assert here(tmp_path / "copy.onnx").proof == Proof(proofs.today(), is_earlier=True)
    for _ in range(2):
        assert convscope.load(tiny.small_cnn()).proof == Proof(proofs.today())
    assert len(checks) == 3 and len(list(cache.iterdir())) == 1


def test_the_check_is_made_when_it_is_asked_for_and_never_when_it_is_not(
    model: Path, cache: Path, checks: list[str]
) -> None:
    assert here(model, check=False).proof is None and not checks and not cache.exists()
    here(model)
    dated(cache)
    assert here(model, check=True).proof == Proof(proofs.today()) and len(checks) == 2
    assert here(model).proof == Proof(proofs.today(), is_earlier=True) and len(checks) == 2


@pytest.mark.parametrize("options", [{"preprocessing": "torch"}, {"size": (32, 24)}], ids=str)
def test_another_input_is_checked_for_itself(tmp_path: Path, checks: list[str], options: dict[str, Any]) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    onnx.save(tiny.model(nodes, {"w": np.ones((2, 3, 3, 3), np.float32)}, ("N", 3, None, None)), tmp_path / "a.onnx")
    for _ in range(2):
        here(tmp_path / "a.onnx")
        here(tmp_path / "a.onnx", **options)
    assert len(checks) == 2


def test_weights_beside_the_file_are_part_of_what_was_proven(tmp_path: Path, checks: list[str]) -> None:
    path, beside = tmp_path / "model.onnx", tmp_path / "weights.bin"
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    made = tiny.model(nodes, {"w": np.ones((64, 3, 3, 3), np.float32)})
    onnx.save(made, path, save_as_external_data=True, location=beside.name, size_threshold=0)
    here(path)
    beside.write_bytes(np.full((64, 3, 3, 3), 2, np.float32).tobytes())
    changed = here(path)
    assert changed.proof == Proof(proofs.today()) and len(checks) == 2


@pytest.mark.parametrize("what", ["torch", "onnxruntime", "code", "processor"])
def test_another_version_checks_again(
    model: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    here(model)
    made_by = {**proofs._made_by(), what: "another"}
    monkeypatch.setattr(proofs, "_made_by", lambda: made_by)
    assert here(model).proof == Proof(proofs.today()) and len(checks) == 2


def test_code_that_changes_on_the_disk_is_another_version(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    module = tmp_path / "adapters" / "a.py"
    module.write_text("x = 1\n")
    before = list(proofs._code(tmp_path))
    module.write_text("x = 2\n")
    os.utime(module, ns=(1, 1))
    assert list(proofs._code(tmp_path)) != before and len(before) == 1


def test_a_check_that_fails_is_not_remembered(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: Graph, **options: Any) -> None:
        raise ParityError("they part")

    monkeypatch.setattr(loading, "check_parity", wrong)
    for _ in range(2):
        with pytest.raises(ParityError):
            here(model)
    assert not cache.exists()


def test_what_the_check_notes_of_forward_operators_is_said_from_memory_too(tmp_path: Path, checks: list[str]) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("FastGelu", ["c"], ["y"], domain="com.microsoft"),
    ]
    made = tiny.model(nodes, {"w": np.ones((2, 3, 1, 1), np.float32)})
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(made, tmp_path / "forward.onnx")
    first, second = (here(tmp_path / "forward.onnx") for _ in range(2))
    assert len(checks) == 1 and first.source.notes == second.source.notes
    assert any("no gradient passes it" in note for note in second.source.notes)


def test_a_size_that_was_searched_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    onnx.save(tiny.model(nodes, {"w": np.ones((2, 3, 3, 3), np.float32)}, ("N", 3, None, None)), tmp_path / "a.onnx")
    tried: list[tuple[int, int]] = []
    run_one = sizes._run

    def counted(graph: Graph, size: tuple[int, int]) -> None:
        tried.append(size)
        run_one(graph, size)

    monkeypatch.setattr(sizes, "_run", counted)
    here(tmp_path / "a.onnx", size=(224, 224))  # nobody has searched: that it is taken does not say that it runs
    first = here(tmp_path / "a.onnx")
    assert tried == [(224, 224)]
    second = here(tmp_path / "a.onnx")
    assert tried == [(224, 224)] and second.source.notes == first.source.notes and second.proof is not None
    assert here(tmp_path / "a.onnx", check=True).image_size == (224, 224) and len(tried) == 2
    claim = Proof("2026-01-01", ran="f" * 64)  # of a graph that nobody tried
    settled = proofs.Proofs.of(tmp_path / "a.onnx").settle(replace(first, proof=claim))
    assert settled.proof is not None and settled.proof.ran == proofs.run_key(first, (224, 224))


# --- what is wrong with the folder costs the proof and nothing else ----------------------------

_DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "of another file": lambda entry: {**entry, "file": "0" * 64},
    "of another schema": lambda entry: {**entry, "schema": 0},
    "with more in it": lambda entry: {**entry, "more": 1},
    "without versions": lambda entry: {k: v for k, v in entry.items() if k != "made_by"},
    "a list": lambda entry: [entry],
    "proofs in a list": lambda entry: {**entry, "proofs": list(entry["proofs"])},
    "no date": lambda entry: _each(entry, {"notes": [], "ran": ""}),
    "a date that is none": lambda entry: _each(entry, {"date": "yesterday\x1b[2J", "notes": [], "ran": ""}),
    "a date that is a number": lambda entry: _each(entry, {"date": 1, "notes": [], "ran": ""}),
    "notes that are none": lambda entry: _each(entry, {"date": EARLIER, "notes": [1], "ran": ""}),
    "long notes": lambda entry: _each(entry, {"date": EARLIER, "notes": ["x" * 1001], "ran": ""}),
    "many notes": lambda entry: _each(entry, {"date": EARLIER, "notes": ["x"] * 5, "ran": ""}),
    "a sum that is none": lambda entry: _each(entry, {"date": EARLIER, "notes": [], "ran": "../x"}),
    "many proofs": lambda entry: {
        **entry,
        "proofs": {f"{i:064x}": {"date": EARLIER, "notes": [], "ran": ""} for i in range(99)},
    },
}


def _each(entry: dict[str, Any], proof: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "proofs": dict.fromkeys(entry["proofs"], proof)}


@pytest.mark.parametrize("damage", _DAMAGE.values(), ids=_DAMAGE)
def test_a_damaged_entry_is_ignored_and_made_again(
    model: Path, cache: Path, checks: list[str], damage: Callable[[dict[str, Any]], Any]
) -> None:
    here(model)
    (entry,) = cache.iterdir()
    right = json.loads(entry.read_text())
    entry.write_text(json.dumps(damage(right)))
    assert here(model).proof == Proof(proofs.today()) and len(checks) == 2
    assert json.loads(entry.read_text()) == right


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.sampled_from([b"[" * 20000, b"{" * 1000, b"\xff\xfe", b"1" * 70000]))
def test_no_bytes_of_an_entry_raise(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "entry.json").write_bytes(data)
    assert proofs._read(tmp_path / "entry.json", {"schema": 1, "file": "0", "made_by": {}}) == {}


@pytest.mark.parametrize("what", ["pipe", "folder", "link", "huge", "of another user"])
def test_an_entry_that_is_no_small_file_of_this_user_is_not_read(
    model: Path, cache: Path, checks: list[str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(model)
    entry = dated(cache)
    kept = entry.read_bytes()
    if what == "huge":
        entry.write_bytes(kept + b" " * 2**16)
    elif what == "of another user":
        monkeypatch.setattr(proofs, "_is_mine", lambda status: os.path.isdir(entry.parent) and status.st_size > 4096)
        monkeypatch.setattr(proofs, "_is_ours", lambda folder: True)
    else:
        entry.unlink()
        if what == "pipe":
            os.mkfifo(entry)
        elif what == "folder":
            entry.mkdir()
        else:
            (cache.parent / "elsewhere.json").write_bytes(kept)
            entry.symlink_to(cache.parent / "elsewhere.json")
    assert here(model).proof == Proof(proofs.today()) and len(checks) == 2
    if what == "link":
        assert (cache.parent / "elsewhere.json").read_bytes() == kept and not entry.is_symlink()


@pytest.mark.parametrize("what", ["a file", "below a file", "a link", "relative", "no home", "no room", "read only"])
def test_a_cache_folder_that_cannot_be_used_stops_nothing(
    model: Path, tmp_path: Path, checks: list[str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "other"
    if what == "a file":
        folder.write_text("")
    elif what == "below a file":
        (tmp_path / "file").write_text("")
        folder = tmp_path / "file" / "cache"
    elif what == "a link":
        folder.mkdir()
        (tmp_path / "target").mkdir()
        (folder / "proofs").symlink_to(tmp_path / "target")
    elif what == "relative":
        folder = Path("other")
    elif what == "no home":
        monkeypatch.setattr(proofs, "cache_folder", lambda: Path("~nobody-of-this-name/cache"))
    else:
        error: ConvscopeError = PartlyDone("full") if what == "no room" else ConvscopeError("read only")

        def fail(path: Path, text: str) -> Path:
            raise error

        monkeypatch.setattr(proofs, "write_text", fail)
    monkeypatch.setenv("CONVSCOPE_CACHE", str(folder))
    before = {p.name for p in tmp_path.iterdir()}
    assert here(model).proof == Proof(proofs.today()) and len(checks) == 1
    assert {p.name for p in tmp_path.iterdir()} == before
    assert not (tmp_path / "target").exists() or not list((tmp_path / "target").iterdir())


def test_a_model_that_is_no_regular_file_is_not_summed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    assert proofs.Proofs.of(tmp_path / "pipe.onnx") == proofs.Proofs()
    assert proofs.Proofs.of(tmp_path / "missing.onnx") == proofs.Proofs()


def test_entries_stay_few_and_small(model: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "_MOST_ENTRIES", 3)
    cache.mkdir(parents=True)
    (cache / "mine.txt").write_text("not an entry")
    (cache / artifacts.temporary_name().replace(str(os.getpid()), "999999999")).write_text(
        "of a process that was killed"
    )
    for i in range(6):
        (cache / f"{i:064x}.json").write_text("{}")
        os.utime(cache / f"{i:064x}.json", ns=(i, i))
    here(model)
    left = sorted(p.name for p in cache.iterdir())
    assert "mine.txt" in left and f"{5:064x}.json" in left and f"{3:064x}.json" not in left and len(left) == 4
    found = proofs.Proofs.of(model)
    graph = here(model)
    for i in range(40):
        found = proofs.Proofs.of(model)
        found.settle(replace(graph, sha256=f"{i:064x}", proof=Proof(EARLIER)))
    assert len(proofs.Proofs.of(model).known) == 16
    assert found.entry is not None and found.entry.stat().st_size < 2**16


# --- what a worker says is not taken on trust ----------------------------


def test_a_graph_that_claims_a_proof_which_is_not_kept_is_refused(model: Path, cache: Path) -> None:
    graph = here(model)
    known = proofs.Proofs.of(model)
    assert known.settle(replace(graph, proof=Proof(proofs.today(), is_earlier=True))).proof is not None
    for claim in (None, Proof(EARLIER, True), Proof(proofs.today(), True, ("more",))):
        with pytest.raises(RefusedInput, match="gave no proof"):
            known.settle(replace(graph, proof=claim))
    with pytest.raises(RefusedInput, match="gave no proof"):  # the proof of another graph
        known.settle(replace(graph, sha256="0" * 64, proof=Proof(proofs.today(), is_earlier=True)))


def test_the_date_of_a_proof_that_is_kept_is_this_sides_own(model: Path, cache: Path) -> None:
    graph = here(model, check=False)
    settled = proofs.Proofs.of(model).settle(replace(graph, proof=Proof("9999-99-99")))
    assert settled.proof == Proof(proofs.today())
    for notes in (("x" * 1001,), ("x",) * 5):
        cache.joinpath(next(cache.iterdir()).name).unlink()
        proofs.Proofs.of(model).settle(replace(graph, proof=Proof("", notes=notes)))
        assert list(cache.iterdir()) == []
        proofs.Proofs.of(model).settle(replace(graph, proof=Proof("")))


# --- what is said ----------------------------


def test_info_and_every_result_say_when_the_check_was_made(
    model: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*options: str) -> tuple[str, Any]:
        assert run(["info", str(model), *options]) == 0
        words = capsys.readouterr().out
        assert run(["info", str(model), "--json", *options]) == 0
        return words, json.loads(capsys.readouterr().out)["proof"]

    assert "found by this run" in told("--check")[0]
    dated(cache)
    words, found = told()
    assert f"found by an earlier run on this file, {EARLIER}; --check makes it afresh" in words
    assert found == {"date": EARLIER, "is_earlier": True}
    assert told("--no-check")[1] is None
    assert run(["weights", str(model), "--layer", "conv1", "--json", "-q", "-o", str(model.parent)]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["checked"] == EARLIER
