"""``convscope explain``: heatmaps of what speaks for a class, and a ranking of the methods by faithfulness."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from .common import (
    BatchOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    LayerOption,
    ModelArgument,
    OutOption,
    QuietOption,
    clean,
    loading_options,
    open_model,
)
from .explain_job import Job, finish, run

MethodOption = Annotated[
    str, typer.Option("--method", "-m", metavar="NAME,...", help="gradcam, layercam, integratedgradients, ... or all.")
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
ColormapOption = Annotated[str, typer.Option("--colormap", metavar="NAME", help="jet, turbo, viridis, magma, ...")]
AlphaOption = Annotated[float, typer.Option("--alpha", min=0.0, max=1.0, help="Weight of the colours.")]
StyleOption = Annotated[
    str, typer.Option("--style", metavar="STYLE", help="lecture (the classic Keras overlay) or blend.")
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="T,L,B,R", help="Where the object is, pixels of the model's input; for --metrics."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A method's own option, like steps=100.")
]
TopOption = Annotated[int, typer.Option("--top", min=1, help="Predictions to report.")]


@loading_options
def command(
    model: ModelArgument,
    images: ImagesArgument,
    method: MethodOption = "gradcam",
    wanted: ClassOption = None,
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
    **options: Any,
) -> None:
    """Show where in a picture the evidence for a class lies.

    Writes each heatmap raw (npy), coloured and laid over the picture, a side-by-side page and result.json.
    """
    from ..engine.attribution.registry import find_methods
    from ..engine.pages.explanation import Style
    from ..engine.pictures.read import image_paths
    from ..engine.render import colormaps, overlay

    methods = find_methods(method)
    colormaps.table(colormap)
    if style not in overlay.STYLES:
        raise UsageError(f"--style '{style}' is unknown; choose {' or '.join(overlay.STYLES)}")
    boxes = [_box(text) for text in box or ()]
    paths = image_paths(images)
    graph = open_model(model, quiet=quiet, **options)
    job = Job(
        graph=graph,
        methods=methods,
        every="all" in [m.strip().lower() for m in method.split(",")],
        wanted=wanted,
        layer=layer,
        metrics=metrics,
        boxes=boxes,
        settings=_settings(settings or ()),
        style=Style(colormap, alpha, style),
        top=top,
        folder=out or Path(f"{graph.name}-explained"),
        quiet=quiet,
    )
    run(job, paths, batch, device)
    finish(job, len(paths), as_json)


def _box(text: str) -> tuple[int, int, int, int]:
    parts = text.split(",")
    if len(parts) != 4 or not all(p.strip().isascii() and p.strip().isdigit() for p in parts):
        raise UsageError(f"--box '{text}' is not understood; write top,left,bottom,right in pixels")
    top, left, bottom, right = (int(p) for p in parts)
    if top >= bottom or left >= right:
        raise UsageError(f"--box '{text}' is empty; write top,left,bottom,right in pixels")
    return top, left, bottom, right


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise UsageError(f"--set '{clean(text)}' is not understood; write NAME=VALUE")
        found[name] = _number(value)
    return found


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
