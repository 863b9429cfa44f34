"""What the documents say is what the program does: every command line in them is understood, the code runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import typer

import convscope
from convscope.cli import main

from ..tiny import small_cnn

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _written() -> list[str]:
    """Every command line of the README, the documents and the help, without what a shell does with it."""
    texts = [README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))]
    found = [example for _, example in main._COMMANDS.values()]
    for text in texts:
        blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, re.M | re.S)
        found += re.findall(r"^(?:\$ )?(convscope [^\n]+)", "\n".join(blocks).replace("\\\n", " "), re.M)
        found += [line for line in re.findall(r"`(convscope [^`\n]+)`", text) if "MODEL" not in line]
    return sorted({re.split(r" (?:\|\||&&|\||#|>) ", line)[0].strip() for line in found})


def _flags(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("line", _written())
def test_every_written_command_line_is_understood(line: str) -> None:
    application: Any = typer.main.get_command(main.build())
    words = shlex.split(line)[1:]
    if words and words[0].startswith("-"):
        assert words[0] in _flags(application) | {"--help"}
        return
    command = application.commands.get(words[0])
    assert command is not None, f"there is no command {words[0]}"
    if hasattr(command, "commands") and len(words) > 1 and words[1] in command.commands:
        command = command.commands[words[1]]
    asked = {word.split("=")[0] for word in words[1:] if re.match(r"--?[a-zA-Z]", word)}
    assert asked <= _flags(command) | {"--help", "--debug"}


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
