"""Finished units, in memory or in a folder that remembers them: what is there is not made again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from .album import OWN, Album, picture_identity
from .many import OnProgress, Studio
from .results import DEAD, UnitResult

OnUnits = Callable[[Sequence[UnitResult]], None]


class Kept(Sequence[UnitResult]):
    """Units of an album, in the order asked for, read when they are looked at.

    Their pictures are the files', 8 bits a value, and a dead unit's is crossed out.

    Attributes:
        album: the folder.
        units: their numbers.
    """

    def __init__(self, album: Album, units: Sequence[int]) -> None:
        self.album, self.units = album, list(units)

    def __len__(self) -> int:
        return len(self.units)

    @overload
    def __getitem__(self, index: int) -> UnitResult: ...

    @overload
    def __getitem__(self, index: slice) -> Kept: ...

    def __getitem__(self, index: int | slice) -> UnitResult | Kept:
        if isinstance(index, slice):
            return Kept(self.album, self.units[index])
        return self._unit(self.units[index])

    def rows(self) -> list[dict[str, Any]]:
        """Every unit's numbers as `UnitResult.to_json` gives them, without reading a picture."""
        return [{k: v for k, v in self.album.records[u].items() if k not in OWN} for u in self.units]

    def _unit(self, unit: int) -> UnitResult:
        record = self.album.records[unit]
        return UnitResult(
            unit=unit,
            image=_floats(self.album.picture(unit)),
            start=_floats(self.album.start(unit)),
            history=tuple(record["history"]),
            activation_start=record["activation_start"],
            activation_end=record["activation_end"],
            reference=record["activation_photographs"],
            status=record["status"],
            reason=record["reason"],
            rescue=record["rescue"],
            strip=tuple(map(_floats, self.album.strip(unit))),
            name=record.get("name", ""),
            alpha=None if (alpha := self.album.alpha(unit)) is None else _floats(alpha),
            file=record["file"],
        )


def open_album(
    folder: Path, studio: Studio, extra: Mapping[str, Any], text: Mapping[str, str], force: bool = False
) -> Album:
    """The folder of a studio's units.

    Args:
        folder: made with the first unit.
        studio: whose settings the pictures are a function of.
        extra: what else they are a function of; arrays count by their values.
        text: kept in every PNG.
        force: begin anew.

    Raises:
        UsageError: the folder holds units of other settings.
    """
    height, width = studio.chosen.size
    return Album(folder, function_of(studio, extra), text, force, height * width * studio.graph.channels)


def function_of(studio: Studio, extra: Mapping[str, Any]) -> str:
    """What a studio's pictures are a function of, beside the unit, as a hash; ``extra`` as for `open_album`."""
    known = {"device": studio.network.device.type, "gradients": studio.precision}
    known |= {k: _digest(v) if isinstance(v, np.ndarray) else v for k, v in extra.items()}
    return picture_identity(studio.graph, studio.layer.tensor, studio.chosen, known)


def made(
    studio: Studio,
    units: Sequence[int],
    album: Album | None,
    *,
    top: int | None = None,
    named: Callable[[Iterator[UnitResult]], Iterator[UnitResult]] = lambda results: results,
    progress: OnProgress | None = None,
    on_unit: OnUnits = lambda units: None,
) -> Sequence[UnitResult]:
    """The units, those that the album lacks made and kept there.

    Args:
        studio: makes them.
        units: which.
        album: None keeps them in memory.
        top: only so many, those with the highest activation that are not dead, strongest first.
        named: gives results their names.
        progress: called after every step, with the units that are still to be made as the total.
        on_unit: called when a unit is finished and kept, with all those that are, in the order asked for.
    """
    left = [u for u in units if album is None or u not in album.records]
    fresh: dict[int, UnitResult] = {}
    for result in named(studio.make(left, progress)):
        if album is None:
            fresh[result.unit] = result
        else:
            album.add(result)
        on_unit(_so_far(units, album, fresh))
    if album is not None:
        return Kept(album, units if top is None else strongest(album.records, units, top))
    records = {n: {"status": u.status, "activation_end": u.activation_end} for n, u in fresh.items()}
    return [fresh[u] for u in (units if top is None else strongest(records, units, top))]


def _so_far(units: Sequence[int], album: Album | None, fresh: Mapping[int, UnitResult]) -> Sequence[UnitResult]:
    if album is None:
        return [fresh[u] for u in units if u in fresh]
    return Kept(album, [u for u in units if u in album.records])


def strongest(records: Mapping[int, Mapping[str, Any]], units: Sequence[int], top: int) -> list[int]:
    """The ``top`` of ``units`` with the highest activation, dead ones left out, strongest first."""
    living = [u for u in units if records[u]["status"] != DEAD]
    return sorted(living, key=lambda u: (-records[u]["activation_end"], u))[:top]


def _floats(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 255


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
