"""The folder of one layer's units: their pictures stitched, the numbers, the page, animations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..ascent.making import Kept
from ..ascent.results import AscentResult, enlarged, tile
from ..record import write
from ..render.animation import is_whole, webp_bytes
from ..render.artifacts import read_regular, save_png, write_bytes, write_text
from ..render.grid import captioned, grid
from .gallery import filters_page


def write_wall(folder: Path, result: AscentResult, columns: int | None, margin: int) -> None:
    """Writes ``grid.png``, ``result.json`` and the page of a finished result.

    Args:
        folder: that holds the result's pictures.
        result: with the record of what made it.
        columns: pictures per row of the grid; None for a square.
        margin: pixels between them.
    """
    assert result.record is not None
    if len(result):
        text = result.record.png_text(layer=result.layer, preset=result.preset, seed=result.seed)
        save_png(folder / "grid.png", stitched(result, columns, margin), text)
    write(folder, content(result))
    write_page(folder, result)


def write_page(folder: Path, result: AscentResult, waiting: Sequence[int] = (), refresh: int | None = None) -> None:
    """Writes the page of what there is.

    Args:
        folder: that holds the result's pictures.
        result: with the record of what made it.
        waiting: units that are still to come.
        refresh: reload every so many seconds, for a page that is still being filled.
    """
    units = result.units
    assert isinstance(units, Kept) and result.record is not None
    html = filters_page(
        content(result),
        {u: units.album.picture(u) for u in units.units},
        starts={u: units.album.start(u) for u in units.units},
        filmstrips={u: strip for u in units.units if (strip := units.album.strip(u))},
        files={u: units.album.further(u) for u in units.units},
        waiting=waiting,
        command=result.record.command or "",
        refresh=refresh,
    )
    write_text(folder / "index.html", html)


def write_animations(folder: Path, result: AscentResult, done: set[int]) -> None:
    """Writes the animation of every unit's ascent that is not there as it was written.

    Args:
        folder: of the album.
        result: an album's units; of others none is written.
        done: units whose animation is known to be there; those of this result are added.
    """
    units = result.units
    if not isinstance(units, Kept):
        return
    for unit in set(units.units) - done:
        target, of = folder / units.album.animation(unit), units.album.records[unit]["sha256"]
        if not _is_there(target, of):
            frames = [units.album.start(unit), *units.album.strip(unit), units.album.picture(unit)]
            write_bytes(target, webp_bytes([enlarged(frame) for frame in frames], of))
        done.add(unit)


def _is_there(animation: Path, of: str) -> bool:
    try:
        return is_whole(read_regular(animation), of)
    except OSError:  # there is none, or a pipe
        return False


def content(result: AscentResult) -> dict[str, Any]:
    """The object of ``result.json`` of one layer."""
    return {**result.to_json(), "grid": "grid.png" if len(result) else None}


def stitched(result: AscentResult, columns: int | None, margin: int) -> np.ndarray:
    """All pictures of a result, each over its number; small ones enlarged. Options as for `write_wall`."""
    units = result.units
    tiles = [units.album.picture(u) for u in units.units] if isinstance(units, Kept) else [tile(u) for u in units]
    rows = result.to_json()["units"]
    names = [f"{row['unit']} {row.get('name') or ''}".strip() for row in rows]
    shown = [captioned(enlarged(one), name) for one, name in zip(tiles, names, strict=True)]
    return grid(shown, columns, margin)
