"""Finished units: one lossless PNG each, named by the hash of what it is a function of, its numbers inside the file."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..ascent.album import MANIFEST, Album
from ..ascent.results import DEAD, OK, WEAK, UnitResult, tile
from ..graph.graph import Graph
from ..render.artifacts import png_bytes, to_json
from .files import Files
from .plan import COARSE, FINE, Plan, Recipe, unit_id

FOLDER = "store/units"
_BROKEN = (OSError, SyntaxError, ValueError, KeyError, TypeError, EOFError, RecursionError)  # what reading one raises
_RECORD = "convscope-unit"  # keyword of the PNG's text


def name_of(identity: str) -> str:
    """Where a unit's picture is in the store."""
    return f"{FOLDER}/{identity[:2]}/{identity}.png"


def kept(files: Files) -> set[str]:
    """The ids of all finished units."""
    return {name.rpartition("/")[2].removesuffix(".png") for name in files.names(FOLDER)}


def put(files: Files, graph: Graph, layer: str, recipe: Recipe, result: UnitResult) -> None:
    """Keeps a finished unit; whoever does it, with the same bytes."""
    record = {**result.to_json(), "size": list(recipe.size)}
    del record["file"]
    _write(files, graph, layer, unit_id(recipe, result.unit), tile(result), record)


def get(files: Files, identity: str) -> tuple[np.ndarray, dict[str, Any], bytes]:
    """A finished unit: its picture, uint8 (H, W, C), its numbers, and the file's bytes.

    Raises:
        UsageError: the file is damaged.
    """
    from PIL import Image

    data = files.read(name_of(identity))
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            record = json.loads(getattr(picture, "text", {})[_RECORD])
            pixels = np.asarray(picture)
        if record["status"] not in (OK, WEAK, DEAD):
            raise ValueError(record["status"])
    except (Image.DecompressionBombError, *_BROKEN):
        raise UsageError(
            f"{files.place}/{name_of(identity)} is damaged; remove it, and repeat the command that made the atlas"
        ) from None
    return pixels[:, :, None] if pixels.ndim == 2 else pixels, record, data


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
        found = Album(folder, identity, {})
        for unit, record in found.records.items():
            if unit < planned.units and unit_id(recipe, unit) not in there:
                numbers = {key: value for key, value in record.items() if key not in ("file", "strip")}
                numbers["size"] = list(recipe.size)
                _write(files, graph, planned.layer.name, unit_id(recipe, unit), found.picture(unit), numbers)
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
    files: Files, graph: Graph, layer: str, identity: str, pixels: np.ndarray, record: Mapping[str, Any]
) -> None:
    texts = {
        "model": f"{graph.name} sha256:{graph.sha256}",
        "layer": layer,
        _RECORD: to_json(record, indent=None),
    }
    files.write(name_of(identity), png_bytes(pixels, texts))


def _identity_of_album(folder: Path) -> str:
    try:
        with (folder / MANIFEST).open("rb") as file:
            return str(json.loads(file.readline())["identity"])
    except OSError:
        raise UsageError(f"{folder} holds no album of convscope filters") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{folder / MANIFEST} is damaged; leave the folder out") from None
