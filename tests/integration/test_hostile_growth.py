"""What would grow without bound is refused in one line, in seconds and without much memory; its harmless twin loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from convscope.adapters.load import load
from convscope.errors import RefusedInput

from .hostile_growth_cases import PAIRS


@pytest.mark.parametrize("name", PAIRS)
def test_growth_is_refused_in_one_line_and_its_twin_loads(name: str, tmp_path: Path) -> None:
    hostile, harmless = PAIRS[name]
    (tmp_path / "hostile").mkdir()
    (tmp_path / "harmless").mkdir()
    path = hostile(tmp_path / "hostile")
    with pytest.raises(RefusedInput) as caught:
        load(path)
    line = str(caught.value)
    assert str(path) in line
    assert line.isprintable()
    assert len(line) < 300 + len(str(path))
    assert "has a bug" not in line
    assert load(harmless(tmp_path / "harmless"), check=False).inputs
