"""docs/results.md against real results: every field is on the page, and every field on the page is in a result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convscope.cli.main import run

from ..golden.commands import COMMANDS, RESULTS, ROOT

PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
# A section describes these golden results, whose test proves that they are what the commands give.
SECTIONS = {
    "filters, maximize, dream and invert": ("filters", "filters-top", "maximize", "dream", "invert"),
    "explain": ("explain", "explain-metrics"),
    "predict": ("predict",),
    "attack": ("attack", "attack-fgsm"),
    "activations": ("activations",),
    "weights": ("weights",),
    "top": ("top",),
    "stats": ("stats",),
    "export": ("export",),
    "compare": ("compare",),
    "verify": ("verify",),
    "info": ("info",),
}
HEAD = {"schema_version", "model.name", "model.source", "model.checked", "preprocessing", "failed"}


def _documented(section: str) -> dict[str, bool]:
    """Field -> whether it is in every result."""
    text = re.split(rf"^## {re.escape(section)}$", PAGE, flags=re.M)[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")][2:]
    return {name: not star for cell in cells for star, name in re.findall(r"(\*?)`([^`]+)`", cell)}


def _fields(value: Any, stops: set[str], path: str = "") -> Iterator[str]:
    """Paths of a result down to plain values, or to what the page describes as a whole."""
    if path in stops:
        yield path
    elif isinstance(value, dict) and (value or not path):
        for key, inner in value.items():
            yield from _fields(inner, stops, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value or [None]:
            yield from _fields(inner, stops, f"{path}[]")
    else:
        yield path


def test_every_golden_command_has_its_section() -> None:
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(COMMANDS)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_every_field_of_a_result_and_no_other(section: str) -> None:
    documented = _documented(section)
    stops = set(documented) | HEAD
    for name in SECTIONS[section]:
        result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["result"]
        found = {f for f in _fields(result, stops) if not f.startswith("failed")}
        # of an empty list nothing is known but that it is one
        empty = {f.removesuffix("[]") for f in found if f.endswith("[]") and f not in documented}
        missing = {f for f in found - HEAD - set(documented) if f.removesuffix("[]") not in empty}
        assert not missing, f"{name}: not on the page"
        for field, always in documented.items():
            known = field in found or any(field.startswith(f"{e}[]") for e in empty)
            assert known or not always or field == "sha256", f"{name} has no {field}"  # hashes are not kept


def test_every_result_begins_with_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = str(ROOT / "engine/pictures/photos/cat.jpg")
    assert run(["predict", "lenet", photo, "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    documented = _documented("Every result")
    others = {f for f in _fields(result, set(documented)) if not f.startswith(("images", "outputs"))}
    assert others <= set(documented) | {"failed[]"}
    assert list(result)[:5] == ["schema_version", "model", "preprocessing", "command", "versions"]
    assert result["command"] == f"convscope predict lenet {photo}"
    assert {"convscope", "python", "torch", "numpy"} <= set(result["versions"])
