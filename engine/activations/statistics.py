"""Statistics of every unit over a set of images, that do not depend on the order of the images.

Sums of floats depend on the order of adding, so every image's figure is taken as the whole number of 2^-149 that
a float32 is, and added as an integer, exactly. Counts and histograms are integers by nature. Only the products
of two units, for the correlations, are sums of floats: equal to rounding in another order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DamagedState, UsageError
from ..graph.layers import Layer
from ..kept import arrays
from ..render.artifacts import read_regular, save_npz
from .reductions import output_name

_POWERS = 2.0 ** np.arange(-6, 12.5, 0.5)  # half octaves: activations of some models stay below 1, of others reach 1000
EDGES = np.concatenate([[-np.inf], -_POWERS[::-1], [0.0], _POWERS, [np.inf]])  # of the per-image maximum
_WHOLE = 2.0**149  # a float32 times this is a whole number
_STILL = 1e-6  # units whose images' means spread less than this, relative to their mean, show rounding only
MOST_PAIRED = 4096  # units; the products of more would need more memory than the model
FEWEST_ALIKE = 16  # images; over fewer, most units of a layer correlate by chance
_RECENT = 64  # images whose means are kept as they are before their products are added, at least
_SUM = "sha256"  # of all the others, in the file of a state
_ARRAYS = ("cross", "recent", "largest", "active", "always", "histogram", "nans")
_SUMS = ("mean", "max", "zeros", "variance")


@dataclass(eq=False)
class UnitStatistics:
    """Running figures of one layer's units; `add` batches in any order, `merge` shards in any order.

    Attributes:
        layer: which.
        images: how many were added, those with NaN in a unit among them.
        sums: (5, C) sums over a unit's images without NaN of mean, max, zero share and variance, in 2^-149, and of
            the mean's square, in 2^-298: exact, Python integers.
        cross: (C, C) float64 sums of products of the units' means, but for the images in ``recent``; (0, 0) for more
            than `MOST_PAIRED` units.
        recent: (n, C) float64 means of the images that are not in ``cross`` yet. While they are few they are far
            smaller than their products: a state of four images has no table of all pairs.
        largest: (C,) largest value of any image.
        active: (C,) images in which the unit was above zero anywhere.
        always: (C,) images in which it was above zero everywhere.
        histogram: (C, bins) counts of the per-image maximum between `EDGES`.
        nans: (C,) images whose figure was NaN or infinite; the unit's other figures leave them out.
    """

    layer: Layer
    images: int
    sums: np.ndarray
    cross: np.ndarray
    recent: np.ndarray
    largest: np.ndarray
    active: np.ndarray
    always: np.ndarray
    histogram: np.ndarray
    nans: np.ndarray

    @classmethod
    def empty(cls, layer: Layer) -> UnitStatistics:
        """Of no images yet."""
        count = layer.channels or 0
        paired = count if count <= MOST_PAIRED else 0
        return cls(
            layer,
            0,
            np.zeros((len(_SUMS) + 1, count), dtype=object),
            np.zeros((paired, paired)),
            np.zeros((0, paired)),
            np.full(count, -np.inf),
            np.zeros(count, np.int64),
            np.zeros(count, np.int64),
            np.zeros((count, len(EDGES) - 1), np.int64),
            np.zeros(count, np.int64),
        )

    def add(self, outputs: dict[str, np.ndarray]) -> None:
        """Adds a batch of `reductions.reduced_session`'s outputs."""
        values = {n: outputs[output_name(self.layer, n)].astype(np.float64) for n in (*_SUMS, "min")}
        bad = ~np.isfinite(np.stack(list(values.values()))).all(axis=0)
        mean, most, zeros, variance, least = (np.where(bad, 0.0, v) for v in values.values())
        exact = [_whole(v) for v in (mean, most, zeros, variance)]
        self.sums += np.stack([v.sum(axis=0) for v in (*exact, exact[0] ** 2)])
        self._pair(mean)
        self.largest = np.maximum(self.largest, np.where(bad, -np.inf, most).max(axis=0))
        self.active += ((most > 0) & ~bad).sum(axis=0)
        self.always += ((least > 0) & ~bad).sum(axis=0)
        places = np.searchsorted(EDGES, most, side="right") - 1 + np.arange(len(self.histogram)) * (len(EDGES) - 1)
        counts = np.bincount(places[~bad], minlength=self.histogram.size)
        self.histogram += counts.reshape(self.histogram.shape)
        self.nans += bad.sum(axis=0)
        self.images += len(mean)

    def merge(self, other: UnitStatistics) -> None:
        """Adds another shard's figures; shards can be merged in any order, with the same result."""
        self.images += other.images
        self.sums = self.sums + other.sums
        if other.images > len(other.recent):
            self.cross += other.cross
        self._pair(other.recent)
        self.largest = np.maximum(self.largest, other.largest)
        self.active, self.always = self.active + other.active, self.always + other.always
        self.histogram, self.nans = self.histogram + other.histogram, self.nans + other.nans

    def _pair(self, means: np.ndarray) -> None:
        """Adds images' means (n, C) to those whose products are known, or will be."""
        if not len(self.cross):
            return
        self.recent = np.concatenate([self.recent, means])
        if len(self.recent) > max(_RECENT, len(self.cross) // 2):
            self.cross += self.recent.T @ self.recent
            self.recent = self.recent[:0]

    def products(self) -> np.ndarray:
        """(C, C) sums over the images of products of two units' means; (0, 0) for more than `MOST_PAIRED` units."""
        return self.cross + self.recent.T @ self.recent if len(self.recent) else self.cross

    def correlation(self) -> np.ndarray:
        """(C, C) correlation of the units' per-image means over the images.

        0 for units that do not change from image to image, and for those with a NaN in any image. (0, 0) where the
        layer has more than `MOST_PAIRED` units.
        """
        if not len(self.cross):
            return self.cross
        means, spread = self._mean(0), self._spread()
        covariance = self.products() / max(self.images, 1) - np.outer(means, means)
        usable = (self.nans == 0) & (spread > _STILL * np.abs(means)) & (spread > 0)
        pairs = np.outer(usable, usable)
        scale = np.where(pairs, np.outer(spread, spread), 1.0)
        return np.where(pairs, covariance / scale, 0.0).clip(-1, 1)

    def to_json(self, pairs: int = 20) -> dict[str, Any]:
        """Every unit's figures, dead and always-on units, and the most correlated pairs; NaN where nothing is known."""
        seen = self.images - self.nans
        known = seen > 0
        mean, most, zeros, variance = (np.where(known, self._mean(i), np.nan) for i in range(len(_SUMS)))
        deviation = np.sqrt(variance + self._spread() ** 2)
        largest = np.where(known, self.largest, np.nan)
        share = np.where(known, self.active / np.maximum(seen, 1), np.nan)
        units = [
            {
                "unit": u,
                "mean": mean[u],
                "std": deviation[u],
                "mean_max": most[u],
                "max": largest[u],
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
            "dead": np.flatnonzero(known & (self.active == 0)).tolist(),
            "always_on": np.flatnonzero(known & (self.always == seen)).tolist(),
            "correlated": self._correlated(pairs),
        }

    def _mean(self, row: int) -> np.ndarray:
        """(C,) mean of a figure over the unit's images; 0 where there is none."""
        return self.sums[row].astype(np.float64) / _WHOLE / np.maximum(self.images - self.nans, 1)

    def _spread(self) -> np.ndarray:
        """(C,) standard deviation of the images' means, from exact sums: 0 only where all are equal."""
        seen = np.maximum(self.images - self.nans, 1).astype(object)
        ratios = np.array(
            [float(Fraction(v, n * n)) for v, n in zip(seen * self.sums[4] - self.sums[0] ** 2, seen, strict=True)]
        )
        return np.sqrt(ratios) / _WHOLE

    def _correlated(self, pairs: int) -> list[dict[str, Any]]:
        matrix = np.triu(self.correlation(), 1)
        sizes = np.abs(matrix).ravel()
        if sizes.size > pairs:  # those that reach the last place, so that equal ones are ordered below as all would be
            least = np.partition(sizes, sizes.size - pairs)[sizes.size - pairs]
            reach = np.flatnonzero(sizes >= max(least, np.finfo(float).tiny))
        else:
            reach = np.arange(sizes.size)
        order = reach[np.argsort(-sizes[reach], kind="stable")][:pairs]
        found = [(*np.unravel_index(i, matrix.shape), matrix.flat[i]) for i in order]
        return [{"a": int(a), "b": int(b), "correlation": float(c)} for a, b, c in found if c]


def _whole(values: np.ndarray) -> np.ndarray:
    """Values of float32 as whole numbers of 2^-149, Python integers, whose sums are exact in any order."""
    return np.asarray(np.frompyfunc(int, 1, 1)(values * _WHOLE), dtype=object)


def save_states(path: Path, identity: str, done: Sequence[str], states: Sequence[UnitStatistics]) -> None:
    """Writes the figures of several layers and the names of the images that they are of, in one file.

    Args:
        path: the final name, .npz.
        identity: what the figures belong to; kept for `restore_states`.
        done: names of the images.
        states: one per layer.
    """
    kept = {"identity": np.array(identity), "done": np.array(sorted(done), dtype=np.str_)}
    for i, state in enumerate(states):
        kept[f"{i}/images"] = np.array(state.images)
        # Python integers may be too long for any other type; their digits as bytes are a quarter of them as text
        kept[f"{i}/exact"] = state.sums.astype(np.str_).astype(np.bytes_)
        kept |= {f"{i}/{name}": getattr(state, name) for name in _ARRAYS}
        if state.images == len(state.recent):
            del kept[f"{i}/cross"]  # nothing is in it yet
    save_npz(path, {**kept, _SUM: np.array(_sum(kept))}, durable=True)


def restore_states(path: Path, identity: str, layers: Sequence[Layer]) -> tuple[set[str], list[UnitStatistics]]:
    """The images and figures that `save_states` wrote.

    Raises:
        DamagedState: the file holds none, or not what was written. UsageError: it holds those of something else.
    """
    try:
        kept = arrays(read_regular(path))
        if str(kept.pop(_SUM)) != _sum(kept):
            raise ValueError("another sum")
        found, names = str(kept["identity"]), kept["done"]
        if names.dtype.kind != "U" or names.ndim != 1:
            raise ValueError("no names")
        done = set(names.tolist())
    except (ValueError, KeyError, OSError):
        raise DamagedState(f"'{path}' holds no state of convscope stats; remove it") from None
    if found != identity:
        raise UsageError(
            f"'{path}' was made with another model, preprocessing, size or layers; choose another folder, or force=True"
        )
    try:
        return done, [_restored(kept, i, layer) for i, layer in enumerate(layers)]
    except (ValueError, KeyError, TypeError):  # it has its sum, and is none that `save_states` writes
        raise DamagedState(f"'{path}' holds no state of convscope stats; remove it") from None


def _restored(kept: Mapping[str, np.ndarray], i: int, layer: Layer) -> UnitStatistics:
    """The figures of the layer of that number; raises ValueError where they are of other shapes than its own."""
    state = UnitStatistics.empty(layer)
    state.images, sums = int(kept[f"{i}/images"]), np.frompyfunc(int, 1, 1)(kept[f"{i}/exact"])
    if state.images < 0 or np.shape(sums) != state.sums.shape:
        raise ValueError(f"{state.images} images")
    state.sums = sums
    for name in _ARRAYS:
        value, empty = kept.get(f"{i}/{name}"), getattr(state, name)
        if value is None and name == "cross":
            continue
        if value is None or value.dtype != empty.dtype or value.ndim != empty.ndim:
            raise ValueError(name)
        if value.shape[name == "recent" :] != empty.shape[name == "recent" :]:
            raise ValueError(name)
        setattr(state, name, value)
    return state


def _sum(arrays: Mapping[str, np.ndarray]) -> str:
    """The sha256 of named arrays."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {value.dtype.str} {value.shape} ".encode())
        found.update(value.tobytes())
    return found.hexdigest()
