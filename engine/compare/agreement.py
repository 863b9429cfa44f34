"""Correspondence of units and similarity of layers, in one pass over the pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from .align import Pair
from .difference import Bench, Values, cells, common_grid
from .matching import Matching, match, weight_likeness
from .similarity import MinibatchCka, Moments

_SIDE = 16  # of the grid of positions that a feature map contributes
_LARGEST = 2048  # units of a layer; beyond, three square matrices of doubles would not stay small
_MINIBATCH = 8
_UNLIKE = "the two models have other numbers of places"
_ENDLESS = "values are infinite or NaN"
FEWEST = 4  # pictures that the unbiased estimator of CKA needs


@dataclass(frozen=True, eq=False)
class LayerAgreement:
    """Of one pair: the matching of its units and how alike the two layers are."""

    matching: Matching
    by_weights: Matching | None
    cka: float
    svcca: float | None = None
    pwcca: float | None = None
    procrustes: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The numbers, without the pairs of units."""
        return {
            "matched_share": self.matching.share,
            "matched_share_weights": self.by_weights.share if self.by_weights else None,
            "cka": self.cka,
            "svcca": self.svcca,
            "pwcca": self.pwcca,
            "procrustes": self.procrustes,
        }


def measure(
    bench: Bench,
    pairs: Sequence[Pair],
    x_a: np.ndarray,
    x_b: np.ndarray,
    *,
    full: bool = False,
    progress: Callable[[], Any] | None = None,
) -> tuple[dict[int, LayerAgreement], np.ndarray | None, dict[int, str]]:
    """Statistics by index of the pair, the matrix of CKA where ``full``, and what stood in the way of other pairs.

    The matrix is of CKA between all the layers that have statistics.

    Only convolutions and dense layers with at most 2048 units are measured. Feature maps contribute up to
    16 x 16 positions per picture.

    Args:
        bench: both models.
        pairs: aligned layers.
        x_a: model A's own input of the pictures.
        x_b: model B's own input of the same pictures.
        full: also SVCCA, PWCCA, Procrustes and the matrix (minibatch CKA over whole pictures, needs `FEWEST` of them).
        progress: called after every picture.
    """
    chosen = [i for i, pair in enumerate(pairs) if _is_weighted(pair) and _units(pair) <= _LARGEST]
    if not chosen:
        return {}, None, {}
    unlike: set[int] = set()
    endless: set[int] = set()
    moments = {i: Moments(len(_w(pairs[i], "a")), len(_w(pairs[i], "b"))) for i in chosen}
    matrix = MinibatchCka(len(chosen), len(chosen)) if full and len(x_a) >= FEWEST else None
    left = bench.run(bench.a, x_a, [p.a.tensor for p in pairs])  # all, so that the sessions at hand serve
    right = bench.run(bench.b, x_b, [p.b.tensor for p in pairs])
    for batch in _batches(zip(left, right, strict=True), len(x_a)):
        kept: tuple[list[list[np.ndarray]], list[list[np.ndarray]]] = ([], [])
        for values_a, values_b in batch:
            rows = [_features(bench, pairs[i], values_a, values_b) for i in chosen]
            for i, (x, y) in zip(chosen, rows, strict=True):
                one, two = _positions(*common_grid(x, y))
                if len(one) != len(two):
                    unlike.add(i)
                elif not (np.isfinite(one).all() and np.isfinite(two).all()):
                    endless.add(i)
                else:
                    moments[i].add(one, two)
            if matrix is not None:
                kept[0].append([_small(x) for x, _ in rows])
                kept[1].append([_small(y) for _, y in rows])
            if progress:
                progress()
        if matrix is not None:
            matrix.add(*([np.concatenate(layer) for layer in zip(*side, strict=True)] for side in kept))
    kept_at = [k for k, i in enumerate(chosen) if moments[i].count > 1 and i not in unlike | endless]
    found = {chosen[k]: _agreement(pairs[chosen[k]], moments[chosen[k]], full) for k in kept_at}
    # a row and a column for each of those, and no other
    table = matrix.result()[np.ix_(kept_at, kept_at)] if matrix is not None else None
    return found, table, {**dict.fromkeys(unlike, _UNLIKE), **dict.fromkeys(endless, _ENDLESS)}


def left_out(
    pairs: Sequence[Pair],
    found: Mapping[int, LayerAgreement],
    hindered: Mapping[int, str],
    images: int,
    *,
    full: bool,
) -> tuple[str, ...]:
    """What `measure` could not measure, and why, a sentence each.

    Args:
        pairs: aligned layers.
        found: by index of the pair, what was measured.
        hindered: by index of the pair, what stood in the way.
        images: how many pictures there were.
        full: whether the matrix was asked for.
    """
    missing = [pair for i, pair in enumerate(pairs) if _is_weighted(pair) and i not in found and i not in hindered]
    odd = [
        f"units are not matched, and no CKA is given, where {why}: {', '.join(names)}"
        for why in (_UNLIKE, _ENDLESS)
        if (names := [pairs[i].a.name for i in sorted(hindered) if hindered[i] == why])
    ]
    wide = [pair.a.name for pair in missing if _units(pair) > _LARGEST]
    others = [pair.a.name for pair in missing if _units(pair) <= _LARGEST]
    notes = [f"units are not matched, and no CKA is given, of more than {_LARGEST:,} of them: {', '.join(wide)}"]
    few = [f"one picture has one value of each unit, too few to match units or for CKA: {', '.join(others)}"]
    matrix = f"the CKA between all layers needs {FEWEST} pictures or more, not {images}, and is left out"
    return (*notes * bool(wide), *few * bool(others and images == 1), *odd, *[matrix] * (full and images < FEWEST))


def _is_weighted(pair: Pair) -> bool:
    return pair.a.weight is not None and pair.b.weight is not None


def _units(pair: Pair) -> int:
    return max(len(_w(pair, "a")), len(_w(pair, "b")))


def _agreement(pair: Pair, moments: Moments, full: bool) -> LayerAgreement:
    a, b = _w(pair, "a"), _w(pair, "b")
    by_weights = match(weight_likeness(a, b), "weights") if a.shape[1:] == b.shape[1:] and a[0].size > 1 else None
    return LayerAgreement(
        match(moments.correlation()),
        by_weights,
        moments.cka(),
        moments.svcca() if full else None,
        moments.pwcca() if full else None,
        moments.procrustes() if full else None,
    )


def _w(pair: Pair, side: str) -> np.ndarray:
    weight = (pair.a if side == "a" else pair.b).weight
    assert weight is not None
    return weight


def _features(bench: Bench, pair: Pair, values_a: Values, values_b: Values) -> tuple[np.ndarray, np.ndarray]:
    return (
        bench.a.channels_first(pair.a.tensor, values_a[pair.a.tensor]),
        bench.b.channels_first(pair.b.tensor, values_b[pair.b.tensor]),
    )


def _positions(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positions, channels) of both, on a grid of at most 16 x 16."""
    if x.ndim == 4 and y.ndim == 4 and x.shape[2:] != y.shape[2:]:
        height, width = (min(x.shape[k], y.shape[k]) for k in (2, 3))
        x, y = cells(x, height, width), cells(y, height, width)
    return _rows(x), _rows(y)


def _rows(x: np.ndarray) -> np.ndarray:
    if x.ndim == 4:
        x = x[:, :, :: -(-x.shape[2] // _SIDE), :: -(-x.shape[3] // _SIDE)]
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def _small(x: np.ndarray) -> np.ndarray:
    if x.ndim == 4 and max(x.shape[2:]) > _SIDE:
        return cells(x, min(_SIDE, x.shape[2]), min(_SIDE, x.shape[3]))
    return x


def _batches(items: Iterator[tuple[Values, Values]], count: int) -> Iterator[list[tuple[Values, Values]]]:
    """Minibatches of 8; the last takes in a rest that would be smaller than the estimator allows."""
    done = 0
    while done < count:
        size = _MINIBATCH if count - done >= _MINIBATCH + FEWEST else count - done
        yield list(islice(items, size))
        done += size
