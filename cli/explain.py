"""``convscope explain``: heatmaps of what speaks for a class, and a ranking of the methods by faithfulness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import completion
from .loading import loading_options, open_model
from .options import (
    BatchOption,
    ColormapOption,
    DecoderOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    LayerOption,
    LikeOption,
    ModelArgument,
    OutOption,
    OutputOption,
    QuietOption,
    SetOption,
    TopOption,
    parse_settings,
)
from .output import command_line, emit, emit_json, partly_done, say
from .progress import drawn
from .tables import show_methods, show_ranking

if TYPE_CHECKING:
    from ..engine.runs.events import Event
    from ..engine.runs.explain import Box

MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        "-m",
        metavar="NAME,...",
        help="gradcam (the default), odam (of detectors), layercam, ... or all; --help-options lists them.",
        show_default=False,
        autocompletion=completion.methods,
    ),
]
ClassOption = Annotated[
    str | None,
    typer.Option(
        "--class",
        "-c",
        metavar="CLASS",
        help="Name, index, top:3, all:0.5, unit:LAYER:UNIT[@ROW,COLUMN] or output:NAME:INDEX; default what the model "
        "says: its class, best three boxes, masks, characters, value.",
    ),
]
OfOption = Annotated[
    str, typer.Option("--of", metavar="NUMBER", help="Of a box: score, left, top, right, bottom or iou.")
]
RegionOption = Annotated[
    str | None,
    typer.Option("--region", metavar="T,L,B,R", help="Ask about this part of a map; pixels of the model's input."),
]
MaskOption = Annotated[
    Path | None, typer.Option("--mask", metavar="FILE", help="Ask about the bright part of this picture (or .npy).")
]
ToOption = Annotated[float | None, typer.Option("--to", metavar="VALUE", help="What speaks for this value.")]
AgainstOption = Annotated[
    str | None, typer.Option("--against", metavar="CLASS", help="Why the target and not this: a class, or top:3.")
]
MetricsOption = Annotated[bool, typer.Option("--metrics", help="Rank the methods by how faithful they are here.")]
AlphaOption = Annotated[float, typer.Option("--alpha", min=0.0, max=1.0, help="Weight of the colours.")]
StyleOption = Annotated[
    str, typer.Option("--style", metavar="STYLE", help="lecture (the classic Keras overlay) or blend.")
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="N|T,L,B,R",
        help="N: ask about that box, mask or character. T,L,B,R: where the object is, for --metrics.",
    ),
]


def _list_methods(asked: bool) -> None:
    """Prints every method with its own options, family by family."""
    if asked:
        show_methods()
        raise typer.Exit


HelpOptionsOption = Annotated[
    bool,
    typer.Option("--help-options", help="List the methods and their options.", is_eager=True, callback=_list_methods),
]


@loading_options
def command(
    model: ModelArgument,
    images: ImagesArgument,
    method: MethodOption = None,
    target: ClassOption = None,
    box: BoxOption = None,
    of: OfOption = "score",
    region: RegionOption = None,
    mask: MaskOption = None,
    like: LikeOption = None,
    to: ToOption = None,
    against: AgainstOption = None,
    decoder: DecoderOption = None,
    output: OutputOption = None,
    layer: LayerOption = None,
    metrics: MetricsOption = False,
    settings: SetOption = None,
    colormap: ColormapOption = "jet",
    alpha: AlphaOption = 0.4,
    style: StyleOption = "lecture",
    top: TopOption = 3,
    batch: BatchOption = 16,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    help_options: HelpOptionsOption = False,  # noqa: ARG001 - its callback has answered and left
    **loading: Any,
) -> None:
    """Show where in a picture the evidence for an answer lies: a class, a box, a mask, a character, a value.

    Writes each heatmap raw (npy), coloured and laid over the picture, a side-by-side page and result.json.
    """
    from ..engine.pages.explanation import Style
    from ..engine.pictures.read import image_paths
    from ..engine.runs import explain
    from ..engine.runs.events import ImageDone

    number, boxes = _boxes(box or ())
    options = explain.Options(
        method=method,
        target=target,
        box=number,
        of=of,
        region=None if region is None else _box("--region", region),
        mask=mask,
        like=like,
        to=to,
        against=against,
        decoder=decoder,
        output=output,
        layer=layer,
        metrics=metrics,
        boxes=boxes,
        settings=parse_settings(settings),
        style=Style(colormap, alpha, style),
        top=top,
        batch=batch,
        device=device,
    )
    options.check()
    paths = image_paths(images)
    graph = open_model(model, quiet=quiet, **loading)
    folder = out or Path(f"{graph.name}-explained")
    with drawn(quiet) as draw:

        def on_event(event: Event) -> None:
            if isinstance(event, ImageDone):
                say(_in_words(event.row, event.text), quiet)
            draw(event)

        result = explain.run(graph, paths, options, folder, command=command_line(), on_event=on_event)
    if as_json:
        emit_json(result.to_json())
    else:
        if result.ranking:
            show_ranking(result.ranking, len(result.content["images"]), boxes=bool(box), quiet=quiet)
        emit(result.page)
    partly_done(result.failed, len(paths))


def _in_words(row: Mapping[str, Any], sees: str) -> str:
    """What the model sees in a picture, and what was explained of it."""
    explained = ", ".join(dict.fromkeys(f"{entry['class']} ({entry['score']:.3g})" for entry in row["maps"]))
    return f"{row['file']}: sees {sees}; explained: {explained}"


def _boxes(texts: Sequence[str]) -> tuple[int | None, list[Box]]:
    """The number that is asked about, and the places of objects."""
    numbers = [int(text) for text in texts if text.isascii() and text.isdigit()]
    if len(numbers) > 1:
        raise UsageError("--box takes one number; --class top:5 explains several")
    places = [_box("--box", text) for text in texts if not (text.isascii() and text.isdigit())]
    return (numbers[0] if numbers else None), places


def _box(option: str, text: str) -> Box:
    parts = text.split(",")
    if len(parts) != 4 or not all(p.strip().isascii() and p.strip().isdigit() for p in parts):
        raise UsageError(f"{option} '{text}' is not understood; write top,left,bottom,right in pixels")
    top, left, bottom, right = (int(p) for p in parts)
    if top >= bottom or left >= right:
        raise UsageError(f"{option} '{text}' is empty; write top,left,bottom,right in pixels")
    return top, left, bottom, right
