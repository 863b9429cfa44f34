"""The photographs that ship with convscope: what is shown and measured where the user gives none."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "photos"


def photographs() -> list[Path]:
    """Their files, by name."""
    return sorted(FOLDER.glob("*.jpg"))
