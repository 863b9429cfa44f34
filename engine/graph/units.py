"""Which units of a layer are asked for, as people write it: ``all``, ``0-63,70``, ``top:36``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..whole import each, whole

if TYPE_CHECKING:
    from .graph import Graph
    from .layers import Layer

_LISTED = 8  # layers that a sentence names


@dataclass(frozen=True)
class Units:
    """Which units of a layer are asked for.

    Attributes:
        indices: the candidates, each once: of a text ascending, of a list in its order.
        top: keep only so many, those with the highest activation; None keeps all.
    """

    indices: tuple[int, ...]
    top: int | None = None


def parse_units(text: str | int | Sequence[int], channels: int) -> Units:
    """The units that ``--units`` names.

    Args:
        text: ``all``, ``top:36``, or numbers and ranges with both ends included: ``0-63,70``; from Python a number or
            several too.
        channels: how many units the layer has.

    Raises:
        UsageError: not of that form, or out of range.
    """
    if not isinstance(text, str):
        return _numbered(text, channels)
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


def check_units(text: str | int | Sequence[int], name: str = "units") -> None:
    """Raises UsageError where no layer can have these units: before a model is at hand."""
    if isinstance(text, str):
        _asked(text, name)
    else:
        _numbered(text, None)


def is_strongest(units: Any) -> bool:
    """Whether units are asked for by ``top:N``."""
    return isinstance(units, str) and units.strip().startswith("top:")


def _numbered(units: int | Sequence[int], channels: int | None) -> Units:
    found = list(dict.fromkeys(whole(unit, "unit", 0) for unit in each(units)))
    if not found:
        raise UsageError("no unit is asked for")
    if channels is not None and max(found) >= channels:
        raise UsageError(f"unit {max(found)} is out of range, the layer has {channels} units (0-{channels - 1})")
    return Units(tuple(found))


def _asked(text: str, name: str = "units") -> tuple[list[tuple[int, int]] | None, int | None]:
    """(first and last unit of every range, None for all; how many of the strongest, None for no choice)."""
    text = text.strip()
    if text == "all":
        return None, None
    if text.startswith("top:"):
        top = _count(text[4:], text, name)
        if top < 1:
            raise UsageError(f"{name}='{text}': the number after top: must be at least 1")
        return None, top
    ranges = []
    for part in text.split(","):
        low_text, dash, high_text = part.strip().partition("-")
        low = _count(low_text, text, name)
        high = _count(high_text, text, name) if dash else low
        if low > high:
            raise UsageError(f"{name}='{text}': the range {low}-{high} runs backwards; write {high}-{low}")
        ranges.append((low, high))
    return ranges, None


def _count(text: str, whole: str, name: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise UsageError(f"{name}='{whole}' is not understood; write all, top:36, or like 0-63,70")
    return int(text)


def layers_with_units(graph: Graph, patterns: str | Sequence[str]) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """The layers of names and globs, in table order, and those of a glob that are left out, having no units.

    Args:
        graph: whose layers.
        patterns: with commas, or a list, as for `Graph.match`.

    Raises:
        UsageError: an unknown layer; one named exactly has no units, or none at all has.
    """
    parts = [p.strip() for p in patterns.split(",")] if isinstance(patterns, str) else list(patterns)
    found: dict[int, Layer] = {}
    for pattern in filter(None, parts):
        matched = graph.match([pattern])
        is_glob = any(sign in pattern for sign in "*?[") and pattern not in {la.name for la in matched}
        if not is_glob and (bare := [la for la in matched if la.channels is None]):
            raise UsageError(_without_units(graph, f"layer '{bare[0].name}' has no units"))
        found.update((la.index, la) for la in matched)
    chosen = tuple(found[i] for i in sorted(found)) if found else graph.match(patterns)
    having = tuple(la for la in chosen if la.channels is not None)
    if not having:
        raise UsageError(_without_units(graph, f"no layer of '{', '.join(parts)}' has units"))
    return having, tuple(la for la in chosen if la.channels is None)


def left_out(layers: Sequence[Layer]) -> str:
    """Which layers of a glob are left out for having no units, in words; "" where none is."""
    if not layers:
        return ""
    listed = ", ".join(la.name for la in layers[:_LISTED]) + (", ..." if len(layers) > _LISTED else "")
    return f"left out, having no units: {listed}"


def _without_units(graph: Graph, what: str) -> str:
    return f"{what}; choose others: convscope info {graph.source.path or 'MODEL'}"
