"""Which units of a layer are asked for, as people write it: ``all``, ``0-63,70``, ``top:36``."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import UsageError


@dataclass(frozen=True)
class Units:
    """Which units of a layer are asked for.

    Attributes:
        indices: the candidates, ascending, each once.
        top: keep only so many, those with the highest activation; None keeps all.
    """

    indices: tuple[int, ...]
    top: int | None = None


def parse_units(text: str, channels: int) -> Units:
    """The units that ``--units`` names.

    Args:
        text: ``all``, ``top:36``, or numbers and ranges with both ends included: ``0-63,70``.
        channels: how many units the layer has.

    Raises:
        UsageError: not of that form, or out of range.
    """
    ranges, top = _asked(text)
    if ranges is None:
        return Units(tuple(range(channels)), None if top is None else min(top, channels))
    found: set[int] = set()
    for low, high in ranges:
        if high >= channels:
            raise UsageError(
                f"units='{text.strip()}': unit {high} is out of range, the layer has {channels} units "
                f"(0-{channels - 1})"
            )
        found.update(range(low, high + 1))
    return Units(tuple(sorted(found)))


def check_units(text: str) -> None:
    """Raises UsageError where no layer can have these units: before a model is at hand."""
    _asked(text)


def _asked(text: str) -> tuple[list[tuple[int, int]] | None, int | None]:
    """(first and last unit of every range, None for all; how many of the strongest, None for no choice)."""
    text = text.strip()
    if text == "all":
        return None, None
    if text.startswith("top:"):
        top = _count(text[4:], text)
        if top < 1:
            raise UsageError(f"units='{text}': the number after top: must be at least 1")
        return None, top
    ranges = []
    for part in text.split(","):
        low_text, dash, high_text = part.strip().partition("-")
        low = _count(low_text, text)
        high = _count(high_text, text) if dash else low
        if low > high:
            raise UsageError(f"units='{text}': the range {low}-{high} runs backwards; write {high}-{low}")
        ranges.append((low, high))
    return ranges, None


def _count(text: str, whole: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise UsageError(f"units='{whole}' is not understood; write all, top:36, or like 0-63,70")
    return int(text)
