"""``convscope explain``: heatmaps of what speaks for a class, and a ranking of the methods by faithfulness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from ..errors import UsageError
from . import completion
from .calling import Call, pictures, takes
from .options import LAYER, QUESTION, TOP, Group, ImagesArgument, ModelArgument, batch, colormap, option, parse_box
from .output import emit, say
from .tables import show_methods, show_ranking

if TYPE_CHECKING:
    from ..engine.runs.events import ImageDone
    from ..engine.runs.explain import Box


def _list_methods(asked: bool) -> None:
    """Prints every method with its own options, family by family."""
    if asked:
        show_methods()
        raise typer.Exit


OPTIONS: Group = {
    "method": option(
        str | None, None, "--method -m",
        "gradcam (the default), odam (of detectors), layercam, ... or all; --help-options lists them.",
        metavar="NAME,...", show_default=False, autocompletion=completion.methods,
    ),
    "target": option(
        str | None, None, "--class -c",
        "Name, index, top:3, all:0.5, unit:LAYER:UNIT[@ROW,COLUMN] or output:NAME:INDEX; default what the model says: "
        "its class, best three boxes, masks, characters, value.", metavar="CLASS",
    ),
    "box": option(
        list[str] | None, None, "--box",
        "N: ask about that box, mask or character. T,L,B,R: where the object is, for --metrics.", metavar="N|T,L,B,R",
    ),
    **QUESTION,
    "layer": LAYER,
    "metrics": option(bool, False, "--metrics", "Rank the methods by how faithful they are here."),
    "settings": option(
        list[str] | None, None, "--set", "A setting of its own, like steps=100.", metavar="NAME=VALUE"
    ),
    "colormap": colormap("jet"),
    "alpha": option(float, 0.4, "--alpha", "Weight of the colours.", min=0.0, max=1.0),
    "style": option(
        str, "lecture", "--style", "lecture (the classic Keras overlay) or blend.", metavar="STYLE"
    ),
    "top": TOP,
    "batch": batch(16),
    "help_options": option(
        bool, False, "--help-options", "List the methods and their options.", is_eager=True, callback=_list_methods
    ),
}  # fmt: skip


@takes(OPTIONS)
def command(model: ModelArgument, images: ImagesArgument, **words: Any) -> None:
    """Show where in a picture the evidence for an answer lies: a class, a box, a mask, a character, a value.

    Writes each heatmap raw (npy), coloured and laid over the picture, a side-by-side page and result.json.
    """
    from ..engine.pages.explanation import Style
    from ..engine.runs import explain

    call = Call(words, "explained")
    del words["help_options"]  # its callback has answered and left
    words["style"] = Style(words.pop("colormap"), words.pop("alpha"), words["style"])
    words["box"], words["boxes"] = _boxes(words["box"] or ())
    words["region"] = None if words["region"] is None else parse_box("--region", words["region"])
    options = explain.Options(**call.options)
    options.check()
    paths = pictures(images)
    result = call.run(explain.run, call.open(model), paths, options, done=lambda picture: _say(picture, call.quiet))

    def otherwise() -> None:
        if result.ranking:
            show_ranking(result.ranking, len(result.content["images"]), boxes=bool(options.boxes), quiet=call.quiet)
        emit(result.page)

    call.show(result, otherwise)
    call.end(result, len(paths))


def _say(picture: ImageDone, quiet: bool) -> None:
    """What the model sees in a picture, and what was explained of it."""
    explained = ", ".join(dict.fromkeys(f"{entry['class']} ({entry['score']:.3g})" for entry in picture.row["maps"]))
    say(f"{picture.row['file']}: sees {picture.text}; explained: {explained}", quiet)


def _boxes(texts: Sequence[str]) -> tuple[int | None, list[Box]]:
    """The number that is asked about, and the places of objects."""
    numbers = [int(text) for text in texts if text.isascii() and text.isdigit()]
    if len(numbers) > 1:
        raise UsageError("--box takes one number; --class top:5 explains several")
    places = [parse_box("--box", text) for text in texts if not (text.isascii() and text.isdigit())]
    return (numbers[0] if numbers else None), places
