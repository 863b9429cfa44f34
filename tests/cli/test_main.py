"""The contract of the command line: help, exit codes, one line per error, nothing heavy before it is needed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from convscope import errors
from convscope.cli import main

from ..tiny import small_cnn

CAT = str(Path(__file__).resolve().parents[2] / "engine/pictures/photos/cat.jpg")
COMMANDS = sorted(main._COMMANDS)
HEAVY = ("numpy", "torch", "onnx", "onnxruntime", "onnx2torch", "PIL", "scipy", "jinja2", "keras", "h5py", "pyarrow")


def _cli(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "convscope.cli.main", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd or "/",
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=120,
    )


def _raising(monkeypatch: pytest.MonkeyPatch, exc: BaseException) -> None:
    def examine() -> None:
        raise exc

    monkeypatch.setattr("convscope.cli.doctor.examine", examine)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"Example:  convscope {command}" in " ".join(said.split("\n"))


def test_help_shows_brackets_as_they_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from convscope.cli import doctor

    monkeypatch.setattr(doctor.command, "__doc__", "Show unit:LAYER[@ROW,COLUMN] and 'convscope[red]'.")
    assert main.run(["doctor", "--help"]) == 0
    assert "Show unit:LAYER[@ROW,COLUMN] and 'convscope[red]'." in capsys.readouterr().out


def test_help_lists_every_command_with_its_first_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    listed = re.findall(r"^│ (\w+) +(\S.*?) *│$", capsys.readouterr().out, re.M)
    assert {name for name, _ in listed} >= set(COMMANDS)
    assert all(text for _, text in listed)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["filters", "--help"], ["nonsense"]])
def test_nothing_heavy_is_imported_before_it_is_needed(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom convscope.cli.main import run\n"
        f"run({arguments!r})\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stdout + done.stderr


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    import convscope

    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"convscope {convscope.__version__}\n"


@pytest.mark.parametrize(
    ("exc", "code", "line"),
    [
        (errors.ConvscopeError("it failed"), 1, "error: it failed"),
        (errors.UsageError("layer 'x' is not in m"), 2, "error: layer 'x' is not in m"),
        (errors.RefusedInput("m.onnx is empty"), 3, "error: m.onnx is empty"),
        (errors.UnsafeFile("it runs code"), 3, "error: it runs code"),
        (errors.ParityError("c1 differs"), 3, "error: c1 differs"),
        (errors.PartlyDone("the disk is full"), 4, "error: the disk is full"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "error: out of memory; try a smaller --size, --steps or --batch"),
        (SystemExit(3), 3, ""),
    ],
)
def test_every_ending_has_its_code_and_one_line(
    exc: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, exc)
    assert main.run(["doctor"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.rstrip("\n") == line


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interrupts are delivered by signals")
def test_an_interrupt_that_comes_within_a_destructor_ends_the_command_all_the_same() -> None:
    script = """
import os, signal, time
from convscope.cli import main
class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
def wait(*_, **options):
    Late()
    time.sleep(60)
main._application = lambda: wait
main.main()
"""
    ended = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


def test_a_bug_is_one_line_that_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, ZeroDivisionError("division\nby zero" + "x" * 1000))
    assert main.run(["doctor"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: convscope has a bug: ZeroDivisionError: division by zero")
    assert err.count("\n") == 1
    assert len(err) < 400
    assert "Traceback" not in err


def test_what_the_system_refuses_is_no_bug_and_one_line_that_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, OSError(36, "File name too long", "x\n" * 5000))
    assert main.run(["doctor"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: x")
    assert err.endswith(": File name too long\n")
    assert err.count("\n") == 1
    assert len(err) < 400


def test_a_path_of_thousands_of_characters_is_shown_by_its_ends(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["info", "a" * 5000], ["info", "a/" * 2500], ["weights", "lenet", "--layer", "a" * 5000]):
        assert main.run(words) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "a…a" in said or "/…a" in said or "a…/" in said
        assert len(said) < 400


@pytest.mark.parametrize("arguments", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_traceback(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, errors.UsageError("no"))
    assert main.run(arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: no\n")


def test_an_error_with_a_hostile_name_cannot_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, errors.RefusedInput("layer '\x1b]0;pwned\x07\x9b31m\u202e\r\nerror: fake\u2066' is bad"))
    main.run(["doctor"])
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()
    assert "fake" in err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nonsense"], "error: No such command 'nonsense'; see: convscope --help"),
        (["doctor", "--jsn"], "error: No such option: --jsn .*; see: convscope doctor --help"),
        (["info"], "error: Missing argument .*; see: convscope info --help"),
        (["info", "/nowhere/model.onnx"], "error: .*/nowhere/model.onnx.*"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(line + "\n", err)


def test_names_that_the_terminal_cannot_write_are_escaped(tmp_path: Path) -> None:
    onnx.save(small_cnn(), tmp_path / "größe.onnx")
    done = _cli("info", "größe.onnx", "--no-check", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "gr\\xf6\\xdfe.onnx" in done.stdout


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "import sys; from convscope.cli.main import run; sys.exit(run(['doctor', '--json']))"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interruption_ends_with_130_and_one_line(sent: signal.Signals) -> None:
    code = (  # what a shell starts in the background ignores the interruption, and so do its children
        "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import convscope.cli.doctor as doctor\nfrom convscope.cli.main import main\n"
        "def wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "doctor.examine = wait\nsys.argv[1:] = ['doctor']\nmain()"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        begun = time.monotonic()
        process.send_signal(sent)
        assert process.wait(timeout=30) == 130
        assert time.monotonic() - begun < 10
        assert process.stderr.read() == "interrupted\n"


def test_want_of_torch_s_memory_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import torch  # noqa: F401  (who runs out of torch's memory has it)

    _raising(monkeypatch, RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried …"))
    assert main.run(["doctor"]) == 1
    assert capsys.readouterr().err == "error: out of memory; try a smaller --size, --steps or --batch\n"


@pytest.mark.parametrize("option", ["--size", "--steps"])
def test_more_than_any_memory_holds_is_wrong_use(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["filters", "m.onnx"], ["dream", "m.onnx", "cat.png"], ["invert", "m.onnx", "cat.png"]):
        assert main.run([*command, option, "99999999999999999999"]) == 2
        assert option in capsys.readouterr().err


def test_doctor_s_json_is_one_object_on_stdout_and_plain_text_has_no_escapes() -> None:
    done = _cli("doctor", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert next(iter(report)) == "schema_version"
    assert {p["name"] for p in report["packages"]} >= {"torch", "onnx", "keras", "zarr"}
    assert report["torch"]["usable"] and report["onnxruntime"]["usable"]
    plain = _cli("doctor", NO_COLOR="1").stdout
    assert "\x1b" not in plain and "\r" not in plain
    assert "torch" in plain


def test_doctor_says_what_is_missing_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from convscope.engine import installation

    installed = installation._version
    missing = ("scipy", "zarr")
    monkeypatch.setattr(installation, "_version", lambda name: None if name in missing else installed(name))
    report = installation.examine()
    assert not report["ok"]
    assert any(p.startswith("scipy is not installed") and "pip install scipy" in p for p in report["problems"])
    assert not any("zarr" in p for p in report["problems"])  # optional: listed, no problem
    assert main.run(["doctor"]) == 1
    assert "pip install 'convscope[index]'" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", [[], *([name] for name in COMMANDS)])
def test_help_is_whole_at_sixty_and_at_eighty_columns(
    name: list[str], columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main.run([*name, "--help"]) == 0
    out = capsys.readouterr().out
    cut = [line for line in out.splitlines() if "…" in line and "--install-completi" not in line]  # typer's own
    assert not cut and max(len(line) for line in out.splitlines()) <= columns


def test_a_paragraph_of_help_breaks_at_the_terminal_s_width_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main.run(["top", "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    first = next(i for i, line in enumerate(lines) if line.startswith("Writes a strip"))
    words = lines[first + 1].split()
    assert len(lines[first]) + 1 + len(words[0]) > 78  # the next word had no room


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("filters lenet --layer conv2 --steps abc", "--steps 'abc': Input should be a valid integer"),
        ("filters lenet --layer conv2 --seed=1.5", "--seed '1.5': Input should be a valid integer"),
        ("top lenet . --layer conv1 -k 0", "-k '0': Input should be greater than or equal to 1"),
        ("compare lenet lenet --max-rel nan", "--max-rel 'nan': Input should be greater than or equal to 0"),
        ("maximize lenet --class top:0", "--class 'top:0': the number after top: must be at least 1"),
        ("maximize lenet --class top:x", "--class 'top:x' is not understood"),
        ("explain lenet ''", "'' names no picture; name a file or a folder"),
        ("dream lenet '' --layer conv2", "'' names no picture; name a file or a folder"),
        ("filters lenet --layer conv2 --photos ''", "'' names no picture; name a file or a folder"),
        ("filters lenet --layer conv2 --start nowhere.png", "image 'nowhere.png' does not exist"),
        ("predict lenet '*.jpg'", "image '*.jpg' does not exist"),
        ("explain lenet . --method ''", "no method named"),
        ("explain lenet cat.png --box 1,1,5,5", "--box with four sides is where the object is, for --metrics"),
        ("compare lenet lenet --images ''", "'' names no picture; name a file or a folder"),
        ("info lenet --layout ''", "layout '' is unknown; use NCHW or NHWC"),
        ("atlas lenet --size 0", "size 0 is not positive"),
        ("atlas lenet --steps 0", "steps 0 is less than 1"),
        ("atlas lenet -o s3://", "'s3://' names no place"),
        ("filters lenet --layer conv2 -o s3://b/x", "--out 's3://b/x' is an address, and only convscope atlas writes"),
        ("atlas verify", "takes the folder of one atlas"),
        ("filters lenet --layer conv2 -o ''", "--out '' names no place; leave it out, or write . for this folder"),
        ("weights lenet -o file", "cannot write file: file is a file; choose another folder"),
        ("models sample -o file", "cannot write file: file is a file; choose another folder"),
        ("export lenet -o .", "cannot write '.': it is a folder; name a file"),
        ("export lenet --single-file .", "cannot write '.': it is a folder; name a file"),
        ("verify lenet --size 30", "--size 30: the model's input is fixed at 28x28; leave it out"),
        ("info lenet --mean 1,2,3", "mean has 3 values, but the model's input has 1 channels; give 1"),
        ("filters lenet --layer conv2 --units 0 --diversity 3 --negative", "--negative and --diversity exclude each"),
        ("accent lenet cat.png --class 3 --layer conv2", "--class and --layer exclude each other"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_with_its_flag_and_value_and_nothing_is_written(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file", "cat.png"):
        (tmp_path / name).write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert main.run(shlex.split(line)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ") and message in said
    assert sorted(tmp_path.rglob("*")) == before


def test_the_one_picture_is_read_before_the_model_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was opened")

    monkeypatch.setattr("convscope.models.load.load", never)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    for command in ("explain", "predict", "activations", "attack"):
        assert main.run([command, "lenet", str(broken)]) == 3
        assert "is not a PNG" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["filters", "--layer", "conv1", "--units", "3-1"],
        ["filters", "--layer", "conv1", "--preset", "lucit"],
        ["filters", "--layer", "conv1", "--set", "bur=1"],
        ["filters", "--layer", "conv1", "--steps", "0"],
        ["filters", "--layer", "conv1", "--batch", "many"],
        ["filters", "--layer", "conv1", "--precision", "half"],
        ["filters", "--layer", "conv1", "--noise", "pink"],
        ["filters", "--layer", "conv1", "--noise-mean", "3"],
        ["filters", "--layer", "conv1", "--size", "70000"],
        ["stats", CAT, "--device", "tpu"],
        ["maximize", "--class", "0", "--preset", "lucit"],
        ["weights", "--units", "x"],
        ["compare", "lenet", "--preset", "lucit"],
        ["export", "--method", "eigencam"],
        ["verify", "--size", "0"],
        ["activations", CAT, "--units", "top:0"],
        ["dream", CAT, "--layer", "conv1", "--preset", "lucit"],
        ["top", CAT, "--layer", "conv1", "--units", "1,,2"],
        ["predict", CAT, "--decoder", "yolo9000"],
        ["explain", CAT, "--decoder", "yolo9000"],
        ["explain", CAT, "--method", "gradcum"],
        ["attack", CAT, "--method", "pigs"],
        ["atlas", CAT, "--preset", "lucit"],
    ],
    ids=" ".join,
)
def test_what_no_model_can_have_is_refused_before_one_is_opened(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was opened")

    monkeypatch.setattr("convscope.models.load.load", never)
    assert main.run([arguments[0], "lenet", *arguments[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["activations", CAT],
        ["filters"],
        ["weights"],
        ["top", CAT],
        ["stats", CAT],
        ["dream", CAT],
        ["invert", CAT],
        ["accent", CAT, "--units", "1"],
        ["explain", CAT],
        ["export"],
        ["compare", "lenet"],
        ["atlas"],
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_a_layer_that_the_model_lacks_is_refused_before_the_model_is_checked(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the model was checked")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("convscope.adapters.load._self_check", never)
    words = [arguments[0], "lenet", *arguments[1:], "--layer", "conv9", "--trust"]  # trusted: in this process
    assert main.run(words) == 2
    assert "layer 'conv9' is not in lenet" in capsys.readouterr().err
