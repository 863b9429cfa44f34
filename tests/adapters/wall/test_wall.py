"""The wall: the same graph and the same words as without it, and one line for whatever dies behind it."""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convscope.adapters.load import load, load_here
from convscope.adapters.wall import parent
from convscope.errors import RefusedInput, UnsafeFile, UsageError
from convscope.models import catalog
from tests import tiny
from tests.integration.hostile_growth import blocks

LENET = Path(catalog.__file__).parent / "lenet"
HEAD = "import os, signal, sys, time, torch\nfrom torch import nn\ndef build():\n    "
NETWORK = "return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)).eval()\n"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The weights of the network that `arch` builds."""
    import torch

    found: dict[str, object] = {}
    exec(HEAD + NETWORK, found)
    torch.save(found["build"]().state_dict(), tmp_path / "weights.pt")  # type: ignore[operator]
    return tmp_path / "weights.pt"


def arch(folder: Path, first: str) -> str:
    """Code of the user's own that does something before it builds the network."""
    (folder / "net.py").write_text(f"{HEAD}{first}\n    {NETWORK}")
    return f"{folder / 'net.py'}:build"


def test_the_parent_imports_neither_torch_nor_a_runtime() -> None:
    """A process with their threads cannot be forked, and would pay for them twice."""
    script = f"import sys, convscope.adapters.load as a; a.load({str(LENET / 'lenet.onnx')!r}); " + (
        "sys.exit(bool({'torch', 'onnxruntime', 'keras'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", script]).returncode == 0


@pytest.mark.parametrize("name", ["lenet.onnx", "lenet.keras"])
def test_the_graph_is_the_one_that_this_process_would_make(name: str) -> None:
    behind, here = load(LENET / name, check=False), load_here(LENET / name, check=False)
    for field in dataclasses.fields(behind):
        if field.name != "twin_factory":
            assert getattr(behind, field.name) == getattr(here, field.name), field.name
    twin = behind.twin([behind.layers[-1].tensor])
    assert twin is not None


def test_the_layer_table_comes_back_whole(tmp_path: Path) -> None:
    """Behind a change of sizes a layer's receptive field is a table of positions."""
    made = blocks(2)
    model = tiny.small_cnn()
    made(model)
    (tmp_path / "blocks.onnx").write_bytes(model.SerializeToString())
    behind, here = (f(tmp_path / "blocks.onnx", check=False) for f in (load, load_here))
    tables = 0
    for one, other in zip(behind.layers, here.layers, strict=True):
        fields = one.receptive_field, other.receptive_field
        if fields[1] is not None and fields[1].table is not None:
            assert fields[0] is not None and fields[0].table is not None
            tables += 1
            assert fields[0].table == fields[1].table
    assert tables


def test_an_interrupt_in_the_moment_of_the_fork_waits_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the hooks of a fork it would be lost, and the locks that they hold would never open again."""
    plain, reached = os.fork, []

    def fork() -> int:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # the tests' own process has other threads
        child = plain()
        if child:
            reached.append(child)
        return child

    monkeypatch.setattr(parent, "_THREADED", set())
    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(KeyboardInterrupt):
        load(LENET / "lenet.onnx", check=False)
    assert len(reached) == 1
    assert os.waitpid(reached[0], 0)[0] == reached[0]  # it ends, since nobody waits for it


def test_an_error_is_the_one_that_this_process_would_raise(tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(tiny.small_cnn().SerializeToString()[:-500])
    for path, options in ((tmp_path / "cut.onnx", {}), (LENET / "lenet.onnx", {"layout": "XYZ"})):
        errors = []
        for function in (load, load_here):
            with pytest.raises((RefusedInput, UsageError)) as caught:
                function(path, **options)
            errors.append((type(caught.value), str(caught.value)))
        assert errors[0] == errors[1]


def test_a_file_that_is_missing_is_said_before_a_process_is_started(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("first", "limits", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", {}, r"ended the process \(SIGSEGV, a memory fault\)"),
        ("os.kill(os.getpid(), signal.SIGFPE)", {}, r"ended the process \(SIGFPE, an impossible division\)"),
        ("os._exit(7)", {}, r"ended the process \(the exit code 7\)"),
        ("time.sleep(600)", {"max_seconds": 0.2}, r"takes longer than 2 s; raise it with max_seconds="),
        ("any(iter(int, 1))", {"max_seconds": 3}, r"takes more than 3 s of processor time"),
        ("held = bytearray(2 * 10**9)", {"max_memory": 1}, r"more than 1 GiB of memory; raise it with max_mem"),
        ("os.fork() or time.sleep(600); os.kill(os.getpid(), 9)", {}, r"SIGKILL"),
    ],
)  # fmt: skip
def test_whatever_dies_behind_it_is_a_refusal_in_one_line_that_names_file_and_limit(
    first: str, limits: dict[str, float], words: str, weights: Path
) -> None:
    with pytest.raises(UnsafeFile, match=words) as caught:
        load(weights, arch=arch(weights.parent, first), size=(16, 16), check=False, **limits)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{weights}: ")
    assert str(caught.value).isprintable()


def test_more_memory_is_granted_to_those_who_ask(weights: Path) -> None:
    greedy = arch(weights.parent, "held = bytearray(2 * 10**9)")
    assert load(weights, arch=greedy, size=(16, 16), check=False, max_memory=4).layers


def test_what_the_users_own_code_prints_is_shown_and_nothing_is_left(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(weights.parent / "tmp"))
    (weights.parent / "tmp").mkdir()
    said = arch(weights.parent, "print('building'); open(os.environ['TMPDIR'] + '/left', 'w').close()")
    load(weights, arch=said, size=(16, 16), check=False)
    assert "building" in capsys.readouterr().err
    assert not list((weights.parent / "tmp").iterdir())


def test_several_threads_may_load_at_once() -> None:
    with ThreadPoolExecutor(3) as pool:
        names = ["lenet.onnx", "lenet.pt2", "lenet.onnx"]
        graphs = list(pool.map(lambda name: load(LENET / name, check=False), names))
    assert graphs[0].sha256 == graphs[2].sha256 != graphs[1].sha256


def test_nothing_lives_on_when_the_parent_is_killed(weights: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    slow = arch(weights.parent, f"open({str(pipe)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(600)")
    script = f"import convscope; convscope.load({str(weights)!r}, arch={slow!r}, size=(16, 16))"
    (tmp_path / "scratch").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    alive, watched = os.pipe()  # every process of the import holds an end of it until it ends
    parent = subprocess.Popen([sys.executable, "-P", "-c", script], env=environment, pass_fds=[watched])
    os.close(watched)
    worker = int(pipe.read_text())
    ended = os.pidfd_open(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert select.select([ended], [], [], 30)[0], "the worker lives on"
    assert select.select([alive], [], [], 30)[0], "the supervisor lives on"
    assert not list((tmp_path / "scratch").glob("convscope-*")), "a folder of temporary files was left"
    os.close(ended)
    os.close(alive)
