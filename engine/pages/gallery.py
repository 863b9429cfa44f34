"""The pages of gradient ascent: a gallery of units, and a page of a few large pictures.

Both are one self-contained file; the pictures are embedded as thumbnails, the masters stay the PNG files
beside the page.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .template import data_uri, render_page

_CURVE_POINTS = 240  # a curve is at most about 460 pixels wide
_EXACT = 96  # pixels; pictures up to here are embedded without loss, since every pixel is seen
_NOT_NUMBERS = ("unit", "name", "file", "history", "status")


@dataclass(frozen=True)
class Item:
    """One picture of `pictures_page`.

    Attributes:
        title: what it shows, for instance the class name.
        image: (H, W, C) in [0, 1] or uint8.
        before: the start or the photograph; the page then has a slider between the two.
        caption: one sentence.
        numbers: label -> value, shown as a table.
        history: the objective at every step.
        filmstrip: pictures on the way, in order.
        file: name of the master beside the page, linked.
    """

    title: str
    image: np.ndarray
    before: np.ndarray | None = None
    caption: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[float] = ()
    filmstrip: Sequence[np.ndarray] = ()
    file: str = ""


def filters_page(
    result: Mapping[str, Any],
    pictures: Mapping[int, np.ndarray],
    *,
    starts: Mapping[int, np.ndarray] | None = None,
    filmstrips: Mapping[int, Sequence[np.ndarray]] | None = None,
    files: Mapping[int, Mapping[str, str]] | None = None,
    waiting: Sequence[int] = (),
    command: str = "",
    refresh: int | None = None,
) -> str:
    """The gallery of a layer's units.

    Args:
        result: as in ``result.json``: model, layer, preset, size, steps, seed and units, each with unit, file,
            status ("ok", "weak" or "dead"), activation_start, activation_end and history; optional a name (of a
            class) and activation_photographs, drawn into the curve. Every further number or text of a unit is
            shown in its view. Changes to the preset (``settings``) and negative pictures (``provenance``) are said
            under the title.
        pictures: unit -> its picture.
        starts: unit -> the picture that ascent started from.
        filmstrips: unit -> pictures on the way.
        files: unit -> further files beside the page, label -> path relative to it.
        waiting: units that are still to come; drawn as empty tiles.
        command: the command line that made it.
        refresh: reload every so many seconds, for a page that is still being filled.
    """
    units = list(result["units"])
    longest = 320 if len(units) <= 64 else 224 if len(units) <= 256 else 160
    starts, filmstrips, files = starts or {}, filmstrips or {}, files or {}
    shown = [
        {
            "unit": unit["unit"],
            "name": unit.get("name") or "",
            "file": unit.get("file"),
            "files": dict(files.get(unit["unit"], {})),
            "status": unit.get("status", "ok"),
            "picture": _embedded(pictures.get(unit["unit"]), longest),
            "start": _embedded(starts.get(unit["unit"]), longest // 2, quality=60),
            "filmstrip": [_embedded(p, 96) for p in filmstrips.get(unit["unit"], ())],
            "history": _thinned(unit.get("history") or ()),
            "steps": max(len(unit.get("history") or ()) - 1, 0),
            "numbers": {k: v for k, v in unit.items() if k not in _NOT_NUMBERS and _is_plain(v)},
        }
        for unit in units
    ]
    negative = is_negative(result)
    return render_page(
        "filters.html",
        title=f"{model_name(result)} · {result['layer']}{' · negative' if negative else ''}",
        facts=_facts(result),
        command=command,
        refresh=refresh,
        data={
            "layer": str(result["layer"]),
            "verb": "inhibits" if negative else "excites",
            "units": shown,
            "waiting": list(waiting),
            "command": _unit_command(result, command),
        },
    )


def pictures_page(
    title: str,
    items: Sequence[Item],
    *,
    facts: Mapping[str, Any] | None = None,
    command: str = "",
    refresh: int | None = None,
) -> str:
    """A page of a few large pictures: classes, dreams, inversions.

    Args:
        title: heads the page.
        items: in the order of the page.
        facts: label -> value under the title: layer, preset, seed, ...
        command: the command line that made it.
        refresh: reload every so many seconds, for a page that is still being filled.
    """
    shown = [
        {
            "title": item.title,
            "picture": _embedded(item.image, 768),
            "before": _embedded(item.before, 768),
            "caption": item.caption,
            "numbers": dict(item.numbers),
            "history": _thinned(item.history),
            "steps": max(len(item.history) - 1, 0),
            "filmstrip": [_embedded(p, 128) for p in item.filmstrip],
            "file": item.file,
        }
        for item in items
    ]
    return render_page(
        "pictures.html",
        title=title,
        facts=dict(facts or {}),
        command=command,
        refresh=refresh,
        data={"items": shown},
    )


def is_negative(result: Mapping[str, Any]) -> bool:
    """Whether a result shows what lowers its units."""
    return bool(result.get("provenance", {}).get("negative"))


def _facts(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is said under the title of a gallery."""
    facts = {k: result[k] for k in ("preset", "size", "steps", "seed") if result.get(k) is not None}
    if isinstance(facts.get("size"), Sequence) and not isinstance(facts["size"], str):
        facts["size"] = " x ".join(map(str, facts["size"]))
    if settings := result.get("settings"):
        facts["settings"] = ", ".join(f"{name}={value:g}" for name, value in settings.items())
    if is_negative(result):
        classes = any(unit.get("name") for unit in result["units"])
        facts = {"shows": "what speaks against each class" if classes else "what inhibits each unit"} | facts
    return facts


def model_name(result: Mapping[str, Any]) -> str:
    """A model's short name from a result, whose ``model`` is a path, a name or a mapping with either."""
    return Path(_model(result)).stem or _model(result)


def _model(result: Mapping[str, Any]) -> str:
    model = result["model"]
    if isinstance(model, Mapping):
        model = model.get("path") or model.get("name") or "MODEL"
    return str(model)


def _unit_command(result: Mapping[str, Any], command: str) -> str:
    """The command line of one unit, up to its number: ``command`` with other units, or made from the result."""
    try:
        words = shlex.split(command)
    except ValueError:  # not quoted as a shell would take it
        words = []
    asks = "--class" if "maximize" in words[:2] else "--units"
    if words:
        words = _without(words, {"--units": "-u", "--class": "-c", "--out": "-o"}, ("--live", "--force"))
    else:
        words = ["convscope", "filters", _model(result), "--layer", str(result["layer"])]
        for flag in ("preset", "size", "steps", "seed"):
            if isinstance(result.get(flag), int | str):
                words += [f"--{flag}", str(result[flag])]
    return f"{shlex.join(words)} {asks} "


def _without(words: Sequence[str], valued: Mapping[str, str], flags: Sequence[str]) -> list[str]:
    """The words without some options, whose values may be a word of their own or attached: -u3, --units=3."""
    kept: list[str] = []
    skip = False
    for word in words:
        attached = word.split("=")[0] in valued or word.startswith(tuple(valued.values()))
        if not (skip or word in flags or attached):
            kept.append(word)
        skip = not skip and (word in valued or word in valued.values())
    return kept


def _embedded(image: np.ndarray | None, longest: int, quality: int = 85) -> str | None:
    if image is None:
        return None
    if max(image.shape[:2]) <= _EXACT:
        return data_uri(image, format="png")
    return data_uri(image, longest=longest, quality=quality)


def _thinned(history: Sequence[float]) -> list[float]:
    """At most ``_CURVE_POINTS`` values, evenly spaced, first and last included."""
    values = [float(v) for v in history]
    if len(values) <= _CURVE_POINTS:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, _CURVE_POINTS).round().astype(int)]


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str | np.integer | np.floating) or value is None
