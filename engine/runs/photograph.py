"""What `dream` and `invert` share: the photograph, and the folder of one picture made from it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..ascent.album import MANIFEST
from ..ascent.many import OnProgress
from ..ascent.results import AscentResult
from ..graph.graph import Graph
from ..pages.gallery import Item, pictures_page
from ..pictures.given import sources
from ..pictures.read import Picture, photograph, read_image
from ..record import Record, write
from ..render.artifacts import save_png, write_text
from .events import OnEvent, Progress
from .result import Result


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, read before anything is written: the run may write over its file.

    Attributes:
        pixels: (H, W, C) float32 in [0, 1].
        name: the file's path, or what stands for it.
        sha256: of the file, or of the pixels.
    """

    pixels: np.ndarray
    name: str
    sha256: str


@dataclass(frozen=True, eq=False, repr=False)
class Drawn(Result):
    """A run's one picture.

    Attributes:
        picture: the picture with its history and its start.
    """

    picture: AscentResult | None = None


def read_photo(image: Any, graph: Graph) -> Photo:
    """The one photograph that ``image`` is, as for `given.sources`.

    Raises:
        UsageError: none, or several. RefusedInput: it cannot be read.
    """
    found, single = sources(image, graph.channels)
    if not single:
        raise UsageError(f"one photograph is needed, not {len(found)}; name a picture file")
    (one,) = found
    if isinstance(one, Picture):
        digest = hashlib.sha256(np.ascontiguousarray(one.pixels).tobytes()).hexdigest()
        return Photo(photograph(one), one.path, digest)
    return Photo(photograph(read_image(one)), str(one), hashlib.sha256(one.read_bytes()).hexdigest())


def check_single(folder: Path | None) -> None:
    """Raises UsageError where a folder holds the pictures of filters or maximize."""
    if folder is not None and (folder / MANIFEST).exists():
        raise UsageError(f"{folder} holds the pictures of filters or maximize; choose another folder")


def steps_told(stage: str, on_event: OnEvent) -> OnProgress:
    """Each step of the ascent as an event."""
    return lambda p: on_event(Progress(stage, p.step, p.steps, "steps"))


def drawn(
    result: AscentResult, title: str, photo: Photo, asked: Mapping[str, Any], folder: Path | None, record: Record
) -> Drawn:
    """The finished run: one picture, and where there is a folder its files, numbers and page.

    Args:
        result: of one unit.
        title: the picture's name.
        photo: what it was made from.
        asked: what else the picture is a function of.
        folder: where it goes, or None.
        record: what made it.
    """
    result = replace(result, record=record)
    name = f"{title}.png"
    content = {**result.to_json([name]), **asked, "image": photo.name, "image_sha256": photo.sha256}
    if folder is None:
        return Drawn(content, None, result)
    unit = result.units[0]
    text = record.png_text(layer=result.layer, preset=result.preset, seed=result.seed, image=Path(photo.name).name)
    save_png(folder / name, unit.image, text)
    save_png(folder / "before.png", unit.start, text)
    for i, one in enumerate(unit.strip):
        save_png(folder / f"on-the-way-{i}.png", one, text)
    write(folder, content)
    numbers = {"at the start": unit.activation_start, "at the end": unit.activation_end}
    facts = {"layer": result.layer, "preset": result.preset, "steps": result.steps, "seed": result.seed}
    item = Item(title, unit.image, unit.start, unit.reason, numbers, unit.history, unit.strip, name)
    html = pictures_page(f"{result.model} · {title}", [item], facts=facts, command=record.command or "")
    page = write_text(folder / "index.html", html)
    _remove_strip(folder, len(unit.strip))
    return Drawn(content, page, result)


def _remove_strip(folder: Path, first: int) -> None:
    """Removes the pictures on the way from number ``first`` on: an earlier run that kept more of them wrote them."""
    for path in folder.iterdir():
        number = re.fullmatch(r"on-the-way-([0-9]{1,9})\.png", path.name)
        if number and int(number[1]) >= first:
            path.unlink()
