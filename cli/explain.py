"""``convscope explain``: heatmaps of what speaks for a class, and a ranking of the methods by faithfulness."""

from __future__ import annotations

from typing import Any

import typer

from . import completion
from .calling import perform, takes
from .options import (
    BOX_FORM,
    LAYER,
    QUESTION,
    SETTING,
    TOP,
    Group,
    ImagesArgument,
    ModelArgument,
    batch,
    colormap,
    option,
)  # fmt: skip
from .output import emit
from .parsing import box_or_number, separated


def _list_methods(asked: bool) -> None:
    """Prints every method with its own options, family by family."""
    if asked:
        from ..engine.attribution.registry import methods_in_words

        for line in methods_in_words():
            emit(line)
        raise typer.Exit


OPTIONS: Group = {
    "method": option(
        str | None, None, "--method -m",
        "gradcam (the default), odam (of detectors), layercam, ... or all; --help-options lists them.",
        metavar="NAME,...", show_default=False, autocompletion=completion.methods,
    ),
    "target": option(
        str | None, None, "--class -c",
        "Name, index, top:3, all:0.5, unit:LAYER:UNIT (@ROW,COLUMN) or output:NAME:INDEX; default what the model says: "
        "its class, best three boxes, masks, characters, value.", metavar="CLASS",
    ),
    "box": option(
        list[Any] | None, None, "--box",
        "N: ask about that box, mask or character. T,L,B,R: where the object is, for --metrics.", metavar="N|T,L,B,R",
        reads=box_or_number, form=f"a number, or {BOX_FORM}",
    ),
    **QUESTION,
    "layer": LAYER,
    "metrics": option(bool, False, "--metrics", "Rank the methods by how faithful they are here."),
    "settings": option(
        list[Any] | None, None, "--set", "A setting of its own, like steps=100.", **SETTING
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

    del words["help_options"]  # its callback has answered and left
    words["style"] = Style(words.pop("colormap"), words.pop("alpha"), words["style"])
    words["box"], words["boxes"] = separated(words["box"] or ())
    perform(explain, model, words, images, ending="explained")
