"""Processes that make blocks: what happens when they die, and what they answer. Small scripts stand for them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from convscope.engine.atlas import workers
from convscope.engine.atlas.build import Manner
from convscope.engine.atlas.files import Folder
from convscope.engine.atlas.plan import COARSE, Plan, Wishes
from convscope.engine.atlas.rendering import Block, failures
from convscope.engine.graph.graph import Graph
from convscope.errors import PartlyDone

from .places import made, network, photographs

WORKER = """
import json, os, pathlib, signal, sys
source, folder = sys.stdin.buffer, pathlib.Path(sys.argv[1])
source.read(int.from_bytes(source.read(8), "little"))
for line in source:
    units = json.loads(line)["units"]
    with open(folder / "asked", "a") as file:
        file.write(f"{units[0]}\\n")
    asked = (folder / "asked").read_text().split().count(str(units[0]))
    if {dies}:
        os.kill(os.getpid(), signal.SIGKILL)
    print(json.dumps({answer}), flush=True)
"""
BLOCKS = [Block(2, COARSE, (unit, unit + 1)) for unit in (0, 2, 4, 6)]


@pytest.fixture(scope="module")
def graph() -> Graph:
    return network()


@pytest.fixture
def plan(graph: Graph, tmp_path: Path) -> Plan:
    made(graph, photographs(tmp_path / "photos", 1), tmp_path, layers="relu1", stages=("coarse",), manner=LATE)
    return Plan.read(Folder(tmp_path))


LATE = Manner(budget=0.0, shard=(1, 1))  # a plan and nothing else


def _run(
    graph: Graph, plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, dies: str = "False", answer: str = "{}"
) -> tuple[dict[str, str], int]:
    """What failed, and how many units came to an end."""
    script = WORKER.replace("{dies}", dies).replace("{answer}", answer)
    monkeypatch.setattr(workers, "_command", lambda device: [sys.executable, "-c", script, str(folder)])
    counted: list[int] = []
    work = workers.Work(
        Folder(folder), graph, plan, Wishes("lucid"), "cpu", 2, BLOCKS, lambda: False, counted.append, "me"
    )
    return workers.run_in_processes(work), sum(counted)


def test_the_block_of_a_killed_process_is_given_to_another(
    graph: Graph, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(graph, plan, tmp_path, monkeypatch, "units[0] == 2 and asked <= 2") == ({}, 8)
    assert sorted((tmp_path / "asked").read_text().split()) == ["0", "2", "2", "2", "4", "6"]


def test_a_block_over_which_three_processes_die_is_left_out_and_named(
    graph: Graph, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, ended = _run(graph, plan, tmp_path, monkeypatch, "units[0] == 4")
    assert (len(failed), ended) == (1, 8)
    assert "2 units of 'relu1' (coarse): 3 processes ended while making them" in failed[BLOCKS[2].name]
    assert [row["units"] for row in failures(Folder(tmp_path))] == [[4, 5]]
    assert _run(graph, plan, tmp_path, monkeypatch)[0] == {}
    assert failures(Folder(tmp_path)) == []  # it was made after all


def test_units_that_others_are_at_are_not_counted(
    graph: Graph, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(graph, plan, tmp_path, monkeypatch, answer="{'others': 1}") == ({}, 4)


@pytest.mark.parametrize(
    ("answer", "error"), [("{'full': 'the disk is full'}", PartlyDone), ("{'bug': 'KeyError: 1'}", RuntimeError)]
)
def test_a_full_disk_and_a_bug_end_the_run_and_say_what_it_was(
    graph: Graph, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, error: Any
) -> None:
    with pytest.raises(error, match=r"the disk is full|KeyError: 1"):
        _run(graph, plan, tmp_path, monkeypatch, answer=answer)
