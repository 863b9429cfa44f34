"""Which four numbers make a box: centre and size or corners, pixels or shares, told from what the probe shows.

Exporters differ: the same network gives centres and sizes in pixels, corners, or shares of the picture's sides. A table
whose four columns are none of these is no table of boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NEARLY_ALL = 0.95  # of the rows
_SHARES = 2.0  # coordinates that reach no further are shares of the sides; boxes may reach over the edge
_CORNER = 0.1  # of the sides
_FOLLOWS = 0.9  # correlation of centres with cells


@dataclass(frozen=True)
class Form:
    """How four columns make a box.

    Attributes:
        order: "cxcywh", "ltrb" or "tlbr", as for `reads.Box`.
        scale: (horizontal, vertical) factors that make pixels of the model's input.
    """

    order: str = "cxcywh"
    scale: tuple[float, float] = (1.0, 1.0)

    @property
    def words(self) -> str:
        """For people: "boxes in pixels"."""
        unit = "pixels" if self.scale == (1.0, 1.0) else "[0, 1]"
        return f"boxes in {unit}" if self.order == "cxcywh" else f"boxes by their corners in {unit}"


def form_of(table: np.ndarray | None, size: tuple[int, int]) -> Form | None:
    """The form of the probe's boxes (A, 4) in a picture of (height, width); None where these are no boxes.

    Without a probe they are taken for centres and sizes in pixels.
    """
    if table is None or not len(table):
        return Form()
    height, width = size
    share = float(np.abs(table).max()) <= _SHARES
    scale = (float(width), float(height)) if share else (1.0, 1.0)
    if are_corners(table):
        form, centres = Form("ltrb", scale), (table[:, :2] + table[:, 2:]) / 2
    elif have_sizes(table):
        form, centres = Form("cxcywh", scale), table[:, :2]
    else:
        return None
    places = centres * np.asarray(scale) / np.asarray([width, height])
    inside = ((places > -0.5) & (places < 1.5)).all(axis=1)
    # offsets from anchors that the file does not hold are a few pixels at most, all in one corner
    return form if inside.mean() > _NEARLY_ALL and places.max() > _CORNER else None


def are_corners(table: np.ndarray) -> bool:
    """Whether nearly all rows (A, 4) read as left, top, right, bottom with right and bottom the larger."""
    return bool(((table[:, 2] > table[:, 0]) & (table[:, 3] > table[:, 1])).mean() > _NEARLY_ALL)


def have_sizes(table: np.ndarray) -> bool:
    """Whether nearly all rows (A, 4) read as centres and sizes above 0."""
    return bool(((table[:, 2] > 0) & (table[:, 3] > 0)).mean() > _NEARLY_ALL)


def follows_grid(table: np.ndarray | None, cells: np.ndarray) -> bool:
    """Whether boxes (A, 4) lie at the cells (A, 2) that they are said to come from."""
    if table is None or len(table) != len(cells):
        return False
    for centres in (table[:, :2], (table[:, :2] + table[:, 2:]) / 2):
        if min(centres.std(axis=0)) > 0 and min(cells.std(axis=0)) > 0:
            found = [np.corrcoef(centres[:, side], cells[:, side])[0, 1] for side in (0, 1)]
            if min(found) > _FOLLOWS:
                return True
    return False
