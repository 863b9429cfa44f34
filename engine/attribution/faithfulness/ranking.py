"""Which method to believe: every faithfulness measure on one image, and the order that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..batch import Batch, passes
from ..explain import Attribution, combined, maps_by
from ..registry import METHODS, Method
from . import measures as faithfulness
from .sanity import INSENSITIVE, Sanity, cascade

# Fewer draws than the measures' own defaults, so that a ranking takes minutes and not hours on a CPU.
_PERCENTILES = (10, 30, 50, 70, 90)
_DRAWS = 4
_STAGES = 4

# Measure -> whether high is good. Those that every method has decide the order.
MEASURES: dict[str, bool] = {"deletion": False, "insertion": True, "average_drop": False, "road": True}

# Field of `Ranked` -> heading of its column; + where high is good.
HEADINGS = {
    "deletion": "deletion -", "insertion": "insertion +", "average_drop": "avg drop -", "increase": "increase +",
    "road": "ROAD +", "sensitivity": "sensitivity -", "similarity": "randomized -", "pointing": "in box +",
}  # fmt: skip
LEGEND = "+ high is good, - low is good; rank by the mean place in deletion, insertion, average drop and ROAD"


@dataclass(frozen=True)
class Ranked:
    """One method's faithfulness on one image.

    Attributes:
        method: its name.
        rank: 1 is the best; ties share a rank. The mean of the ranks by `MEASURES` decides.
        deletion, insertion: areas under the class probability.
        average_drop, increase: with the image times its heatmap.
        road: (LeRF - MoRF) / 2 of the class probability.
        sensitivity: largest relative change of the heatmap under small noise, or None where not asked.
        similarity: mean rank correlation with the maps while the weights are randomized from the top, or None.
        insensitive: flagged by the randomization test, or None.
        pointing: 1 where the maximum lies in a given box, else 0; None without boxes.
    """

    method: str
    rank: int
    deletion: float
    insertion: float
    average_drop: float
    increase: float
    road: float
    sensitivity: float | None = None
    similarity: float | None = None
    insensitive: bool | None = None
    pointing: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)


def rank(
    batch: Batch,
    index: int,
    attributions: Sequence[Attribution],
    *,
    boxes: Sequence[tuple[int, int, int, int]] = (),
    robust: bool = True,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Ranked]:
    """The methods' attributions of one image and one target, the most faithful first.

    Args:
        batch: the images.
        index: which of them.
        attributions: one per method, all of the same target.
        boxes: (top, left, bottom, right) of the object in pixels of the model's input.
        robust: also measure sensitivity to noise and run the randomization test, for all methods but those of
            many passes.
        options: of the methods, as the attributions were made.
        progress: told each method's name when it is done.
    """
    x = np.ascontiguousarray(batch.x[index])
    alone = Batch(batch.executors, x[None])
    cheap = [a for a in attributions if METHODS[a.method].passes == "few"] if robust else []
    checks = _sanity(alone, cheap, options or {})
    rows = []
    for attribution in attributions:
        row = _measures(alone, x, attribution)
        if attribution in cheap:
            row["sensitivity"] = _sensitivity(alone, x, attribution, options or {})
        if attribution.method in checks:
            row["similarity"] = checks[attribution.method].mean
            row["insensitive"] = checks[attribution.method].insensitive
        if boxes:
            row["pointing"] = float(faithfulness.pointing_game(attribution.heatmap, boxes))
        rows.append(row)
        if progress:
            progress(attribution.method)
    order = _ranks(rows)
    ranked = [Ranked(a.method, place, **row) for a, place, row in zip(attributions, order, rows, strict=True)]
    return sorted(ranked, key=lambda r: (r.rank, r.method))


def average(images: Sequence[Sequence[Ranked]]) -> list[Ranked]:
    """The methods' mean measures over several images, ranked anew; a method counts where it was measured."""
    grouped: dict[str, list[Ranked]] = {}
    for rows in images:
        for row in rows:
            grouped.setdefault(row.method, []).append(row)
    means = [_mean(rows) for rows in grouped.values()]
    ranked = [Ranked(name, place, **row) for name, place, row in zip(grouped, _ranks(means), means, strict=True)]
    return sorted(ranked, key=lambda r: (r.rank, r.method))


def _mean(rows: Sequence[Ranked]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (f.name for f in fields(Ranked) if f.name not in ("method", "rank")):
        known = [float(getattr(row, name)) for row in rows if getattr(row, name) is not None]
        found[name] = float(np.mean(known)) if known else None
    if found["insensitive"] is not None:
        found["insensitive"] = found["similarity"] > INSENSITIVE
    return found


def _measures(batch: Batch, x: np.ndarray, attribution: Attribution) -> dict[str, Any]:
    given = (batch.executors, x, attribution.heatmap, attribution.target)
    drop, increase = faithfulness.average_drop_increase(*given)
    return {
        "deletion": faithfulness.deletion(*given),
        "insertion": faithfulness.insertion(*given),
        "average_drop": drop,
        "increase": increase,
        "road": faithfulness.road(*given, percentiles=_PERCENTILES),
    }


def _sensitivity(batch: Batch, x: np.ndarray, attribution: Attribution, options: Mapping[str, Any]) -> float:
    """Of the raw values, with a radius of 2 % of the input's range (Yeh et al.: 0.02 in [0, 1])."""
    method = METHODS[attribution.method]

    def attribute(rows: np.ndarray) -> np.ndarray:
        size = batch.executors.rows_together([attribution.target])
        return np.concatenate([
            _values(method, Batch(batch.executors, part), attribution, options) for _, part in passes(rows, size)
        ])[: len(rows)]  # fmt: skip

    low, high = batch.graph.preprocessing.bounds(x.shape[0])
    return faithfulness.max_sensitivity(attribute, x, radius=0.02 * float((high - low).mean()), samples=_DRAWS)


def _values(method: Method, batch: Batch, attribution: Attribution, options: Mapping[str, Any]) -> np.ndarray:
    """Raw values of the same question on other pictures."""
    layers = [batch.graph.layer(name) for name in attribution.layers]
    targets = [attribution.target] * len(batch.x)
    return combined(maps_by(method, batch, targets, layers, options), batch.size)[1]


def _sanity(batch: Batch, attributions: Sequence[Attribution], options: Mapping[str, Any]) -> Mapping[str, Sanity]:
    if not attributions:
        return {}
    names = next((a.layers for a in attributions if a.layers), ())
    layers = [batch.graph.layer(name) for name in names]
    methods = [METHODS[a.method] for a in attributions]
    found = cascade(batch, methods, [attributions[0].target], layers, stages=_STAGES, options=options)
    return {s.method: s for s in found}


def _ranks(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Places by the mean rank over the measures, 1 the best."""
    from scipy.stats import rankdata  # takes longer to import than most methods run

    each = [rankdata([-row[name] if high else row[name] for row in rows]) for name, high in MEASURES.items()]
    return [int(place) for place in rankdata(np.mean(each, axis=0), method="min")]
