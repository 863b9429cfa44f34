"""What the documents say is what the program does: every command line in them is understood, the code runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest
import typer

import convscope
from convscope.cli import main
from convscope.models import catalog

from ..tiny import small_cnn

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SUFFIXES = {".onnx", ".keras", ".h5", ".hdf5", ".pt", ".pt2", ".pth", ".safetensors"}


def _written() -> list[str]:
    """Every command line of the README, the documents and the help, without what a shell does with it."""
    documents = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "llms.txt"]
    texts = [path.read_text(encoding="utf-8") for path in sorted(documents) if path.name != "CHANGELOG.md"]
    found = [example for _, example in main._COMMANDS.values()]
    for text in texts:
        blocks = re.findall(r"^ *```(?:bash|sh|console)\n(.*?)^ *```", text, re.M | re.S)
        found += re.findall(r"^ *(?:\$ )?(convscope [^\n]+)", "\n".join(blocks).replace("\\\n", " "), re.M)
        found += re.findall(r"`(convscope [^`\n]+)`", text)
    return sorted({re.split(r" +(?:\|\||&&|\||#|>) ", line)[0].strip() for line in found})


def _command(line: str) -> tuple[Any, list[str]]:
    """The command that a line names, and the words behind its name."""
    command: Any = _application()
    words = shlex.split(line)[1:]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@cache
def _application() -> Any:
    return typer.main.get_command(main.build())


def _values(line: str) -> dict[str, Any]:
    """The values of a whole line, as its command would get them.

    None of a part of one: in a sentence a command stands by its name or an option alone.
    """
    command, words = _command(line)
    needed = sum(parameter.required and not parameter.opts[0].startswith("-") for parameter in command.params)
    if "..." in line or len([word for word in words if not word.startswith("-")]) < needed or not needed:
        return {}
    values: dict[str, Any] = command.make_context(command.name, words).params
    return values


@pytest.mark.parametrize("line", _written())
def test_every_written_command_line_is_understood(line: str) -> None:
    """Its flags and values; and the model is a name of the catalog, or a file, told by its suffix."""
    command, words = _command(line)
    flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert asked <= flags | {"--help", "--debug"}
    values = _values(line)
    verbs = {"status", "verify", "compile", "open"}  # of atlas
    for name in (values[key] for key in ("model", "a", "b", "what") if values.get(key)):
        assert name in {*catalog.names(), *verbs} or name.isupper() or Path(name).suffix in SUFFIXES, name


def test_the_layers_of_written_command_lines_are_there() -> None:
    lines = [line for line in _written() if " lenet " in line and "--layer" in line]
    assert lines
    lenet = convscope.load("lenet", check=False)
    for line in lines:
        assert lenet.match(_values(line)["layer"]), line


def test_every_command_is_in_the_readme() -> None:
    assert not [name for name in main._COMMANDS if f"convscope {name} " not in README.replace("`", " ")]


def test_the_readme_s_python_runs(tmp_path: Path) -> None:
    onnx.save(small_cnn(), tmp_path / "model.onnx")
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    assert blocks
    done = subprocess.run(
        [sys.executable, "-P", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx"]


def test_every_folder_of_the_map_is_there() -> None:
    named = re.findall(r"^\| `(\w+)/` \|", README, re.M)
    assert set(named) >= {"adapters", "engine", "cli", "models", "tests"}
    assert not [name for name in named if not (ROOT / name).is_dir()]


def test_the_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(convscope.__version__)} - \d{{4}}-\d\d-\d\d$", text, re.M)
