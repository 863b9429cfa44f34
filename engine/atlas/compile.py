"""The page's files, made from the store alone: nothing is rendered, measured or asked of the model here.

``index.html``, ``app.js``, ``app.css`` and the kit of all pages are the page; ``d/`` holds what it shows, as scripts
that call one function, since a page from ``file://`` can load nothing else; ``s/`` sheets of 16 x 16 units, ``u/``
single units, ``p/`` the photographs. ``manifest.json`` lists every file with its sum. What is unchanged is not written
again; the page's own files come last.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConvscopeError
from ..activations.statistics import EDGES
from ..ascent.recipe.presets import PRESETS
from ..ascent.results import OK, WEAK
from ..kept import Count, OneOf, fits, from_json
from ..pictures.crops import input_box_of, plane
from ..render.artifacts import to_json, to_pillow
from . import units
from .crops import kept_names, photograph_name, read_boxes
from .files import Files, is_inside
from .numbers import LayerNumbers, Numbers, best_shown, chunk_name, damaged, selectivity
from .plan import COARSE, FINE, Plan, PlannedLayer, Recipe, unit_id
from .progress import rest
from .relations import name_of
from .relations import read as read_relations
from .rendering import failures

PAGE = Path(__file__).parent.parent / "pages" / "atlas"
KIT = PAGE.parent / "kit"  # what the atlas shares with all pages
PAGE_FILES = {  # the index last: it is what a user opens
    "kit.css": KIT / "kit.css",
    "kit.js": KIT / "base.js",
    "app.css": PAGE / "app.css",
    "app.js": PAGE / "app.js",
    "index.html": PAGE / "index.html",
}
MANIFEST = "manifest.json"
CERTIFICATE = "store/certificate.json"
ACROSS, GROUP = 16, 256  # tiles of a sheet's row, units of a sheet and of a file of details
TILE, BEST_TILE, BEST = 112, 48, 8  # pixels of a tile, of one among a layer's best, and how many of these
_QUALITY, _LARGE_QUALITY = 80, 90
FEWEST = 16  # photographs; over fewer, most units of a layer are alike, and most are of one class alone
ALIKE = 0.99  # cosine of two units' values over the photographs from which they count as alike
_CURVE = 48  # points of a curve
_STRIPES = 256  # side of a signal's picture, pixels
_SIGNS = {"ok": "o", "weak": "w", "dead": "d"}
_NOT_MADE = "-"
_COUNTED = ("units", "ok", "weak", "dead", "coarse", "weak_coarse", "missing")
_SCHEMA = 1


def compile_atlas(files: Files, plan: Plan, advance: Callable[[int], None] = lambda count: None) -> dict[str, Any]:
    """Writes the page of what the store holds; returns its counts.

    Args:
        files: the atlas.
        plan: what it is of.
        advance: called with the number of units done.

    Raises:
        DamagedUnits: pictures that are not as they were written. UsageError: something else in the store is damaged.
    """
    writer = Writer(files)
    numbers = Numbers(files, plan)
    boxes = read_boxes(files, plan, numbers)
    located = {(layer, unit) for layer, unit, _ in boxes}
    reader = units.Reader(files, units.kept(files))
    shown = _Photographs(plan, numbers.names)
    classes = numbers.classes()
    variants: Counter[str] = Counter()
    rows, best, counts = [], [], dict.fromkeys(_COUNTED, 0)
    for place, planned in enumerate(plan.layers):
        made = _Made.read(reader, planned, writer)
        varied = _variants(reader, plan, planned, writer)
        reader.check()
        figures = numbers.layer(planned.layer)
        special = selectivity(figures.peaks, classes if len(numbers.names) >= FEWEST else None)
        relations = read_relations(files, plan, planned.layer)
        columns = _columns(planned, made, figures, special)
        tile, sheets = writer.sheets(planned.layer.index, made)
        writer.layer(planned.layer.index, columns)
        details = _details(plan, planned, made, figures, relations or {}, boxes, shown)
        for unit, listed_variants in varied.items():
            details[unit]["variants"] = listed_variants
            variants.update(row["stage"] for row in listed_variants)
        writer.details(planned.layer.index, details)
        strongest = _strongest(made)
        best.append([made.pixels[unit] for unit in strongest])
        one = _counts(planned, made)
        counts = {key: counts[key] + one[key] for key in counts}
        row = _row(planned, place, (tile, sheets), one, strongest, figures, relations or {})
        index = planned.layer.index
        is_told = relations is not None and all((index, u) in located for u, own in enumerate(details) if own["top"])
        rows.append({**row, "told": is_told})
        advance(planned.units)
    writer.best(best)
    for index, name in enumerate(shown.names):
        source = photograph_name(plan, shown.sums[name])
        if files.has(source):
            copy = files.read(source)
            if copy[:4] != b"RIFF" or copy[8:12] != b"WEBP":
                raise damaged(f"{files.place}/{source}")
            writer.write(f"p/{index:05d}.webp", copy)
    writer.photographs(shown.names)
    measured = [chunk_name(plan, chunk) for chunk in plan.chunks()]
    for name in (*measured, *(name_of(plan, p.layer) for p in plan.layers), *kept_names(plan, numbers)):
        if files.has(name):
            writer.note(name, files.read(name))
    writer.manifest_script(_manifest(files, plan, rows, counts, variants, numbers))
    writer.finish()
    return counts


def _manifest(
    files: Files,
    plan: Plan,
    rows: Sequence[Mapping[str, Any]],
    counts: Mapping[str, int],
    variants: Mapping[str, int],
    numbers: Numbers,
) -> dict[str, Any]:
    certificate = certificate_of(files, plan.model["sha256"])
    model = {key: value for key, value in plan.model.items() if key not in ("wishes", "labels")}
    return {
        "model": model,
        "labels": plan.model["labels"] or [],
        "certificate": certificate,
        "photographs": {"count": len(numbers.names), "shipped": plan.shipped, "failed": numbers.failed},
        "made": {
            "preset": plan.preset, "size": plan.size, "steps": plan.steps, "seed": plan.seed,
            "device": plan.device, "k": plan.k, "field": plan.field, "versions": dict(plan.versions),
            "command": plan.command, "opening": plan.opening,
        },
        "edges": [None if math.isinf(edge) else round(float(edge), 6) for edge in EDGES],
        "counts": dict(counts),
        "variants": [{"stage": s, **variant, "made": variants.get(s, 0)} for s, variant in plan.variants.items()],
        "fewest": FEWEST,
        "failed": [{"layer": row["name"], "units": row["units"], "reason": row["reason"]} for row in failures(files)],
        "layers": list(rows),
        "graph": dict(plan.drawing),
    }  # fmt: skip


def certificate_of(files: Files, graph: str) -> dict[str, Any] | None:
    """The proof, kept in an atlas, that a graph of that sha256 was imported right; None where there is none of it."""
    try:
        found: dict[str, Any] = from_json(files.read(CERTIFICATE))
    except (FileNotFoundError, ValueError):
        return None
    return found if fits(found, {"graph": OneOf(graph)}) else None


@dataclass(frozen=True)
class _Photographs:
    """The photographs in the order of their numbers on the page."""

    plan: Plan
    names: Sequence[str]
    sums: dict[str, str] = field(init=False)
    index: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sums", dict(self.plan.photographs))
        object.__setattr__(self, "index", {name: i for i, name in enumerate(self.names)})


@dataclass(frozen=True, eq=False)
class _Made:
    """A layer's finished units: number -> picture, record, stage, id."""

    pixels: dict[int, np.ndarray]
    records: dict[int, dict[str, Any]]
    stages: dict[int, str]
    ids: dict[int, str]

    @classmethod
    def read(cls, reader: units.Reader, planned: PlannedLayer, writer: Writer) -> _Made:
        made = cls({}, {}, {}, {})
        for unit in range(planned.units):
            for stage in (FINE, COARSE):
                recipe = planned.recipes[stage]
                if (found := reader.get(recipe, unit)) is None:
                    continue
                made.pixels[unit], made.records[unit], data = found
                made.stages[unit], made.ids[unit] = stage, unit_id(recipe, unit)
                writer.note(units.name_of(made.ids[unit]), data)
                break
        return made


def _variants(
    reader: units.Reader, plan: Plan, planned: PlannedLayer, writer: Writer
) -> dict[int, list[dict[str, Any]]]:
    """Writes a layer's variants; returns by unit what its view says of each, in the plan's order."""
    found: dict[int, list[dict[str, Any]]] = {}
    for unit in range(planned.units):
        for stage in plan.variants:
            recipe = planned.recipes[stage]
            if (kept := reader.get(recipe, unit)) is None:
                continue
            identity, (pixels, record, data) = unit_id(recipe, unit), kept
            writer.note(units.name_of(identity), data)
            name = f"u/L{planned.layer.index:04d}/{unit:05d}-{stage}.webp"
            writer.write(name, _webp(pixels, _LARGE_QUALITY))
            row = {"stage": stage, "file": name, "id": identity, "preset": recipe.name, "size": record["size"]}
            row |= {key: record[key] for key in ("status", "reason", "rescue", "steps")}
            ends = {"start": _short(record["activation_start"]), "act": _short(record["activation_end"])}
            found.setdefault(unit, []).append({**row, **ends})
    return found


def _columns(planned: PlannedLayer, made: _Made, figures: LayerNumbers, special: np.ndarray) -> dict[str, Any]:
    """What the grid sorts, filters and says, one entry per unit."""
    rows = figures.facts["units"]
    every = range(planned.units)
    return {
        "status": "".join(_SIGNS[made.records[u]["status"]] if u in made.records else _NOT_MADE for u in every),
        "coarse": "".join("c" if made.stages.get(u) == COARSE else " " for u in every),
        "act": [_short(made.records[u]["activation_end"]) if u in made.records else None for u in every],
        "photo": [_short(row["max"]) for row in rows],
        "mean": [_short(row["mean"]) for row in rows],
        "sparsity": [_short(row["sparsity"]) for row in rows],
        "special": [_short(value) for value in special],
    }


def _details(
    plan: Plan,
    planned: PlannedLayer,
    made: _Made,
    figures: LayerNumbers,
    relations: Mapping[str, Any],
    boxes: Mapping[tuple[int, int, int], list[int]],
    shown: _Photographs,
) -> list[dict[str, Any]]:
    """What a unit's own view shows, one entry per unit."""
    rows = figures.facts["units"]
    width, index = plane(planned.layer)[1], planned.layer.index
    size = (plan.model["image_size"][0], plan.model["image_size"][1])
    found = []
    for unit in range(planned.units):
        top = []
        for rank, (name, value, place) in enumerate(best_shown(figures, unit)):
            field_box = list(input_box_of(planned.layer, size, *divmod(place, width)))
            top.append([shown.index[name], _short(value), boxes.get((index, unit, rank), field_box), field_box])
        figure, record = rows[unit], made.records.get(unit)
        used = [i for i, count in enumerate(figure["histogram"]) if count]
        one: dict[str, Any] = {
            "top": top,
            "hist": [used[0], figure["histogram"][used[0] : used[-1] + 1]] if used else [0, []],
            "std": _short(figure["std"]),
            "active": _short(figure["active_share"]),
            "nan": figure["nan_images"],
            "near": relations.get("near", [[]] * planned.units)[unit],
            "inputs": relations.get("inputs", [[]] * planned.units)[unit],
            "readers": relations.get("readers", [[]] * planned.units)[unit],
            "variants": [],
        }
        if record is not None:
            one |= {
                "id": made.ids[unit],
                "size": record["size"],
                "steps": record["steps"],
                "reason": record["reason"],
                "rescue": record["rescue"],
                "start": _short(record["activation_start"]),
                "curve": _thinned(record["history"]),
            }
        found.append(one)
    return found


def _row(
    planned: PlannedLayer,
    place: int,
    drawn: tuple[int, int],
    counts: Mapping[str, int],
    strongest: Sequence[int],
    figures: LayerNumbers,
    relations: Mapping[str, Any],
) -> dict[str, Any]:
    """A layer as the model's view lists it; ``drawn`` as from `Writer.sheets`."""
    la, facts = planned.layer, figures.facts
    seen, enough = la.receptive_field, figures.peaks.shape[0] >= FEWEST
    near = relations.get("near", [])
    return {
        "i": la.index, "name": la.name, "tensor": la.tensor, "op": la.op, "units": planned.units,
        "shape": [s or 0 for s in la.shape[1:]],
        "sees": list(seen.size) if seen is not None and seen.size is not None else None, "volume": la.is_volume,
        "tile": drawn[0], "sheets": drawn[1], "row": place, "best": list(strongest), "counts": dict(counts),
        "silent": len(facts["dead"]), "always": len(facts["always_on"]),
        "alike": sum(1 for row in near if row and row[0][1] >= ALIKE) if enough else None,
        "sources": relations.get("sources", ""),
        "recipes": {stage: _said(recipe) for stage, recipe in planned.recipes.items()},
    }  # fmt: skip


def _said(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the page names it; ``middle`` where a unit's value in the middle of its map is measured."""
    known = PRESETS.get(recipe.name)
    middle = known is not None and known.objective.neuron
    return {"name": recipe.name, "size": list(recipe.size), "steps": recipe.steps, "middle": middle}


def _counts(planned: PlannedLayer, made: _Made) -> dict[str, int]:
    found = {name: sum(r["status"] == name for r in made.records.values()) for name in _SIGNS}
    coarse = {unit for unit, stage in made.stages.items() if stage == COARSE}
    found |= {"coarse": len(coarse), "weak_coarse": sum(made.records[unit]["status"] == WEAK for unit in coarse)}
    return {"units": planned.units, **found, "missing": planned.units - len(made.records)}


def _strongest(made: _Made) -> list[int]:
    """Units for a layer's strip: those whose pictures beat photographs by most."""

    def gain(unit: int) -> float:
        record = made.records[unit]
        reference = record["activation_photographs"]
        return float(record["activation_end"] / reference) if reference and reference > 0 else 0.0

    return sorted((u for u, r in made.records.items() if r["status"] == OK), key=lambda u: (-gain(u), u))[:BEST]


class Writer:
    """Writes the page's files and their list.

    Args:
        files: the atlas.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self._sums: dict[str, tuple[int, str]] = {}
        self._earlier = _earlier(files)

    def note(self, name: str, data: bytes) -> None:
        """Lists a file that is there already."""
        self._sums[name] = (len(data), hashlib.sha256(data).hexdigest())

    def write(self, name: str, data: bytes) -> None:
        """Writes a file, unless the very same is there, and lists it."""
        self.note(name, data)
        if not self._is_there(name, data):
            self.files.write(name, data)

    def _is_there(self, name: str, data: bytes) -> bool:
        """Whether the file has these bytes: the list alone would be believed of a page that somebody else changed."""
        if self._earlier.get(name) != self._sums[name] or not self.files.has(name):
            return False
        with suppress(FileNotFoundError, ConvscopeError):
            return self.files.read(name) == data
        return False

    def sheets(self, index: int, made: _Made) -> tuple[int, int]:
        """Writes a layer's sheets and single pictures; returns the side of a tile, and how many sheets there are."""
        sides = [max(p.shape[:2]) for p in made.pixels.values()]
        tile = min(TILE, max(sides, default=TILE))
        count = max(made.pixels, default=-1) // GROUP + 1
        for number in range(count):
            part = {u: made.pixels[u] for u in range(number * GROUP, (number + 1) * GROUP) if u in made.pixels}
            rows = (max((u % GROUP for u in part), default=0)) // ACROSS + 1
            sheet = _hatched(rows * tile, ACROSS * tile)
            for unit, pixels in part.items():
                row, column = divmod(unit % GROUP, ACROSS)
                sheet[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = _tile(pixels, tile)
            self.write(f"s/L{index:04d}-{number:03d}.webp", _webp(sheet, _QUALITY))
        for unit, pixels in made.pixels.items():
            self.write(f"u/L{index:04d}/{unit:05d}.webp", _webp(pixels, _LARGE_QUALITY))
        return tile, count

    def best(self, layers: Sequence[Sequence[np.ndarray]]) -> None:
        """Writes one sheet with a row of each layer's best units."""
        sheet = np.full((max(len(layers), 1) * BEST_TILE, BEST * BEST_TILE, 3), 128, np.uint8)
        for row, pictures in enumerate(layers):
            for column, pixels in enumerate(pictures):
                y, x = row * BEST_TILE, column * BEST_TILE
                sheet[y : y + BEST_TILE, x : x + BEST_TILE] = _tile(pixels, BEST_TILE)
        for number in range(0, len(sheet), _TALLEST):
            self.write(f"s/best-{number // _TALLEST:03d}.webp", _webp(sheet[number : number + _TALLEST], _QUALITY))

    def layer(self, index: int, columns: Mapping[str, Any]) -> None:
        """Writes what a layer's grid shows: as text to parse, which browsers read in half the time of a script."""
        text = json.dumps(json.loads(to_json(columns, indent=None)), separators=(",", ":"))
        script = f"ATLAS_LAYER({index},JSON.parse({json.dumps(text)}));\n"
        self.write(f"d/L{index:04d}.js", script.replace("<", "\\u003c").replace(">", "\\u003e").encode("ascii"))

    def details(self, index: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes what its units' views show."""
        for first in range(0, len(rows), GROUP):
            self.group(index, first // GROUP, rows[first : first + GROUP])

    def group(self, index: int, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes what the views of a sheet's units show."""
        self.write(f"d/L{index:04d}-{number:03d}.js", _call("ATLAS_UNITS", index, number, rows))

    def photographs(self, names: Sequence[str]) -> None:
        """Writes the photographs' names, by their numbers on the page."""
        self.write("d/photographs.js", _call("ATLAS_PHOTOGRAPHS", names))

    def manifest_script(self, content: Mapping[str, Any]) -> None:
        """Writes what the model's view shows."""
        sizes = {"across": ACROSS, "group": GROUP, "bestTile": BEST_TILE, "bestRows": _TALLEST // BEST_TILE}
        self.write("d/manifest.js", _call("ATLAS_MODEL", {"schema": _SCHEMA, **sizes, **content}))

    def finish(self) -> None:
        """Writes the page itself and the list, and removes files of an earlier page that are no more of it."""
        for name, source in PAGE_FILES.items():
            self.write(name, source.read_bytes())
        for name in sorted(set(self._earlier) - set(self._sums)):
            if name.split("/")[0] in ("d", "s", "u", "p") and is_inside(name):
                self.files.remove(name)
        rows = [{"name": n, "bytes": size, "sha256": total} for n, (size, total) in sorted(self._sums.items())]
        rest(self.files)
        self.files.write(MANIFEST, (to_json({"schema_version": _SCHEMA, "files": rows}) + "\n").encode())


_TALLEST = BEST_TILE * 320  # pixels; a WebP picture can be 16,383 high


def listed(files: Files) -> dict[str, tuple[int, str]]:
    """name -> (bytes, sha256) of every file in an atlas's list, which anybody may have written.

    Raises:
        FileNotFoundError: there is none. ValueError: it is damaged.
    """
    found = from_json(files.read(MANIFEST))
    if not fits(found, {"files": [{"name": str, "bytes": Count(), "sha256": str}]}):
        raise ValueError(MANIFEST)
    return {row["name"]: (row["bytes"], row["sha256"]) for row in found["files"]}


def _earlier(files: Files) -> dict[str, tuple[int, str]]:
    try:
        return listed(files)
    except (FileNotFoundError, ValueError):
        return {}


def _call(function: str, *arguments: Any) -> bytes:
    """A script that hands data to the page; no text in it can end the script or start a line."""
    texts = [json.dumps(json.loads(to_json(a, indent=None)), separators=(",", ":")) for a in arguments]
    joined = ",".join(texts).replace("<", "\\u003c").replace(">", "\\u003e")
    return f"{function}({joined});\n".encode("ascii")


def _tile(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture as a square tile, (side, side, 3) uint8; small ones are enlarged in whole pixels."""
    from PIL import Image

    picture = to_pillow(_striped(pixels)).convert("RGB")
    scale = side / max(picture.size)
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    resized = picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (side, side), (128, 128, 128))
    canvas.paste(resized, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(canvas)


def _hatched(height: int, width: int) -> np.ndarray:
    """The ground of a sheet, (height, width, 3) uint8: seen where a unit's picture is not made."""
    y, x = np.ogrid[:height, :width]
    stripes = np.where((x + y) // 8 % 2, 120, 140).astype(np.uint8)
    return np.repeat(stripes[:, :, None], 3, axis=2)


def _striped(pixels: np.ndarray) -> np.ndarray:
    """A signal, one row, as a square of stripes: as a line nobody would see it. Other pictures as they are."""
    from PIL import Image

    height, width = pixels.shape[:2]
    if height > 1 or width == 1:
        return pixels
    side = min(width, _STRIPES)
    picture = to_pillow(np.repeat(pixels, side, axis=0))
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))


def _webp(pixels: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture = to_pillow(_striped(pixels))
    lossless = max(picture.size) <= 64  # every pixel of it is seen
    picture.save(buffer, format="WEBP", quality=quality, method=4, lossless=lossless)
    return buffer.getvalue()


def _short(value: Any) -> float | None:
    """Four significant digits; None for what is no number."""
    number = float(value) if value is not None else math.nan
    return float(f"{number:.4g}") if math.isfinite(number) else None


def _thinned(history: Sequence[float]) -> list[float | None]:
    """At most `_CURVE` values, evenly spaced, first and last included."""
    places: Iterator[int] | range = range(len(history))
    if len(history) > _CURVE:
        places = (int(i) for i in np.linspace(0, len(history) - 1, _CURVE).round())
    return [_short(history[i]) for i in places]
