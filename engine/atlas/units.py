"""Finished units: one lossless PNG each, named by the hash of what it is a function of, its numbers inside the file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..ascent.album import MANIFEST, OWN, Album
from ..ascent.results import FORM, UnitResult, tile
from ..graph.graph import Graph
from ..kept import Count, fits, from_json, opened_png
from ..render.artifacts import png_bytes, read_regular, side_by_side, to_json, to_uint8
from .files import Files
from .plan import COARSE, FINE, Plan, Recipe, unit_id

FOLDER = "store/units"
_RECORD = "convscope-unit"  # keyword of the PNG's text
_FORM = {**FORM, "size": [Count(2**24, 1)], "id": str, "sha256": str}


class DamagedUnits(UsageError):  # type: ignore[misc]  # no name for the root in mypy
    """Units whose files are not as they were written.

    Attributes:
        names: of the files.
    """

    def __init__(self, place: str, names: Sequence[str]) -> None:
        more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
        super().__init__(f"{place}/{names[0]}{more} damaged; repeat the command that made the atlas, which mends that")
        self.names = names


def name_of(identity: str) -> str:
    """Where a unit's picture is in the store."""
    return f"{FOLDER}/{identity[:2]}/{identity}.png"


def kept(files: Files) -> set[str]:
    """The ids of all finished units."""
    return {name.rpartition("/")[2].removesuffix(".png") for name in files.names(FOLDER)}


def put(files: Files, graph: Graph, layer: str, recipe: Recipe, result: UnitResult) -> None:
    """Keeps a finished unit; whoever does it, with the same bytes."""
    record = result.to_json()
    del record["file"]
    _write(files, graph, layer, recipe, tile(result), record)


def get(files: Files, recipe: Recipe, unit: int) -> tuple[np.ndarray, dict[str, Any], bytes]:
    """A finished unit: its picture, uint8 (H, W, C), its numbers, and the file's bytes.

    Raises:
        DamagedUnits: the file is damaged, or another unit's.
    """
    identity = unit_id(recipe, unit)
    data = files.read(name_of(identity))
    try:
        pixels, text = opened_png(data)
        record = from_json(text.get(_RECORD, ""))
        is_whole = fits(record, _FORM) and record["sha256"] == _sum(record, pixels)
        if not is_whole or (record["id"], record["unit"]) != (identity, unit):
            raise ValueError(identity)
    except ValueError:
        raise DamagedUnits(files.place, [name_of(identity)]) from None
    return pixels, record, data


class Reader:
    """Reads many units, and goes on past damaged ones: all are told together.

    Args:
        files: the atlas.
        there: ids of the units that it holds.
    """

    def __init__(self, files: Files, there: set[str]) -> None:
        self.files, self.there = files, there
        self.damaged: list[str] = []

    def get(self, recipe: Recipe, unit: int) -> tuple[np.ndarray, dict[str, Any], bytes] | None:
        """As `get`; None where there is no such unit, or a damaged one."""
        if unit_id(recipe, unit) not in self.there:
            return None
        try:
            return get(self.files, recipe, unit)
        except DamagedUnits as found:
            self.damaged += found.names
        return None

    def check(self) -> None:
        """Raises DamagedUnits where any was."""
        if self.damaged:
            raise DamagedUnits(self.files.place, self.damaged)


def take_over(files: Files, graph: Graph, plan: Plan, folders: Sequence[Path]) -> int:
    """Copies the units of albums of ``convscope filters`` that were made as the plan makes them; returns how many.

    Raises:
        UsageError: a folder holds no album, or one of other settings than any layer's.
    """
    there, taken = kept(files), 0
    for folder in folders:
        identity = _identity_of_album(folder)
        recipes = [(p, r) for p in plan.layers for stage, r in p.recipes.items() if stage != COARSE]
        planned, recipe = next(((p, r) for p, r in recipes if r.identity == identity), (None, None))
        if planned is None or recipe is None:
            raise UsageError(
                f"the pictures in {folder} were made with another model, layer or settings than the atlas; "
                "leave the folder out, or give the same preset, size and seed"
            )
        found = Album(folder, identity, {}, pixels=recipe.size[0] * recipe.size[1] * graph.channels)
        for unit, record in found.records.items():
            if unit < planned.units and unit_id(recipe, unit) not in there:
                numbers = {key: value for key, value in record.items() if key not in ("file", *OWN)}
                _write(files, graph, planned.layer.name, recipe, found.picture(unit), numbers)
                taken += 1
    return taken


def best_available(plan: Plan, there: set[str]) -> Iterator[tuple[int, int, str, str]]:
    """(layer index, unit, stage, id) of every unit that is finished, the fine picture where there is one."""
    for planned in plan.layers:
        for unit in range(planned.units):
            for stage in (FINE, COARSE):
                identity = unit_id(planned.recipes[stage], unit)
                if identity in there:
                    yield planned.layer.index, unit, stage, identity
                    break


def _write(
    files: Files, graph: Graph, layer: str, recipe: Recipe, pixels: np.ndarray, record: Mapping[str, Any]
) -> None:
    identity, shown = unit_id(recipe, record["unit"]), to_uint8(side_by_side(pixels))
    whole = {**record, "size": list(recipe.size), "id": identity}
    whole["sha256"] = _sum(whole, shown)
    texts = {
        "model": f"{graph.name} sha256:{graph.sha256}",
        "layer": layer,
        _RECORD: to_json(whole, indent=None),
    }
    files.write(name_of(identity), png_bytes(shown, texts))


def _sum(record: Mapping[str, Any], pixels: np.ndarray) -> str:
    """The sha256 of a unit's numbers, but for itself, and of its pixels."""
    words = {key: value for key, value in record.items() if key != "sha256"}
    found = hashlib.sha256(to_json(words, indent=None).encode())
    found.update(np.ascontiguousarray(pixels).tobytes())
    return found.hexdigest()


def _identity_of_album(folder: Path) -> str:
    try:
        first = read_regular(folder / MANIFEST).partition(b"\n")[0]
    except OSError:
        raise UsageError(f"{folder} holds no album of convscope filters") from None
    with suppress(ValueError):
        head = from_json(first)
        if fits(head, {"identity": str}):
            return str(head["identity"])
    raise UsageError(f"{folder / MANIFEST} is damaged; leave the folder out")
