"""The Python face: every verb of the command line with its words and defaults, typed as it is, found when misspelt."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import convscope
from convscope.cli import main
from tests import every_verb

ROOT = Path(__file__).resolve().parents[1]
SET_UP = {"models", "doctor"}  # about the installation, not about a model
SAME = {"model": "graph", "out": "folder", "json": "as_json"}  # a command's word -> Python's
# What only a terminal needs, or what Python says with a value of another kind.
TERMINAL = {"as_json", "quiet", "loading", "options", "debug", "help_options", "context"}
OTHERWISE: dict[str, set[str]] = {
    "explain": {"metrics", "box", "of", "region", "mask", "like", "to", "against",
        "settings", "colormap", "alpha", "style", "top", "folder"},
    "filters": {"start"},
    "compare": {"preprocessing_b", "arch_b"},
    "export": {"folder", "web", "single_file", "of", "region", "mask", "like", "to", "against"},
    "atlas": {
        "what", "places", "layer", "budget", "coarse", "workers", "shard", "album", "dry_run", "executor", "address",
        "browser", "folder", "device", "preset",
    },
}  # fmt: skip
VERBS = [name for name in main._COMMANDS if name not in SET_UP]


def _command(name: str) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(importlib.import_module(f"convscope.cli.{name}").command).parameters
    from convscope.cli.loading import LOADING

    left = {SAME.get(n, n): p for n, p in parameters.items() if n not in LOADING}
    return {n: p for n, p in left.items() if n not in TERMINAL and n not in OTHERWISE.get(name, ())}


@pytest.mark.parametrize("name", VERBS)
def test_a_command_is_a_function_with_the_same_words_and_defaults(name: str) -> None:
    function = getattr(convscope, name)
    own = inspect.signature(function).parameters
    for word, parameter in _command(name).items():
        assert word in own, f"convscope.{name} has no {word}, which convscope {name} has"
        default = own[word].default
        if parameter.default is not inspect.Parameter.empty and default is not inspect.Parameter.empty:
            assert default == parameter.default, f"{name}: {word} is {default!r} in Python, {parameter.default!r} here"


def test_the_typed_names_are_the_names_that_are_there() -> None:
    text = (ROOT / "__init__.py").read_text(encoding="utf-8")
    block = text[text.index("if TYPE_CHECKING:") : text.index("__version__")]
    typed = {line.split(" as ")[-1] for line in block.splitlines() if " as " in line}
    assert typed == set(convscope.__all__) - {"__version__"}
    for name in convscope.__all__:
        assert getattr(convscope, name) is not None
    assert convscope.__dir__()[1] == "load"  # functions first, as help() shows them
    with pytest.raises(AttributeError, match="no attribute 'fliters'"):
        convscope.fliters  # noqa: B018


def test_the_script_that_is_run_and_typed_from_outside_uses_every_verb() -> None:
    script = (ROOT / "tests" / "every_verb.py").read_text(encoding="utf-8")
    assert not [name for name in (*VERBS, "load", "ascend") if f"convscope.{name}(" not in script]


def test_every_verb_runs_from_python(tmp_path: Path) -> None:
    every_verb.main(tmp_path)


def test_the_package_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "convscope", "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("convscope ")


@pytest.mark.slow
def test_types_are_seen_from_outside_in_an_installed_wheel(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-q", "-w", str(wheels)]
    from tests.cli.test_packaging import copied

    subprocess.run([*build, str(copied(tmp_path / "source"))], check=True, capture_output=True, timeout=180)
    site = tmp_path / "site"
    (wheel,) = wheels.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=180)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "every_verb.py").write_text((ROOT / "tests" / "every_verb.py").read_text())
    (outside / "wrong.py").write_text("import convscope\nconvscope.fliters\nreveal_type(convscope.filters)\n")
    environment: dict[str, Any] = {**os.environ, "MYPYPATH": str(site)}
    environment.pop("PYTHONPATH", None)

    def mypy(file: str) -> str:
        flags = ("--strict", "--ignore-missing-imports", "--follow-imports", "silent")
        command = [sys.executable, "-m", "mypy", *flags, file]
        return subprocess.run(command, cwd=outside, env=environment, capture_output=True, text=True, timeout=300).stdout

    assert "Success" in mypy("every_verb.py")
    wrong = mypy("wrong.py")
    assert 'has no attribute "fliters"' in wrong
    assert "preset: str" in wrong and "AscentResult" in wrong
