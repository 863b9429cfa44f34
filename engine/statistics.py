"""Statistics of every unit over a set of images, that do not depend on the order of the images.

Sums of floats depend on the order of adding, so every image's figure is rounded to a whole number of 2^-24
and added as an integer, exactly. Counts and histograms are integers by nature. Only the correlations are sums
of floats: equal to rounding in another order.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from .layers import Layer
from .reductions import output_name
from .render.artifacts import save_npz
from .render.colormaps import colorize

_POWERS = 2.0 ** np.arange(-6, 12.5, 0.5)  # half octaves: activations of some models stay below 1, of others reach 1000
EDGES = np.concatenate([[-np.inf], -_POWERS[::-1], [0.0], _POWERS, [np.inf]])  # of the per-image maximum
_UNIT = 2.0**-24
_ARRAYS = ("cross", "largest", "active", "histogram", "nans")


@dataclass(eq=False)
class UnitStatistics:
    """Running figures of one layer's units; `add` batches in any order, `merge` shards in any order.

    Attributes:
        layer: which.
        images: how many were added (images with NaN in a unit count there as ``nans``).
        sums: (4, C) exact sums of mean, max, zero share and mean square, in 2^-24, Python integers.
        cross: (C, C) float64 sums of products of the units' means.
        largest: (C,) largest value of any image.
        active: (C,) images in which the unit was above zero anywhere.
        histogram: (C, bins) counts of the per-image maximum between `EDGES`.
        nans: (C,) images whose figure was NaN.
    """

    layer: Layer
    images: int
    sums: np.ndarray
    cross: np.ndarray
    largest: np.ndarray
    active: np.ndarray
    histogram: np.ndarray
    nans: np.ndarray

    @classmethod
    def empty(cls, layer: Layer) -> UnitStatistics:
        """Of no images yet."""
        count = layer.channels or 0
        return cls(
            layer,
            0,
            np.zeros((4, count), dtype=object),
            np.zeros((count, count)),
            np.full(count, -np.inf),
            np.zeros(count, np.int64),
            np.zeros((count, len(EDGES) - 1), np.int64),
            np.zeros(count, np.int64),
        )

    def add(self, outputs: dict[str, np.ndarray]) -> None:
        """Adds a batch of `reductions.reduced_session`'s outputs."""
        names = ("mean", "max", "zeros", "square")
        mean, most, zeros, square = (outputs[output_name(self.layer, n)].astype(np.float64) for n in names)
        bad = np.logical_not(np.isfinite(np.stack([mean, most, zeros, square])).all(axis=0))
        self.nans += bad.sum(axis=0)
        clean = [np.where(bad, 0.0, v) for v in (mean, most, zeros, square)]
        self.sums += np.stack([_whole(v).sum(axis=0) for v in clean])
        self.cross += clean[0].T @ clean[0]
        self.largest = np.maximum(self.largest, np.where(bad, -np.inf, most).max(axis=0))
        self.active += ((most > 0) & ~bad).sum(axis=0)
        for unit, counts in enumerate(self.histogram):
            counts += np.histogram(most[:, unit][~bad[:, unit]], EDGES)[0]
        self.images += len(mean)

    def merge(self, other: UnitStatistics) -> None:
        """Adds another shard's figures; shards can be merged in any order, with the same result."""
        self.images += other.images
        self.sums, self.cross = self.sums + other.sums, self.cross + other.cross
        self.largest = np.maximum(self.largest, other.largest)
        self.active, self.histogram = self.active + other.active, self.histogram + other.histogram
        self.nans = self.nans + other.nans

    def correlation(self) -> np.ndarray:
        """(C, C) correlation of the units' per-image means over the images; 0 for constant units."""
        n = max(self.images, 1)
        means = self._mean(0)
        covariance = self.cross / n - np.outer(means, means)
        spread = np.sqrt(np.clip(np.diag(covariance), 0, None))
        scale = np.outer(spread, spread)
        usable = scale > 1e-12
        return np.where(usable, covariance / np.where(usable, scale, 1), 0.0).clip(-1, 1)

    def to_json(self, pairs: int = 20) -> dict[str, Any]:
        """Every unit's figures, the dead and always-on units, and the most correlated pairs."""
        n = max(self.images, 1)
        mean, most, zeros, square = (self._mean(i) for i in range(4))
        deviation = np.sqrt(np.clip(square - mean**2, 0, None))
        share = self.active / n
        units = [
            {
                "unit": u,
                "mean": mean[u],
                "std": deviation[u],
                "mean_max": most[u],
                "max": self.largest[u],
                "sparsity": zeros[u],
                "active_share": share[u],
                "nan_images": int(self.nans[u]),
                "histogram": self.histogram[u].tolist(),
            }
            for u in range(len(mean))
        ]
        return {
            "layer": self.layer.name,
            "images": self.images,
            "histogram_edges": EDGES.tolist(),
            "units": units,
            "dead": np.flatnonzero(share == 0).tolist() if self.images else [],
            "always_on": np.flatnonzero((share == 1) & (zeros == 0)).tolist() if self.images else [],
            "correlated": self._correlated(pairs),
        }

    def _mean(self, row: int) -> np.ndarray:
        return self.sums[row].astype(np.float64) * _UNIT / max(self.images, 1)

    def _correlated(self, pairs: int) -> list[dict[str, Any]]:
        matrix = np.triu(self.correlation(), 1)
        order = np.argsort(-np.abs(matrix), axis=None, kind="stable")[:pairs]
        found = [(*np.unravel_index(i, matrix.shape), matrix.flat[i]) for i in order]
        return [{"a": int(a), "b": int(b), "correlation": float(c)} for a, b, c in found if c]


def _whole(values: np.ndarray) -> np.ndarray:
    """Values as whole numbers of 2^-24, Python integers, whose sums are exact in any order."""
    return np.asarray(np.frompyfunc(int, 1, 1)(np.rint(values / _UNIT)), dtype=object)


def save_states(path: Path, identity: str, done: Sequence[str], states: Sequence[UnitStatistics]) -> None:
    """Writes the figures of several layers and the names of the images that they are of, in one file.

    Args:
        path: the final name, .npz.
        identity: what the figures belong to; kept for `restore_states`.
        done: names of the images.
        states: one per layer.
    """
    arrays = {"identity": np.array(identity), "done": np.array(sorted(done), dtype=np.str_)}
    for i, state in enumerate(states):
        arrays[f"{i}/images"] = np.array(state.images)
        arrays[f"{i}/sums"] = state.sums.astype(np.str_)  # Python integers may be too long for any other type
        arrays |= {f"{i}/{name}": getattr(state, name) for name in _ARRAYS}
    save_npz(path, arrays)


def restore_states(path: Path, identity: str, layers: Sequence[Layer]) -> tuple[set[str], list[UnitStatistics]]:
    """The images and figures that `save_states` wrote.

    Raises:
        UsageError: the file holds none, or those of something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["identity"]) != identity:
                raise UsageError(
                    f"'{path}' was made with another model, preprocessing, size or layers; "
                    "choose another -o, or --force"
                )
            states = [
                UnitStatistics(
                    layer,
                    int(archive[f"{i}/images"]),
                    np.frompyfunc(int, 1, 1)(archive[f"{i}/sums"]),
                    **{name: archive[f"{i}/{name}"] for name in _ARRAYS},
                )
                for i, layer in enumerate(layers)
            ]
            return set(archive["done"].tolist()), states
    except (ValueError, KeyError, OSError, zipfile.BadZipFile):
        raise UsageError(f"'{path}' holds no state of convscope stats; remove it") from None


def histogram_picture(state: UnitStatistics) -> tuple[np.ndarray, tuple[float, float]]:
    """A layer's histograms as one picture: a row per unit by descending mean maximum, a column per bin in use.

    Returns:
        ((height, width, 3) float32 in [0, 1], (lower edge of the first column, upper edge of the last)); the
        brightness is the square root of the share of the images.
    """
    order = np.argsort(-state.sums[1].astype(np.float64), kind="stable")
    used = np.flatnonzero(state.histogram.any(axis=0))
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
    shares = np.sqrt(state.histogram[order, first : last + 1] / max(state.images, 1))
    tall, wide = max(1, min(8, 480 // len(shares))), max(1, 480 // shares.shape[1])
    return colorize(shares, "magma").repeat(tall, axis=0).repeat(wide, axis=1), (EDGES[first], EDGES[last + 1])
