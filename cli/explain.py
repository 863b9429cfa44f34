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
    DeviceOption,
    ImagesArgument,
    JsonOption,
    LayerOption,
    ModelArgument,
    OutOption,
    QuietOption,
    SetOption,
    TopOption,
    parse_settings,
)
from .output import command_line, emit, emit_json, partly_done, predictions_in_words, say
from .progress import drawn
from .tables import show_methods, show_ranking

if TYPE_CHECKING:
    from ..engine.runs.events import Event
    from ..engine.runs.explain import Box

MethodOption = Annotated[
    str,
    typer.Option(
        "--method",
        "-m",
        metavar="NAME,...",
        help="gradcam, layercam, integratedgradients, ... or all; --help-options lists them.",
        autocompletion=completion.methods,
    ),
]
ClassOption = Annotated[
    str | None,
    typer.Option(
        "--class",
        "-c",
        metavar="CLASS",
        help="Name, index, top:3, unit:LAYER:UNIT[@ROW,COLUMN] or output:NAME:INDEX; default the predicted class.",
    ),
]
MetricsOption = Annotated[bool, typer.Option("--metrics", help="Rank the methods by how faithful they are here.")]
AlphaOption = Annotated[float, typer.Option("--alpha", min=0.0, max=1.0, help="Weight of the colours.")]
StyleOption = Annotated[
    str, typer.Option("--style", metavar="STYLE", help="lecture (the classic Keras overlay) or blend.")
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="T,L,B,R", help="Where the object is, pixels of the model's input; for --metrics."),
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
    method: MethodOption = "gradcam",
    target: ClassOption = None,
    layer: LayerOption = None,
    metrics: MetricsOption = False,
    box: BoxOption = None,
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
    help_options: HelpOptionsOption = False,
    **loading: Any,
) -> None:
    """Show where in a picture the evidence for a class lies.

    Writes each heatmap raw (npy), coloured and laid over the picture, a side-by-side page and result.json.
    """
    from ..engine.pages.explanation import Style
    from ..engine.pictures.read import image_paths
    from ..engine.runs import explain
    from ..engine.runs.events import ImageDone

    options = explain.Options(
        method=method,
        target=target,
        layer=layer,
        metrics=metrics,
        boxes=_boxes(box or ()),
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
                say(_in_words(event.row), quiet)
            draw(event)

        result = explain.run(graph, paths, options, folder, command=command_line(), on_event=on_event)
    if as_json:
        emit_json(result.to_json())
    else:
        if result.ranking:
            show_ranking(result.ranking, len(result.content["images"]), boxes=bool(box), quiet=quiet)
        emit(result.page)
    partly_done(result.failed, len(paths))


def _in_words(row: Mapping[str, Any]) -> str:
    """What the model sees in a picture, and what was explained of it."""
    explained = ", ".join(dict.fromkeys(f"{entry['class']} ({entry['score']:.3g})" for entry in row["maps"]))
    sees = f"sees {predictions_in_words(row['predictions'])}; " if row["predictions"] else ""
    return f"{row['file']}: {sees}explained: {explained}"


def _boxes(texts: Sequence[str]) -> list[Box]:
    found = []
    for text in texts:
        parts = text.split(",")
        if len(parts) != 4 or not all(p.strip().isascii() and p.strip().isdigit() for p in parts):
            raise UsageError(f"--box '{text}' is not understood; write top,left,bottom,right in pixels")
        top, left, bottom, right = (int(p) for p in parts)
        if top >= bottom or left >= right:
            raise UsageError(f"--box '{text}' is empty; write top,left,bottom,right in pixels")
        found.append((top, left, bottom, right))
    return found
