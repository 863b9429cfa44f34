"""``convscope export``: writes the model with its own explanation inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .loading import loading_options, open_model
from .options import JsonOption, LayerOption, ModelArgument, QuietOption
from .output import emit, emit_json, say

FileOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="The new file; default MODEL-METHOD.onnx.")
]
MethodOption = Annotated[
    str,
    typer.Option(
        "--method",
        "-m",
        metavar="NAME",
        help="gradcam, gradcam++, hirescam, xgradcam, layercam, cam, saliency, inputxgradient or integratedgradients.",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="Always this: a class, unit:LAYER:UNIT[@ROW,COLUMN] or output:NAME:INDEX; default the class it is given.",
    ),
]
ClassInputOption = Annotated[
    bool, typer.Option("--class-input", help="The class has to be given, for runtimes without optional inputs.")
]
ResizeOption = Annotated[str | None, typer.Option("--resize", metavar="input", help="The map in the picture's size.")]
StepsOption = Annotated[
    int | None, typer.Option("--steps", min=1, help="Of integratedgradients; default 20.", show_default=False)
]
WebOption = Annotated[
    Path | None, typer.Option("--web", metavar="DIR", help="A folder with a page that runs the model in a browser.")
]
SingleFileOption = Annotated[
    Path | None, typer.Option("--single-file", metavar="PAGE.html", help="The page as one file, to open from disk.")
]
NormalizeOption = Annotated[bool, typer.Option("--normalize", help="Divide each map by its largest value.")]


@loading_options
def command(
    model: ModelArgument,
    out: FileOption = None,
    method: MethodOption = "gradcam",
    layer: LayerOption = None,
    target: TargetOption = None,
    class_input: ClassInputOption = False,
    resize: ResizeOption = None,
    normalize: NormalizeOption = False,
    steps: StepsOption = None,
    web: WebOption = None,
    single_file: SingleFileOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Write the model with its own explanation inside: an ONNX file that returns its heatmap.

    The file is compared with the twin on eight pictures and three classes each before it is written. With
    --preprocessing inside (or PRESET,inside) it takes pictures as they are, uint8 (N, height, width, 3).
    """
    from ..engine.export import export
    from ..errors import UsageError

    words = [word for word in (options.get("preprocessing") or "").split(",") if word]
    inside = "inside" in words
    options["preprocessing"] = ",".join(word for word in words if word != "inside") or None
    if inside and (web or single_file):
        raise UsageError("--preprocessing inside is not for pages; they do their own, leave it out")

    graph = open_model(model, quiet=quiet, **options)
    done = export(
        graph,
        out or Path(f"{graph.name}-{method.replace('+', 'p')}.onnx"),
        method,
        layer,
        target=target,
        class_input=class_input or bool((web or single_file) and target is None),
        resize=resize,
        normalize=normalize,
        steps=steps,
        preprocessing="inside" if inside else None,
        progress=lambda stage: say(stage, quiet),
    )
    check = done.verification
    jumps = f", {check.at_kinks} maps at kinks up to {check.kink_difference:.2g}" if check.at_kinks else ""
    where = f"at '{done.layer}'" if done.layer else "of the picture"
    say(
        f"{done.method} {where}: {check.difference:.2g} of the maximum from the twin ({check.pictures} pictures x "
        f"{check.classes} classes{jumps}); {done.added} nodes added to {done.nodes}; {check.time_ratio:.2f} times the "
        "plain model's time",
        quiet,
    )
    if done.preprocessing_difference is not None:
        say(f"preprocessing inside: {done.preprocessing_difference:.2g} grey levels from Python's at most", quiet)
    pages = _pages(graph, done.path, web, single_file, quiet)
    if as_json:
        emit_json({**done.to_json(), "pages": [str(page) for page in pages]})
    else:
        for path in (done.path, *pages):
            emit(path)


def _pages(graph: Any, exported: Path, web: Path | None, single_file: Path | None, quiet: bool) -> list[Path]:
    if web is None and single_file is None:
        return []
    from ..engine.export.web import write_folder, write_single_file
    from ..models.onnxruntime_web import runtime_files

    runtime = runtime_files(lambda stage: say(stage, quiet))
    pages = [write_folder(graph, exported, web, runtime)] if web else []
    return [*pages, write_single_file(graph, exported, single_file, runtime)] if single_file else pages
