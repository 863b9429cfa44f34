"""What the commands of gradient ascent share: their options, the folder that fills, the page."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .common import clean, command_line, emit, emit_json, progress, say
from .terminal import live as live_screen

if TYPE_CHECKING:
    import numpy as np

    from ..engine.ascent.album import Album
    from ..engine.ascent.many import OnProgress, Studio
    from ..engine.ascent.results import UnitResult
    from ..engine.ascent.settings import Settings
    from ..engine.graph.graph import Graph

PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        "-p",
        metavar="PRESET",
        help="convscope (by the layer: tile, strongest, parts or objects), lucid, maco, chollet, jacobgil, "
        "yosinski-a to -d or dream; see docs/presets.md.",
    ),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", metavar="N", max=1_000_000, help="Default the preset's own number.")
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="auto|bfloat16|float32",
        help="Of gradients; auto is bfloat16 where the processor is faster in it, but float32 for the classic presets.",
    ),
]
BatchOption = Annotated[str, typer.Option("--batch", metavar="N|auto", help="Pictures computed at once.")]
LiveOption = Annotated[bool, typer.Option("--live", help="Show the pictures while they are made.")]
StripOption = Annotated[int, typer.Option("--strip", min=0, max=64, metavar="N", help="Keep N pictures on the way.")]
_REFRESH = 3  # seconds between reloads of a page that is being filled


def read_pixels(path: str | Path) -> np.ndarray:
    """A picture file's pixels (H, W, 3) in [0, 1]."""
    from ..engine.pictures.read import read_image

    return read_image(Path(path)).pixels


def read_photo(path: Path) -> tuple[np.ndarray, str]:
    """A photograph's pixels, as `read_pixels`, and the SHA-256 of its file: the command may write over it."""
    from hashlib import sha256

    return read_pixels(path), sha256(path.read_bytes()).hexdigest()


def make_all(
    studio: Studio, album: Album, units: Sequence[int], page: Page, *, live: bool, quiet: bool, kind: str
) -> None:
    """Makes what the folder does not hold yet, keeping each unit as it is finished.

    Raises:
        KeyboardInterrupt: after saying that the same command continues.
    """
    left = [u for u in units if u not in album.records]
    if len(left) < len(units):
        say(f"{len(units) - len(left)} of {len(units)} {kind} are finished in {album.folder}", quiet)
    with live_screen(quiet or not live) as screen, progress(len(units), page.title, quiet or live, unit=kind) as bar:
        bar.advance(len(units) - len(left))
        try:
            for result in page.named(studio.make(left, _advancing(bar))):
                album.add(result)
                if live:
                    screen.show(page.grid([u for u in units if u in album.records]))
                    page.write([u for u in units if u in album.records], units, refresh=_REFRESH)
        except BaseException as exc:
            if live and album.records:  # nothing more comes: the page must not reload for ever
                with suppress(Exception):  # what ended the work is what the user must hear of
                    page.write([u for u in units if u in album.records], units)
            if isinstance(exc, KeyboardInterrupt):
                say(f"{len(album.records)} of {len(units)} {kind} are kept; the same command continues", quiet)
            raise


def _advancing(bar: Any) -> OnProgress:
    """Turns steps of a batch into parts of units, so that the bar moves and the time left is known early."""
    shown = 0.0

    def advance(p: Any) -> None:
        nonlocal shown
        reached = p.done + p.batch * p.step / p.steps
        bar.advance(max(reached - shown, 0), step=f"{p.step}/{p.steps}")
        shown = max(shown, reached)

    return advance


class Page:
    """The output folder's pictures, numbers and page.

    Args:
        graph, chosen: what the pictures are a function of.
        album: the folder.
        layer: its name.
        precision: what gradients are computed in.
        classes: the units are classes.
    """

    def __init__(
        self, graph: Graph, chosen: Settings, album: Album, layer: str, precision: str, classes: bool = False
    ) -> None:
        self.graph, self.chosen, self.album, self.layer, self.classes = graph, chosen, album, layer, classes
        self.precision = precision
        self.title = f"{graph.name} {layer}"

    def named(self, results: Iterator[UnitResult]) -> Iterator[UnitResult]:
        """The results, classes with their names."""
        from ..engine.ascent.maximize import named

        return named(self.graph, results) if self.classes else results

    def grid(self, units: Sequence[int]) -> np.ndarray:
        """The stitched grid of kept units, small pictures enlarged."""
        from ..engine.ascent.results import enlarged
        from ..engine.render.grid import grid

        return grid([enlarged(self.album.picture(u)) for u in units])

    def result(self, units: Sequence[int]) -> dict[str, Any]:
        """What ``result.json`` says."""
        from ..engine.ascent.filters import gathered

        head = gathered(self.graph, self.layer, self.chosen, [], self.precision).to_json()
        head["model"] = self.graph.source.path or self.graph.name
        rows = [{k: v for k, v in self.album.records[u].items() if k != "strip"} for u in units]
        return {**head, "units": rows, "grid": "grid.png" if units else None, "command": command_line()}

    def write(self, units: Sequence[int], wanted: Sequence[int], refresh: int | None = None) -> Path:
        """Writes ``index.html``; while it is being filled it reloads itself."""
        from ..engine.pages.gallery import filters_page
        from ..engine.render.artifacts import write_text

        album = self.album
        html = filters_page(
            self.result(units),
            {u: album.picture(u) for u in units},
            starts={u: album.start(u) for u in units},
            filmstrips={u: album.strip(u) for u in units if album.records[u]["strip"]},
            waiting=[u for u in wanted if u not in album.records],
            command=command_line(),
            refresh=refresh,
        )
        return write_text(album.folder / "index.html", html)

    def finish(self, units: Sequence[int], asked: Sequence[int], *, as_json: bool, quiet: bool) -> None:
        """Writes the grid, the numbers and the page of ``units``, and prints the page's path or the numbers.

        Args:
            units: those to show; none where the strongest of ``asked`` were to be kept and all of them are dead.
            asked: those that were made.
            as_json, quiet: as the user said.
        """
        from ..engine.render.artifacts import save_png, write_json

        folder = self.album.folder
        if units:
            save_png(folder / "grid.png", self.grid(units), self.album.labels)
        result = self.result(units)
        write_json(folder / "result.json", {"schema_version": 1, **result})
        page = self.write(units, units)
        if not units:
            kind = "classes" if self.classes else "units"
            say(f"all {len(asked)} {kind} of {self.layer} are dead; without top: they are shown, crossed out", quiet)
        for row in result["units"]:
            if row["status"] != "ok":
                say(f"unit {row['unit']} is {row['status']}: {row['reason']}", quiet)
        if as_json:
            emit_json(result)
        else:
            emit(page)


def labels(graph: Graph, layer: str, chosen: Settings) -> dict[str, str]:
    """What every PNG says about itself."""
    version = sys.modules[__name__.split(".")[0]].__version__
    return {
        "Software": f"convscope {version}",
        "model": f"{graph.name} sha256:{graph.sha256}",
        "layer": layer,
        "preset": f"{chosen.preset.name}, size {chosen.size}, steps {chosen.steps}, seed {chosen.seed}",
    }


def check_out(out: Path | None) -> None:
    """Raises where nothing can be written to ``-o``, or without one to the folder we are in: before any work."""
    from ..engine.render.artifacts import check_folder

    check_folder(out or Path())


def album_folder(graph: Graph, out: Path | None, kind: str, force: bool) -> Path:
    """The folder for many pictures: ``-o``, or one named after the model.

    Raises:
        UsageError: it holds the result of a command that keeps no album, and ``force`` is not given.
        ConvscopeError: it cannot be written.
    """
    folder = _folder(graph, out, kind)
    if (folder / "result.json").exists() and not _is_album(folder) and not force:
        raise UsageError(
            f"{folder} holds the result of another command; choose another folder with -o, or --force to write into it"
        )
    return folder


def single_folder(graph: Graph, out: Path | None, kind: str) -> Path:
    """The folder for one picture made from a photograph: ``-o``, or one named after the model.

    Raises:
        UsageError: it holds an album of filters or maximize.
        ConvscopeError: it cannot be written.
    """
    folder = _folder(graph, out, kind)
    if _is_album(folder):
        raise UsageError(f"{folder} holds the pictures of filters or maximize; choose another folder with -o")
    return folder


def _folder(graph: Graph, out: Path | None, kind: str) -> Path:
    from ..engine.render.artifacts import check_folder

    folder = out or Path(clean(f"{graph.name}-{kind}"))
    check_folder(folder)
    return folder


def _is_album(folder: Path) -> bool:
    from ..engine.ascent.album import MANIFEST

    return (folder / MANIFEST).exists()


def write_single(
    graph: Graph, result: Any, out: Path, title: str, photo: Path, asked: Mapping[str, Any], *, as_json: bool
) -> None:
    """Writes one picture made from a photograph, its numbers and its page.

    Args:
        graph, result, out, title: what was made, of what, and where it goes.
        photo: the photograph's file.
        asked: what else the picture is a function of, for ``result.json``.
        as_json: print the numbers instead of the page's path.
    """
    from ..engine.pages.gallery import Item, pictures_page
    from ..engine.render.artifacts import save_png, write_json, write_text

    unit = result.units[0]
    name = f"{title}.png"
    text = {"model": f"{graph.name} sha256:{graph.sha256}", "layer": result.layer, "made from": photo.name}
    save_png(out / name, unit.image, text)
    save_png(out / "before.png", unit.start, text)
    for i, one in enumerate(unit.strip):
        save_png(out / f"on-the-way-{i}.png", one, text)
    numbers = {"activation_start": unit.activation_start, "activation_end": unit.activation_end}
    facts = {"layer": result.layer, "preset": result.preset, "steps": result.steps, "seed": result.seed}
    item = Item(title, unit.image, unit.start, unit.reason, numbers, unit.history, unit.strip, name)
    record = {**result.to_json([name]), **asked, "image": str(photo), "command": command_line()}
    record["model"] = graph.source.path or graph.name
    write_json(out / "result.json", {"schema_version": 1, **record})
    html = pictures_page(f"{graph.name} · {title}", [item], facts=facts, command=command_line())
    page = write_text(out / "index.html", html)
    _remove_strip(out, len(unit.strip))
    if as_json:
        emit_json(record)
    else:
        emit(page)


def _remove_strip(folder: Path, first: int) -> None:
    """Removes the pictures on the way from number ``first`` on: an earlier run that kept more of them wrote them."""
    for path in folder.iterdir():
        number = re.fullmatch(r"on-the-way-([0-9]{1,9})\.png", path.name)
        if number and int(number[1]) >= first:
            path.unlink()


def steps_progress(bar: Any) -> OnProgress:
    """Each step advances the bar by one."""
    return lambda p: bar.advance(1)


def one_layer(graph: Graph, layer: str | None, command: str) -> str:
    """The layer's key; raises UsageError where none is given."""
    if layer is None:
        last = graph.last_spatial_layer().name
        raise UsageError(f"{command} needs --layer, for instance --layer {last}; list them: convscope info")
    return layer
