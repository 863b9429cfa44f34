"""``convscope atlas`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convscope.cli import main

from ..engine.atlas.places import photographs

QUICK = ["--preset", "lucid", "--steps", "2", "--size", "16", "--preprocessing", "unit", "--workers", "1", "-q"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an atlas of one layer, made with certificate and page."""
    import onnx

    from ..tiny import small_cnn

    folder = tmp_path_factory.mktemp("cli")
    onnx.save(small_cnn(), folder / "small.onnx")
    photographs(folder / "photos", 3)
    line = ["atlas", str(folder / "small.onnx"), str(folder / "photos"), "-l", "relu1", "-o", str(folder / "atlas")]
    assert main.run([*line, *QUICK]) == 0
    return folder / "atlas"


def test_it_prints_the_page_and_keeps_the_proof(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    folder = made.parent
    line = ["atlas", str(folder / "small.onnx"), str(folder / "photos"), "-l", "relu1", "-o", str(made)]
    assert main.run([*line, *QUICK, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["page"], said["units"], said["missing"], said["failed"]) == (f"{made}/index.html", 8, 0, [])
    certificate = json.loads((made / "store" / "certificate.json").read_text())
    assert certificate["ok"] is True
    text = (made / "d" / "manifest.js").read_text()
    assert '"tensors_compared"' in text
    assert "--preprocessing unit" in text
    plan = json.loads((made / "plan.json").read_text())
    assert " -o " not in plan["command"]
    assert plan["opening"] == f"{folder / 'small.onnx'} --preprocessing unit"  # for the command that makes a unit again


def test_status_counts_verify_checks_compile_writes_and_open_prints(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main.run(["atlas", "status", str(made), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["units"], said["fine"], said["photographs"]) == (8, 8, {"all": 3, "measured": 3})
    assert main.run(["atlas", "verify", str(made)]) == 0
    assert capsys.readouterr().out.startswith("ok: ")
    css = made / "app.css"
    style = css.read_bytes()
    css.write_bytes(b"else")
    assert main.run(["atlas", "verify", str(made)]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "changed  app.css"
    css.unlink()
    assert main.run(["atlas", "compile", str(made)]) == 0
    assert css.read_bytes() == style
    assert main.run(["atlas", "open", str(made)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (made / "index.html").resolve().as_uri()


def test_time_that_is_over_is_partly_done_and_leaves_a_page(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    line = ["atlas", str(made.parent / "small.onnx"), str(made.parent / "photos"), "-l", "relu1", *QUICK]
    assert main.run([*line, "-o", str(made.parent / "late"), "--budget", "0s", "--json"]) == 4
    said = capsys.readouterr()
    assert (json.loads(said.out)["missing"], Path(json.loads(said.out)["page"]).exists()) == (8, True)
    assert said.err == "error: the time is over: 8 of 8 units are not made; the same command goes on\n"
    assert main.run([*line, "-o", str(made), "--budget", "0s"]) == 0  # nothing is left to do
    assert not capsys.readouterr().err


def test_dry_run_says_how_much_there_is_and_writes_nothing(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    out = made.parent / "never"
    line = ["atlas", str(made.parent / "small.onnx"), str(made.parent / "photos"), "-o", str(out), *QUICK]
    assert main.run([*line, "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["units"], said["photographs"]) == (25, 3)
    assert said["seconds"]["fine"] > 0
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status"], "convscope atlas status takes the folder of one atlas"),
        (["status", "nowhere"], "nowhere holds no atlas; make one"),
        (["verify", "nowhere"], "nowhere holds no"),
        (["lenet", "--budget", "soon"], "--budget 'soon' is not understood"),
        (["lenet", "--workers", "0"], "--workers '0' is not understood"),
        (["lenet", "--shard", "3/2"], "write I/N with I from 1 to N"),
        (["lenet", "--executor", "magic"], "executor 'magic' is unknown; choose local or ray"),
        (["lenet", "--preset", "nice"], "preset 'nice' is unknown"),
        (["lenet", "--layer", "nothing*"], "'nothing*' is not in lenet"),
    ],
)
def test_wrong_use_is_said_in_a_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["atlas", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
