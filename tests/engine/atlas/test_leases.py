"""Several runs on one folder: what one is at, no other makes; what a dead one left, another does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convscope.engine.ascent.many import Studio
from convscope.engine.atlas import leases, progress, units
from convscope.engine.atlas.files import Files, Folder, opened
from convscope.engine.atlas.leases import SPAN, Leases, together
from convscope.engine.atlas.plan import COARSE, Plan, unit_id
from convscope.engine.atlas.report import status
from convscope.errors import ConvscopeError

from .places import fingerprint, made, network, photographs

A, B = "aa" * 32, "bb" * 32


@pytest.fixture(params=["folder", "memory://"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return Folder(tmp_path)
    pytest.importorskip("fsspec")
    return opened(f"memory://{tmp_path.name}")


def test_what_one_holds_no_other_takes_until_it_is_given_back(files: Files) -> None:
    one, two = Leases(files), Leases(files)
    assert one.take([A, B]) == [A, B]
    assert two.take([A, B]) == []
    assert not two.is_free(A)
    one.release(A)
    assert two.is_free(A)
    assert two.take([A, B]) == [A]


def test_of_many_that_try_at_once_one_takes_each(tmp_path: Path) -> None:
    names = [f"{i:064x}" for i in range(40)]
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(Leases(Folder(tmp_path)).take(names))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for taken in found for name in taken) == names


def test_a_lease_that_is_not_renewed_is_taken_over_and_not_taken_back(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Leases(files), Leases(files)
    one.take([A])
    now = files.now()
    monkeypatch.setattr(files, "now", lambda: now + SPAN - 5)
    assert two.take([A]) == []
    monkeypatch.setattr(files, "now", lambda: now + SPAN + 5)
    assert two.take([A]) == [A]
    monkeypatch.undo()
    one.renew()  # as after a long sleep of its process
    assert two._held == {A}
    assert json.loads(files.read(f"store/leases/{A[:2]}/{A}.json"))["owner"] == two.owner


def test_renewing_keeps_a_lease(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    one = Leases(files)
    one.take([A])
    (file,) = (tmp_path / "store" / "leases").rglob("*.json")
    os.utime(file, (0, 0))
    one.renew()
    assert Leases(files).take([A]) == []


def test_what_a_dead_process_of_this_machine_held_is_free_at_once(files: Files) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    row = {"owner": "other", **leases.this_process(), "process": process.pid}
    for name, machine, expected in ((A, row["machine"], [A]), (B, "another", [])):
        files.write(f"store/leases/{name[:2]}/{name}.json", json.dumps({**row, "machine": machine}).encode())
        assert Leases(files).take([name]) == expected


def test_a_lease_cut_short_by_a_kill_is_over_with_its_time(tmp_path: Path) -> None:
    file = tmp_path / "store" / "leases" / A[:2] / f"{A}.json"
    file.parent.mkdir(parents=True)
    file.touch()
    assert Leases(Folder(tmp_path)).take([A]) == []
    os.utime(file, (0, 0))
    Leases(Folder(tmp_path)).tidy()
    assert not file.exists()


def test_a_lease_of_a_time_to_come_is_over_since_nobody_renews_it(tmp_path: Path) -> None:
    assert Leases(Folder(tmp_path)).take([A]) == [A]
    (file,) = (tmp_path / "store" / "leases").rglob("*.json")
    later = file.stat().st_mtime + 10 * SPAN
    os.utime(file, (later, later))
    assert Leases(Folder(tmp_path)).take([A]) == [A]


@pytest.mark.parametrize("other_ends", ["with its work done", "without it"])
def test_work_that_another_is_at_is_waited_for(files: Files, monkeypatch: pytest.MonkeyPatch, other_ends: str) -> None:
    other, done = Leases(files), list[str]()
    other.take([leases._digest("y")])
    files.write("x", b"")

    def look(looks: int) -> None:
        if other_ends == "with its work done":
            files.write("y", b"theirs")
        other.release(leases._digest("y"))

    def work(name: str) -> Callable[[], None]:
        return lambda: (done.append(name), files.write(name, b"ours"))[0]

    monkeypatch.setattr(leases, "rest", look)
    together(Leases(files), {name: work(name) for name in ("x", "y", "z")})
    assert done == (["z"] if other_ends == "with its work done" else ["z", "y"])


def test_a_run_makes_no_unit_that_another_is_at_and_takes_over_what_it_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, photos = network(), photographs(tmp_path / "photos", 3)
    made(graph, photos, tmp_path / "whole", layers="relu1")
    made(graph, photos, tmp_path / "atlas", layers="relu1", stages=("numbers",))
    files = Folder(tmp_path / "atlas")
    recipe = Plan.read(files).layers[0].recipes[COARSE]
    held = [unit_id(recipe, unit) for unit in (2, 3)]
    other = Leases(files)
    other.take(held)
    assert status(files)["at_work"] == 2
    asked: list[int] = []
    plain = Studio.make

    def counted(self: Studio, wanted: Any, progress: Any = None) -> Any:
        asked.extend(wanted)
        return plain(self, wanted, progress)

    def look(looks: int) -> None:
        """The other run keeps one unit, and is not heard of again."""
        name = units.name_of(held[0])
        (tmp_path / "atlas" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "whole" / name, tmp_path / "atlas" / name)
        for file in (tmp_path / "atlas" / "store" / "leases").rglob("*.json"):
            os.utime(file, (0, 0))

    monkeypatch.setattr(Studio, "make", counted)
    monkeypatch.setattr("convscope.engine.atlas.build.rest", look)
    made(graph, photos, tmp_path / "atlas", layers="relu1", stages=("coarse",))
    assert asked == [0, 1, 4, 5, 6, 7, 3]
    monkeypatch.undo()
    made(graph, photos, tmp_path / "atlas", layers="relu1")
    assert fingerprint(tmp_path / "atlas") == fingerprint(tmp_path / "whole")
    assert status(files)["at_work"] == 0
    assert not list((tmp_path / "atlas" / "store" / "leases").rglob("*.json"))


def test_a_run_tells_how_far_it_is_while_it_works_and_nothing_afterwards(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.001)
    told = threading.Event()
    plain = files.write

    def write(name: str, data: bytes) -> None:
        plain(name, data)
        if name == progress.SCRIPT:
            told.set()

    monkeypatch.setattr(files, "write", write)
    files.write("index.html", b"")
    with progress.Pulse(files, "me") as pulse:
        pulse.stage("fine pictures", "units", 16, 25)
        assert told.wait(30)
        (row,) = progress.running(files)
        assert (row["stage"], row["done"], row["total"], row["unit"]) == ("fine pictures", 16, 25, "units")
        text = files.read(progress.SCRIPT).decode()
        assert '"running": true' in text
        assert '"done": 16' in text
    pulse.thread.join(30)
    assert progress.running(files) == []
    assert files.read(progress.SCRIPT) == b'ATLAS_STATUS({"running": false});\n'
    assert files.names("store/runs") == set()


@pytest.mark.parametrize("row", ["[]", '{"stage": "x"}', '{"rate": "x"}', '{"process": 1e400, "machine": 1}', "{"])
def test_what_no_run_told_is_not_said(tmp_path: Path, row: str) -> None:
    (tmp_path / "store" / "runs").mkdir(parents=True)
    (tmp_path / "store" / "runs" / "x.json").write_text(row)
    assert progress.running(Folder(tmp_path)) == []


def test_a_pipe_or_an_endless_file_in_an_atlas_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plan.json")
    with pytest.raises(ConvscopeError, match=r"cannot read .*: not a regular file"):
        Plan.read(Folder(tmp_path))
    (tmp_path / "plan.json").unlink()
    (tmp_path / "plan.json").touch()
    os.truncate(tmp_path / "plan.json", 10**12)
    with pytest.raises(ConvscopeError, match="more than 1,073,741,824 bytes"):
        Plan.read(Folder(tmp_path))


def test_a_process_number_that_no_system_has_is_nobody_s() -> None:
    assert leases.is_gone({**leases.this_process(), "process": 10**40})
