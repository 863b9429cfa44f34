"""Text as CRAFT finds it: one map of where characters are, one of what lies between two of a word.

Baek et al. 2019, "Character Region Awareness for Text Detection", arXiv:1904.01941: the maps have half the picture's
size and are regressed, so their values are no logits, and the two are no classes. Words are the islands of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .facts import Facts
from .masks import Region, TextMapReading, _planes
from .reads import Rows

_LOW, _LINK, _SURE = 0.4, 0.4, 0.7  # of both maps, and of a word's surest place: section 3.3's, as its authors run it
_SMALLEST = 10  # positions
_FEATURES = 32  # channels of the map that its authors' network gives beside the two, for a refiner


@dataclass(frozen=True, eq=False)
class CraftReading(TextMapReading):
    """Characters and what links them: (N, 2, h, w)."""

    def regions(self, rows: Rows) -> list[Region]:
        """Islands of characters and links with a sure character in them, from top to bottom and left to right."""
        from scipy import ndimage

        text, link = _planes(rows[self.tensor])[:2]
        islands, _ = ndimage.label((text > _LOW) | (link > _LINK))
        height, width = self.graph.image_size
        scale = (width / text.shape[1], height / text.shape[0])
        found = []
        for i, window in enumerate(ndimage.find_objects(islands), 1):
            island = islands[window] == i
            score = float(text[window][island].max())
            if island.sum() < _SMALLEST or score < _SURE:
                continue
            mask = np.zeros(text.shape, bool)
            mask[window] = island & (text[window] > _LOW)
            found.append((_box(mask, int(island.sum()), scale), score, mask))
        found.sort(key=lambda r: (round(r[0][1] / max(r[0][3] - r[0][1], 1)), r[0][0]))
        return [
            Region(number, 0, "text", float(mask.mean()), mask, box, score)
            for number, (box, score, mask) in enumerate(found, 1)
        ]


def _box(mask: np.ndarray, size: int, scale: tuple[float, float]) -> tuple[float, float, float, float]:
    """A word's box in pixels of the input: the characters' places, grown as the authors' code dilates them."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    height, width = bottom - top, right - left
    more = np.sqrt(size * min(height, width) / (height * width))
    return (
        float(max(left - more, 0) * scale[0]),
        float(max(top - more, 0) * scale[1]),
        float(min(right + more, mask.shape[1]) * scale[0]),
        float(min(bottom + more, mask.shape[0]) * scale[1]),
    )


def craft(facts: Facts, forced: bool = False) -> CraftReading | None:
    """(N, 2, h, w) of half the picture's size, beside the 32 maps of features that CRAFT gives."""
    shapes = {name: facts.shape(name) for name in facts.names if facts.is_float(name)}
    for name, shape in shapes.items():
        if len(shape) != 4 or shape[1] != 2 or facts.head(name) is not None:
            continue
        halved = tuple(2 * side for side in shape[2:]) == facts.size
        beside = any(other[1:] == (_FEATURES, *shape[2:]) for other in shapes.values())
        if forced or (halved and beside):
            reason = f"maps of characters and of links between them (CRAFT), {shape[2]} x {shape[3]}"
            return CraftReading(
                facts.graph, "text regions", "craft", reason, (name,), (name,), tensor=name, binary=True,
                probability=True, level=_LOW,
            )  # fmt: skip
    return None
