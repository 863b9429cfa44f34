"""The API reference is made of docstrings, so every public name has one that says what a caller needs."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

import convscope

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = {name: getattr(convscope, name) for name in convscope.__all__ if name != "__version__"}
FUNCTIONS = [name for name, one in PUBLIC.items() if inspect.isfunction(one)]
CLASSES = [name for name, one in PUBLIC.items() if inspect.isclass(one)]


def _entries(text: str, heading: str) -> list[str]:
    """The names that a section of a docstring describes."""
    _, found, rest = text.partition(f"\n{heading}:\n")
    lines = rest.split("\n\n")[0].splitlines() if found else []
    return [line.strip().split(":")[0] for line in lines if line.startswith("    ") and line[4] != " "]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_gives_and_raises(name: str) -> None:
    function, text = PUBLIC[name], inspect.getdoc(PUBLIC[name]) or ""
    takes = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    described = [one.strip("*") for entry in _entries(text, "Args") for one in entry.split(", ")]
    assert [one for one in described if one in takes] == takes, f"convscope.{name}"
    assert "\nReturns:\n" in text and "\nRaises:\n" in text, f"convscope.{name}"


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_says_what_it_is_and_holds(name: str) -> None:
    found: Any = PUBLIC[name]
    text = inspect.getdoc(found) or ""
    assert text
    if dataclasses.is_dataclass(found):
        described = {one for entry in _entries(text, "Attributes") for one in entry.split(", ")}
        own = {f.name for f in dataclasses.fields(found) if not f.name.startswith("_")}
        assert own <= described, f"{name} does not describe {own - described}"
    for member, value in vars(found).items():
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            assert inspect.getdoc(value), f"{name}.{member}"


def test_the_reference_is_built_by_make_and_kept_out_of_the_repository() -> None:
    assert "-m pdoc" in (ROOT / "Makefile").read_text() and "docs/reference/" in (ROOT / ".gitignore").read_text()
