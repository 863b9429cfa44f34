"""``compare``: are two models the same network, where do they part, and which units correspond?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..ascent.recipe.presets import preset as find_preset
from ..compare.difference import Pictures
from ..compare.pictures import Paths, from_files, reference
from ..compare.result import IDENTICAL, Comparison
from ..compare.side_by_side import rows
from ..compare.verdict import MAX_REL, compare
from ..executors.devices import check_device
from ..pages.comparison import page
from ..pictures.sides import height_width
from ..record import Record, model, write
from ..render.artifacts import write_text
from ..whole import keep_whole
from .events import Note, OnEvent, ignore
from .folder import locked
from .opening import Model, opened
from .result import Result

_OF_PICTURES = ("pictures", "preset", "size", "steps", "seed")


@dataclass(frozen=True)
class Options:
    """What to compare, and what to show.

    Attributes:
        max_rel, layer, similarity, device: as for `compare.verdict.compare`.
        images: picture files or folders that both look at; None is the shipped photographs.
        match: list every unit's counterpart; in a folder, matched units side by side.
        pictures: matched units per layer on the page, which ``match`` and a folder make.
        preset, size, steps, seed: of their ascent pictures.
    """

    max_rel: float = MAX_REL
    images: Paths | None = None
    layer: str | None = None
    similarity: bool = False
    match: bool = False
    pictures: int = 8
    preset: str = "convscope"
    size: int = 128
    steps: int | None = None
    seed: int = 0
    device: str = "cpu"

    def check(self) -> None:
        """Raises UsageError for a preset that there is none of, or a size that is none."""
        check_device(self.device)
        find_preset(self.preset)
        height_width(self.size)
        keep_whole(self, pictures=1, steps=1, seed=0)

    def check_place(self, folder: Path | None) -> None:
        """Raises UsageError for options of pictures where none are made."""
        if self.match and folder is not None:
            return
        for name in _OF_PICTURES:
            if getattr(self, name) != getattr(Options, name):
                raise UsageError(f"{name}= is of matched units' pictures: add match=True and a folder, or leave it out")


@dataclass(frozen=True, eq=False, repr=False)
class Compared(Result):
    """The result of `run`.

    Attributes:
        comparison: the answer, with its arrays.
    """

    comparison: Comparison | None = None

    @property
    def lines(self) -> Sequence[str]:
        """The verdict, where the models part and why, and the layers in pairs."""
        return () if self.comparison is None else self.comparison.lines

    @property
    def ok(self) -> bool:
        """Whether both are the same network."""
        return bool(self.content["verdict"] == IDENTICAL)


def run(
    a: Model,
    b: Model,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Compared:
    """The verdict on two models; in a folder also a page.

    Args:
        a: from `convscope.load`, of any format, or what opens it.
        b: what it is compared with.
        options: default the shipped photographs and a bound of 1e-4.
        folder: writes ``result.json`` and ``index.html`` there.
        command: what the record says made it.
        on_event: told of every stage, of what was assumed, and of pictures left out.

    Raises:
        UsageError: no layer of one stands for a layer of the other; an unknown layer or file.
        RefusedInput: none of the pictures can be read.
    """
    options = options or Options()
    options.check()
    options.check_place(folder)
    shown: Pictures = reference
    if options.images is not None:
        shown = from_files(options.images, lambda error: on_event(Note(f"left out: {error}")))
    first, second = (opened(one, folder, on_event, which=name) for one, name in ((a, "A"), (b, "B")))

    def told(stage: str) -> None:
        on_event(Note(f"comparing: {stage}"))

    with locked(folder):
        found = compare(
            first,
            second,
            pictures=shown,
            max_rel=options.max_rel,
            layers=options.layer,
            similarity=options.similarity,
            device=options.device,
            progress=told,
        )
        for note in found.notes:
            on_event(Note(f"note: {note}"))
        record = Record.of(first, command)
        other: dict[str, Any] = {"model_b": model(second), "preprocessing_b": second.preprocessing.to_json()}
        content = record.to_json({**other, **found.to_json(matches=options.match)})
        if folder is None:
            return Compared(content, None, found)
        ascent = {name: getattr(options, name) for name in ("preset", "size", "steps", "seed", "device")}
        units = (
            rows(first, second, found, count=options.pictures, options=ascent, progress=told, pictures=shown)
            if options.match
            else []
        )
        write(folder, content)
        html = page((first, second), found, units, record.command or "")
        return Compared(content, write_text(folder / "index.html", html), found)
