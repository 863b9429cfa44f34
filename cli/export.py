"""``convscope export``: writes the model with its own explanation inside."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import JSON, LAYER, QUESTION, QUIET, Group, ModelArgument, option
from .parsing import inside

OPTIONS: Group = {
    "out": option(
        str | None, None, "--out -o", "The new file; default MODEL-METHOD.onnx or MODEL-explained.onnx.",
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
        "Always this: a class, unit:LAYER:UNIT (@ROW,COLUMN) or output:NAME:INDEX; default what it is asked for.",
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
        str | None, None, "--web", "A folder with a page that runs the model in a browser.", metavar="DIR"
    ),
    "single_file": option(
        str | None, None, "--single-file", "The page as one file, to open from disk.", metavar="PAGE.html"
    ),
}  # fmt: skip


@takes(OPTIONS, ending={"as_json": JSON, "quiet": QUIET})
def command(model: ModelArgument, **words: Any) -> None:
    """Write the model with its own explanation inside: an ONNX file that returns its heatmap.

    The file is compared with the twin on eight pictures and three classes each before it is written. With
    --preprocessing inside (or PRESET,inside) it takes pictures as they are, uint8 (N, height, width, 3).
    """
    from ..engine.runs import export
    from ..models.onnxruntime_web import runtime_files

    words["path"], words["out"] = words["out"], words.pop("web")
    words["preprocessing"], is_inside = inside(words["preprocessing"])
    perform(export, model, words, runtime=runtime_files, preprocessing=is_inside)
