"""Whether a picture shows anything: a unit's activation against what photographs reach.

A unit is **ok** when its picture activates it at least as much as the best of sixteen crops of photographs that
ship with the package does, **weak** when it activates it less or is still the photograph that it began at, and **dead**
when nothing did, photographs included: a ReLU that stays at zero, or a value that no input changes, behind a gate (a
ReLU6 that stays at 6) as well as elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .loop import Goal
from .network import Network
from .results import DEAD, OK, WEAK

_BATCH = 8
_LAST_BITS = 4e-7  # relative: a mean of equal float32 values depends on where they stand


def activations(network: Network, goal: Goal, units: Sequence[int], pixels: np.ndarray) -> np.ndarray:
    """Each picture's objective, (N,), pictures (N, C, H, W) and units in step; no gradient.

    A lone picture gets a companion, for the same bits in every batch.
    """
    alone = len(units) == 1
    rows = [*units, units[0]] if alone else list(units)
    pictures = np.concatenate([pixels, pixels]) if alone else pixels
    with torch.no_grad():
        tapped = network(torch.from_numpy(np.ascontiguousarray(pictures)).to(network.device))
        values = goal(rows)(tapped).float().cpu().numpy()
    return values[: len(units)]


def photographs(
    network: Network, goal: Goal, units: Sequence[int], pictures: np.ndarray
) -> list[tuple[float, int, float]]:
    """For each unit the highest value on photographs (N, C, H, W) in [0, 1], on which, and the lowest value."""
    if not units:
        return []
    columns: list[np.ndarray] = []
    for first in range(0, len(pictures), _BATCH):
        part = torch.from_numpy(np.ascontiguousarray(pictures[first : first + _BATCH])).to(network.device)
        with torch.no_grad():
            tapped = network(part)
            columns.append(np.stack([goal([unit])(tapped).float().cpu().numpy() for unit in units]))
    values = np.concatenate(columns, axis=1)
    return [(float(row.max()), int(row.argmax()), float(row.min())) for row in values]


def is_silent(start: float, end: float, gated: bool) -> bool:
    """Whether ascent got nothing: zero behind a gate, or the very value of the start."""
    return (gated and end <= 0.0) or _same(start, end)


def verdict(
    start: float,
    end: float,
    reference: float,
    gated: bool,
    highest: float | None,
    lowest: float | None = None,
    photograph: bool = False,
) -> tuple[str, str]:
    """Status and reason.

    Args:
        start: activation of the start.
        end: activation of the final picture.
        reference: what photographs reach.
        gated: whether a ReLU or clip makes the tap.
        highest: for a silent unit, the highest pre-activation (mean, or in the middle) that any try reached.
        lowest: the least on photographs, where it is known.
        photograph: whether the start was one.
    """
    if gated and end <= 0.0:
        if reference > 0:
            return WEAK, f"no picture kept it above zero, though a photograph reaches {reference:.3g}"
        if highest is not None:
            return DEAD, f"stays at zero: its pre-activation got no higher than {highest:.3g} from any start"
    changes = lowest is not None and not (_same(lowest, reference) and _same(reference, end))
    if is_silent(start, end, gated) and not changes:
        return DEAD, "no input changes it"
    if _same(start, end) and changes:
        return _unmoved(end, reference, photograph)
    if end >= reference:
        return OK, f"reaches {end:.3g}, photographs reach {reference:.3g}"
    return WEAK, f"reaches {end:.3g}, photographs reach {reference:.3g}: the best of them excites it more than this"


def _unmoved(end: float, reference: float, photograph: bool) -> tuple[str, str]:
    """Status and reason of a picture that never left its start, where photographs change the unit's value."""
    if photograph:  # where a sigmoid is at its end, no gradient comes back
        return WEAK, f"is still the photograph it began at, which reaches {end:.3g}: no step raises that"
    if end >= reference:
        return (
            OK,
            f"reaches {end:.3g} at its start, and no photograph more: what it sees lowers it, as its negative shows",
        )
    return WEAK, f"stays at the {end:.3g} of its start, though a photograph reaches {reference:.3g}"


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _LAST_BITS * max(abs(one), abs(other))
