"""``convscope export``: writes the model with its own explanation inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .calling import Call, takes
from .options import JSON, LAYER, QUESTION, QUIET, Group, ModelArgument, option
from .output import emit, emit_json, say

if TYPE_CHECKING:
    from ..engine.export import Exported
    from ..engine.graph.graph import Graph

OPTIONS: Group = {
    "out": option(
        Path | None, None, "--out -o", "The new file; default MODEL-METHOD.onnx or MODEL-explained.onnx.",
        metavar="FILE",
    ),
    "method": option(
        str | None, None, "--method -m",
        "gradcam, gradcam++, hirescam, odam, xgradcam, layercam, cam, saliency, inputxgradient or integratedgradients; "
        "default gradcam, of detectors odam, of text hirescam.", metavar="NAME", show_default=False,
    ),
    "layer": LAYER,
    "target": option(
        str | None, None, "--target -t",
        "Always this: a class, unit:LAYER:UNIT[@ROW,COLUMN] or output:NAME:INDEX; default what it is asked for.",
        metavar="TARGET",
    ),
    **QUESTION,
    "class_input": option(
        bool, False, "--class-input", "What asks (class, box) has to be given: for runtimes without optional inputs."
    ),
    "resize": option(str | None, None, "--resize", "The map in the picture's size.", metavar="input"),
    "normalize": option(bool, False, "--normalize", "Divide each map by its largest value."),
    "steps": option(
        int | None, None, "--steps", "Of integratedgradients; default 20.", min=1, show_default=False
    ),
    "web": option(
        Path | None, None, "--web", "A folder with a page that runs the model in a browser.", metavar="DIR"
    ),
    "single_file": option(
        Path | None, None, "--single-file", "The page as one file, to open from disk.", metavar="PAGE.html"
    ),
}  # fmt: skip
_ASKED = ("target", "of", "region", "mask", "like", "to", "against")


@takes(OPTIONS, ending={"as_json": JSON, "quiet": QUIET})
def command(model: ModelArgument, **words: Any) -> None:
    """Write the model with its own explanation inside: an ONNX file that returns its heatmap.

    The file is compared with the twin on eight pictures and three classes each before it is written. With
    --preprocessing inside (or PRESET,inside) it takes pictures as they are, uint8 (N, height, width, 3).
    """
    from ..engine.attribution.batch import Executors
    from ..engine.export import check_method, export, score_of
    from ..engine.runs.reading import Asked

    out, web, single_file = (words.pop(name) for name in ("out", "web", "single_file"))
    call = Call(words)
    how = [word for word in (call.loading["preprocessing"] or "").split(",") if word]
    inside = "inside" in how
    if inside and (web or single_file):
        raise UsageError("--preprocessing inside is not for pages; they do their own, leave it out")
    check_method(words["method"])
    asked = Asked(box=None, **{name: words.pop(name) for name in _ASKED})
    graph = call.open(model, preprocessing=",".join(word for word in how if word != "inside") or None)
    read = {name: words[name] for name in ("decoder", "output")}
    question = asked.question(Executors(graph, **read))
    if web or single_file:  # a page asks wherever the file can be asked
        words["class_input"] |= bool(score_of(graph, question, **read).inputs)
    done = export(
        graph,
        out or Path(f"{graph.name}-{(words['method'] or 'explained').replace('+', 'p')}.onnx"),
        target=question,
        preprocessing="inside" if inside else None,
        progress=lambda stage: say(stage, call.quiet),
        **words,
    )
    for line in done.lines:
        say(line, call.quiet)
    pages = _pages(graph, done, web, single_file, call.quiet)
    if call.as_json:
        emit_json({**done.to_json(), "pages": [str(page) for page in pages]})
    else:
        for path in (done.path, *pages):
            emit(path)


def _pages(graph: Graph, done: Exported, web: Path | None, single_file: Path | None, quiet: bool) -> list[Path]:
    if web is None and single_file is None:
        return []
    from ..engine.export.web import write_folder, write_single_file
    from ..models.onnxruntime_web import runtime_files

    runtime = runtime_files(lambda stage: say(stage, quiet))
    pages = [write_folder(graph, done.path, web, runtime)] if web else []
    return [*pages, write_single_file(graph, done.path, single_file, runtime)] if single_file else pages
