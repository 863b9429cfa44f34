"""The page of ``stats``: a table of layers, and of the chosen one every unit with its chart and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..activations.statistics import FEWEST_ALIKE, UnitStatistics
from .template import render_page

_PAIRS = 20  # that a layer's entry lists


def statistics_page(
    title: str,
    states: Sequence[UnitStatistics],
    entries: Sequence[Mapping[str, Any]],
    *,
    alike: float,
    command: str = "",
) -> str:
    """The HTML text.

    Args:
        title: heads the page.
        states: per layer.
        entries: what `UnitStatistics.to_json` gives of each.
        alike: correlation from which two units say the same.
        command: the command line that made it.
    """
    images = states[0].images
    return render_page(
        "stats.html",
        title=title,
        facts={"images": images, "layers": len(states)},
        command=command,
        data={
            "images": images,
            "fewest": FEWEST_ALIKE,
            "alike": alike,
            "listed": _PAIRS,
            "layers": [_layer(state, entry, alike) for state, entry in zip(states, entries, strict=True)],
        },
    )


def _layer(state: UnitStatistics, entry: Mapping[str, Any], alike: float) -> dict[str, Any]:
    """A layer by columns, numbers of four digits, histograms of the bins that any of its units uses."""
    used = np.flatnonzero(state.histogram.any(axis=0))
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
    columns = {"mean": "mean", "std": "std", "max": "max", "peak": "mean_max", "zeros": "sparsity"}
    units = entry["units"]
    return {
        "layer": entry["layer"],
        "units": len(units),
        **{name: [_short(u[key]) for u in units] for name, key in columns.items()},
        "active": [_short(u["active_share"]) for u in units],
        "nan": {u["unit"]: u["nan_images"] for u in units if u["nan_images"]},
        "counts": state.histogram[:, first : last + 1],
        "edges": entry["histogram_edges"][first : last + 2],
        "dead": entry["dead"],
        "always": entry["always_on"],
        "alike": entry["correlated"] if state.images >= FEWEST_ALIKE else [],
        "facts": {
            "mean": _short(np.nanmean([u["mean"] for u in units])) if units else None,
            "max": _short(np.nanmax([u["max"] for u in units])) if units else None,
            "zeros": _short(np.nanmean([u["sparsity"] for u in units])) if units else None,
            "alike": sum(abs(pair["correlation"]) >= alike for pair in entry["correlated"]),
        },
    }


def _short(value: Any) -> float | None:
    """Four significant digits; None for what is no number."""
    number = float(value)
    return float(f"{number:.4g}") if math.isfinite(number) else None
