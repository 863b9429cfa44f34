"""For every unit the k images that excite it most.

One total order decides everything: the larger value first, then the smaller image name. So the result does not
depend on the order of the images, the batch size, the workers or the shards: keeping the best k of a union is
associative, commutative and, since an image counts once, idempotent. NaN is never among the best; it is counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...errors import DamagedState, UsageError
from ..graph.layers import Layer
from ..kept import Count, Either, Rows, fits, from_json
from ..render.artifacts import read_regular, write_bytes
from .reductions import output_name

T = TypeVar("T")
NEEDED = ("max", "argmax")  # of `reductions.STATISTICS`


@dataclass(eq=False)
class TopImages:
    """The best k of each unit of one layer.

    Attributes:
        layer: the layer's name.
        k: how many are kept.
        identity: what the figures belong to (graph sha256, layer, size); states of another identity never mix.
        done: names of the images that were seen.
        values: (C, k) float32, descending; -inf where there are fewer than k images.
        images: (C, k) names, "" where there is none.
        places: (C, k) flat position of the maximum in the plane.
        unknown: name -> for each unit a bit, packed, whether its value was NaN; only images that have any. By
            name, since two states may hold the same image, which counts once.
    """

    layer: str
    k: int
    identity: str
    done: set[str]
    values: np.ndarray
    images: np.ndarray
    places: np.ndarray
    unknown: dict[str, bytes]

    @classmethod
    def empty(cls, layer: Layer, k: int, identity: str) -> TopImages:
        """Of no images yet."""
        shape = (layer.channels or 0, k)
        return cls(
            layer.name,
            k,
            identity,
            set(),
            np.full(shape, -np.inf, np.float32),
            np.full(shape, "", dtype=object),
            np.zeros(shape, np.int64),
            {},
        )

    @property
    def nans(self) -> np.ndarray:
        """(C,) images whose value was NaN."""
        counts = np.zeros(len(self.values), np.int64)
        for bits in self.unknown.values():
            counts += np.unpackbits(np.frombuffer(bits, np.uint8), count=len(counts))
        return counts

    def add(self, names: list[str], values: np.ndarray, places: np.ndarray) -> None:
        """Adds images; those that were seen before are left out.

        Args:
            names: one per image.
            values: (n, C) the unit's maximum in the image.
            places: (n, C) where it is.
        """
        new = [i for i, name in enumerate(names) if name not in self.done and name not in names[:i]]
        self.done.update(names[i] for i in new)
        values, places = values[new], places[new]
        self.unknown |= {
            names[i]: np.packbits(np.isnan(v)).tobytes() for i, v in zip(new, values, strict=True) if np.isnan(v).any()
        }
        shown = np.where(np.isnan(values), -np.inf, values)
        column = np.array([names[i] for i in new], dtype=object)
        column = np.broadcast_to(column[:, None], shown.shape)
        usable = np.where(np.isnan(values), "", column)
        self._keep(shown.T.astype(np.float32), usable.T, places.T)

    def add_outputs(self, layer: Layer, names: list[str], outputs: dict[str, np.ndarray]) -> None:
        """Adds a batch of `reductions.reduced_session`'s outputs."""
        self.add(names, outputs[output_name(layer, "max")], outputs[output_name(layer, "argmax")])

    def merge(self, other: TopImages) -> None:
        """Adds another shard; in any order, with the same result. Images that both saw count once.

        Raises:
            UsageError: the other state belongs to another model, layer, size or k.
        """
        if (other.identity, other.k, other.layer) != (self.identity, self.k, self.layer):
            raise UsageError(f"the shards of layer '{self.layer}' were made with another model, size or k")
        both = self.done & other.done
        if both:
            keep = ~np.isin(other.images.astype(str), list(both))
            values = np.where(keep, other.values, -np.inf)
            images = np.where(keep, other.images, "")
        else:
            values, images = other.values, other.images
        self.unknown |= other.unknown
        self.done |= other.done
        self._keep(values, images, other.places)

    def _keep(self, values: np.ndarray, images: np.ndarray, places: np.ndarray) -> None:
        # after the first few images most batches change few units: none where all is less than the least kept
        units = np.flatnonzero((values >= self.values[:, -1:]).any(axis=1))
        all_values = np.concatenate([self.values[units], values[units]], axis=1)
        all_images = np.concatenate([self.images[units], images[units]], axis=1)
        all_places = np.concatenate([self.places[units], places[units]], axis=1)
        order = np.empty((len(units), self.k), np.int64)
        for row, (mine, names) in enumerate(zip(all_values, all_images, strict=True)):
            # an image whose value is -inf still beats an empty place, which has no name
            order[row] = np.lexsort((names.astype(str), names == "", -mine))[: self.k]
        rows = np.arange(len(units))[:, None]
        self.values[units], self.images[units] = all_values[rows, order], all_images[rows, order]
        self.places[units] = np.where(self.images[units] == "", 0, all_places[rows, order])

    def save(self, path: Path) -> None:
        """Writes the state; the same state gives the same bytes, however it was reached."""
        state = {
            "layer": self.layer,
            "k": self.k,
            "identity": self.identity,
            "done": sorted(self.done),
            "values": [[None if v == -np.inf else float(v) for v in row] for row in self.values],
            "images": self.images.tolist(),
            "places": self.places.tolist(),
            "unknown": {name: self.unknown[name].hex() for name in sorted(self.unknown)},
        }
        state["sha256"] = _sum(state)
        write_bytes(path, _text(state).encode(), durable=True)

    @classmethod
    def restore(cls, path: Path) -> TopImages:
        """Reads a state; raises DamagedState where the file holds none, or not what was written."""
        try:
            state = from_json(read_regular(path))
            if not _is_state(state) or state.pop("sha256") != _sum(state):
                raise ValueError("another sum")
            values = [[-np.inf if v is None else v for v in row] for row in state["values"]]
            return cls(
                state["layer"],
                state["k"],
                state["identity"],
                set(state["done"]),
                np.array(values, np.float32).reshape(-1, state["k"]),
                np.array(state["images"], dtype=object).reshape(-1, state["k"]),
                np.array(state["places"], np.int64).reshape(-1, state["k"]),
                {name: bytes.fromhex(bits) for name, bits in state["unknown"].items()},
            )
        except (ValueError, OSError):
            raise DamagedState(f"'{path}' holds no state of convscope top; remove it") from None

    def suits(self, layer: Layer) -> bool:
        """Whether these are as many units as the layer has, with places in its map."""
        return self.values.shape == (layer.channels or 0, self.k) and are_places(self.places, layer)

    def to_json(self) -> dict[str, Any]:
        """Every unit's images, best first."""
        nans = self.nans
        return {
            "layer": self.layer,
            "images": len(self.done),
            "units": [
                {
                    "unit": unit,
                    "nan_images": int(nans[unit]),
                    "top": [
                        {"image": str(i), "value": float(v), "position": int(p)}
                        for v, i, p in zip(*row, strict=True)
                        if i
                    ],
                }
                for unit, row in enumerate(zip(self.values, self.images, self.places, strict=True))
            ],
        }


def are_places(places: np.ndarray, layer: Layer) -> bool:
    """Whether flat positions are in the map of a layer's units."""
    most = layer.places
    return bool((places >= 0).all()) and (most is None or bool((places < most).all()))


def _is_state(state: Any) -> bool:
    """Whether it has the form that `TopImages.save` writes, every table with a row for each unit."""
    if not fits(state, {"layer": str, "k": Count(10**6, 1), "identity": str, "sha256": str, "values": [list]}):
        return False
    k, units = state["k"], len(state["values"])
    tables = {"values": Either(None, float), "images": str, "places": Count(2**53)}
    if not fits(state, {name: Rows(Rows(form, k), units) for name, form in tables.items()}):
        return False
    if not fits(state, {"done": [str], "unknown": {str: str}}):
        return False
    done, size = {*state["done"]}, (units + 7) // 8
    return (
        {name for row in state["images"] for name in row} <= done | {""}
        and state["unknown"].keys() <= done
        and all(re.fullmatch(f"(?:[0-9a-f]{{2}}){{{size}}}", bits) for bits in state["unknown"].values())
    )


def _text(state: dict[str, Any]) -> str:
    return json.dumps(state, ensure_ascii=True, separators=(",", ":"))


def _sum(state: dict[str, Any]) -> str:
    return hashlib.sha256(_text(state).encode()).hexdigest()


def shard_of(names: list[T], shard: tuple[int, int] | None) -> list[T]:
    """Every n-th name from the i-th on, for shard (i, n) counted from 1; all of them without a shard."""
    return names if shard is None else names[shard[0] - 1 :: shard[1]]
