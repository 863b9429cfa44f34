"""The photographs that ship with convscope: what is shown and measured where the user gives none."""

from __future__ import annotations

from pathlib import Path

from ...errors import UsageError

FOLDER = Path(__file__).parent / "photos"


def photographs() -> list[Path]:
    """Their files, by name."""
    return sorted(FOLDER.glob("*.jpg"))


def sample_photographs(name: str | None = None) -> list[Path]:
    """The shipped photograph of that name, or all of them.

    Raises:
        UsageError: there is none of that name.
    """
    found = photographs()
    if name is None:
        return list(found)
    for path in found:
        if name in (path.name, path.stem):
            return [path]
    raise UsageError(f"no photograph '{name}' ships; choose one of {', '.join(p.name for p in found)}")
