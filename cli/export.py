"""``convscope export``: writes the model with its own explanation inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .loading import loading_options, open_model
from .options import (
    AgainstOption,
    DecoderOption,
    JsonOption,
    LayerOption,
    LikeOption,
    MaskOption,
    ModelArgument,
    OfOption,
    OutputOption,
    QuietOption,
    RegionOption,
    ToOption,
    parse_box,
)
from .output import emit, emit_json, say

if TYPE_CHECKING:
    from ..engine.export import Exported
    from ..engine.graph.graph import Graph

FileOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="FILE", help="The new file; default MODEL-METHOD.onnx or MODEL-explained.onnx."
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        "-m",
        metavar="NAME",
        help="gradcam, gradcam++, hirescam, odam, xgradcam, layercam, cam, saliency, inputxgradient or "
        "integratedgradients; default gradcam, of detectors odam, of text hirescam.",
        show_default=False,
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="Always this: a class, unit:LAYER:UNIT[@ROW,COLUMN] or output:NAME:INDEX; default what it is asked for.",
    ),
]
ClassInputOption = Annotated[
    bool,
    typer.Option("--class-input", help="What asks (class, box) has to be given: for runtimes without optional inputs."),
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
    method: MethodOption = None,
    layer: LayerOption = None,
    target: TargetOption = None,
    of: OfOption = "score",
    region: RegionOption = None,
    mask: MaskOption = None,
    like: LikeOption = None,
    to: ToOption = None,
    against: AgainstOption = None,
    decoder: DecoderOption = None,
    output: OutputOption = None,
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
    from ..engine.attribution.batch import Executors
    from ..engine.export import export, score_of
    from ..engine.runs.reading import Asked
    from ..errors import UsageError

    words = [word for word in (options.get("preprocessing") or "").split(",") if word]
    inside = "inside" in words
    options["preprocessing"] = ",".join(word for word in words if word != "inside") or None
    if inside and (web or single_file):
        raise UsageError("--preprocessing inside is not for pages; they do their own, leave it out")

    corners = None if region is None else parse_box("--region", region)
    asked = Asked(target, None, of, corners, mask, like, to, against)
    graph = open_model(model, quiet=quiet, **options)
    question = asked.question(Executors(graph, decoder=decoder, output=output))
    named = (method or "explained").replace("+", "p")
    asks = bool(web or single_file) and bool(score_of(graph, question, decoder, output).inputs)
    done = export(
        graph,
        out or Path(f"{graph.name}-{named}.onnx"),
        method,
        layer,
        target=question,
        class_input=class_input or asks,
        resize=resize,
        normalize=normalize,
        steps=steps,
        preprocessing="inside" if inside else None,
        decoder=decoder,
        output=output,
        progress=lambda stage: say(stage, quiet),
    )
    say(_in_words(done), quiet)
    if done.constants:
        say(f"inputs beside the picture are constants of the file: {', '.join(done.constants)}", quiet)
    if done.preprocessing_difference is not None:
        say(f"preprocessing inside: {done.preprocessing_difference:.2g} grey levels from Python's at most", quiet)
    pages = _pages(graph, done, web, single_file, quiet)
    if as_json:
        emit_json({**done.to_json(), "pages": [str(page) for page in pages]})
    else:
        for path in (done.path, *pages):
            emit(path)


def _in_words(done: Exported) -> str:
    """What the file is, and how it was proven."""
    check = done.verification
    jumps = f", {check.at_kinks} maps at kinks up to {check.kink_difference:.2g}" if check.at_kinks else ""
    where = f"at '{done.layer}'" if done.layer else "of the picture"
    read = f"outputs: {done.reading}; " if done.reading else ""
    asks = f"; it is asked by {', '.join(done.inputs)}" if done.inputs else ""
    return (
        f"{read}{done.method} {where}: {check.difference:.2g} of the maximum from the twin ({check.compared}{jumps}); "
        f"{done.added} nodes added to {done.nodes}; {check.time_ratio:.2f} times the plain model's time{asks}"
    )


def _pages(graph: Graph, done: Exported, web: Path | None, single_file: Path | None, quiet: bool) -> list[Path]:
    if web is None and single_file is None:
        return []
    from ..engine.export.web import write_folder, write_single_file
    from ..models.onnxruntime_web import runtime_files

    runtime = runtime_files(lambda stage: say(stage, quiet))
    pages = [write_folder(graph, done.path, web, runtime)] if web else []
    return [*pages, write_single_file(graph, done.path, single_file, runtime)] if single_file else pages
