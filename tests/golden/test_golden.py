"""No command changes its files or its result unnoticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .commands import COMMANDS, RESULTS, kept


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_writes_what_it_wrote(name: str, tmp_path: Path) -> None:
    expected = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    found = kept(name, tmp_path / "out")
    assert found["code"] == expected["code"]
    assert found["files"] == expected["files"]
    _compare(found["result"], expected["result"], name)


def _compare(found: Any, expected: Any, place: str) -> None:
    """Equal in everything but floats, which another processor may round otherwise, and ascent amplifies."""
    if isinstance(expected, float) and isinstance(found, int | float):
        assert found == pytest.approx(expected, rel=2e-3, abs=2e-4), place
    elif isinstance(expected, dict) and isinstance(found, dict):
        assert list(found) == list(expected), place
        for key, value in expected.items():
            _compare(found[key], value, f"{place}.{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        assert len(found) == len(expected), place
        for i, value in enumerate(expected):
            _compare(found[i], value, f"{place}[{i}]")
    else:
        assert found == expected, place
