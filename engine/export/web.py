"""A page that runs an exported model in a browser: a folder for any web server, or one file to open from disk.

Nothing is fetched from elsewhere: the page holds ONNX Runtime for browsers, the model and the preprocessing. Its
content security policy forbids every connection (one file), or all but its own folder's. Names out of model files are
text: JSON in a script element that is no program, and ``textContent``.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.labels import ends_in_sigmoid
from ..outputs.boxes import CONFIDENCE, OVERLAP, DetectionReading
from ..outputs.registry import read_outputs
from ..outputs.sequences import SequenceReading
from ..render.artifacts import check_folder, sweep, to_json, to_uint8, write_bytes, write_text
from ..render.colormaps import table
from .interface import source_axes
from .metadata import read_record

RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_PAGE = Path(__file__).parent / "page"
_SCRIPTS = ("preprocess.js", "boxes.js", "text.js", "page.js")
_SUMMARIES = {
    "classes": "Where in a picture is the evidence for a class? Drop a photograph here, then click a class.",
    "boxes": "Where in a picture is the evidence for a box? Drop a photograph here, then click a box in the list.",
    "masks": "Where in a picture is the evidence for a class of a segmentation? Drop a photograph, then click one.",
    "text": "Where in a picture is the evidence for a character? Drop a line of text here, then click a character.",
    "": "Where in a picture is the evidence for the model's answer? Drop a photograph here.",
}
_NAMELESS = " The file does not name its symbols; &lt;12&gt; is number 12 of them."
_HEADINGS = {
    "classes": "The likeliest classes",
    "boxes": "Boxes",
    "masks": "The largest classes, and their share of the picture",
    "text": "What is read",
}
_LISTS = {
    "classification": "classes", "labels": "classes", "segmentation": "masks", "detection": "boxes", "text": "text",
}  # fmt: skip


def write_folder(graph: Graph, exported: Path, folder: str | os.PathLike[str], runtime: Mapping[str, bytes]) -> Path:
    """``index.html`` with everything that it needs beside it; any web server will do.

    Args:
        graph: what the file was exported from.
        exported: the file; its ``class`` has to be an input that is given (`export` with ``class_input``).
        folder: taken as it is; files of the same names are replaced.
        runtime: the bytes of `RUNTIME`.

    Returns:
        The page's path.

    Raises:
        UsageError: the model takes no pictures in gray or colour.
    """
    info = _info(graph, exported)
    check_folder(folder)
    sweep(folder, everywhere=False)
    for name in RUNTIME:
        write_bytes(Path(folder) / name, runtime[name])
    for name in _SCRIPTS:
        write_bytes(Path(folder) / name, (_PAGE / name).read_bytes())
    write_bytes(Path(folder) / "model.onnx", exported.read_bytes())
    scripts = "\n".join(f'<script src="{name}"></script>' for name in (RUNTIME[0], *_SCRIPTS))
    policy = "script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
    return write_text(Path(folder) / "index.html", _page(graph, info, policy, "", scripts))


def write_single_file(graph: Graph, exported: Path, path: str | os.PathLike[str], runtime: Mapping[str, bytes]) -> Path:
    """One HTML file that holds everything and opens from disk; arguments as for `write_folder`."""
    info = _info(graph, exported)
    script = runtime[RUNTIME[0]].decode("utf-8").replace("</script", "<\\/script")
    programs = [script, *((_PAGE / name).read_text(encoding="utf-8") for name in _SCRIPTS)]
    hashes = " ".join(f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'" for text in programs)
    held = {"wasm": runtime[RUNTIME[2]], "mjs": runtime[RUNTIME[1]], "model": exported.read_bytes()}
    data = "\n".join(
        f'<script type="application/octet-stream" id="{name}">{_base64(value)}</script>' for name, value in held.items()
    )
    policy = f"script-src {hashes} 'wasm-unsafe-eval' blob:"
    scripts = "\n".join(f"<script>{text}</script>" for text in programs)
    return write_text(path, _page(graph, info, policy, data, scripts))


def _info(graph: Graph, exported: Path) -> dict[str, Any]:
    """What the page's script has to know."""
    import onnx

    if graph.own_input is not None:
        raise UsageError(
            f"{graph.name} takes a signal, a spectrum or a volume; a page shows pictures in gray or colour"
        )
    if len(graph.inputs[0].shape) not in (0, 4) or graph.channels not in (1, 3):
        raise UsageError(f"{graph.name} takes {graph.channels} channels; a page shows pictures in gray or colour")
    model = onnx.load(exported, load_external_data=False)
    record = read_record({p.key: p.value for p in model.metadata_props})
    reading = read_outputs(graph, record.asked.decoder, record.asked.output) if record else read_outputs(graph)
    output = _output(graph, reading.tensors, record.asked.output if record else None)
    is_score = output in reading.tensors or graph.index.producer[output].op_type == "LogSoftmax"  # same softmax
    head = "logits" if is_score and not ends_in_sigmoid(graph) else "probabilities"
    boxes = _boxes(reading) if isinstance(reading, DetectionReading) else None
    return {
        "lists": "" if reading.form == "detection" and boxes is None else _LISTS.get(reading.form, ""),
        "boxes": boxes,
        "text": _text(reading) if isinstance(reading, SequenceReading) else None,
        "input": graph.inputs[0].name,
        "output": output,
        "head": head,
        "size": list(graph.image_size),
        "channels": graph.channels,
        "channels_last": source_axes(graph) is not None,
        "asks": [i.name for i in model.graph.input if i.name in ("class", "box", "character")],
        "preprocessing": graph.preprocessing.to_json(),
        "labels": list(graph.labels) if graph.labels else None,
        "colours": to_uint8(table("turbo")).tolist(),
    }


def _output(graph: Graph, tensors: Sequence[str], asked: str | None) -> str:
    """The file's output that holds what is read: that asked for, the tensor itself, or what a softmax makes of it."""
    names = [spec.name for spec in graph.outputs]
    read = set(tensors)
    behind = [name for name in names if read & graph.index.ancestors([name])]
    last = [name for name in behind if graph.index.producer[name].op_type in ("Softmax", "LogSoftmax", "Sigmoid")]
    wanted = [asked] if asked in names else []
    return next(iter([*wanted, *(name for name in names if name in read), *last, *behind, *names]))


def _boxes(reading: DetectionReading) -> dict[str, Any] | None:
    """How the page finds the boxes in the file's own outputs; None where it cannot."""
    scores, table = reading.scores, reading.table
    outputs = {spec.name for spec in reading.graph.outputs}
    if scores is None or scores.tensor not in outputs or (table is None and reading.grid is None):
        return None
    place: dict[str, Any] = {
        "output": scores.tensor,
        "candidates_first": scores.candidates_first,
        "form": "cxcywh",
        "scale": [1, 1],
    }
    if table is not None:
        first = table.place(1)[0] == (1, 0)
        place = {"output": table.tensor, "candidates_first": first, "form": table.form, "scale": list(table.scale)}
    found: dict[str, Any] = {
        "scores": {f.name: getattr(scores, f.name) for f in fields(scores)} | {"output": scores.tensor},
        "place": place, "thin": reading.thin, "least": CONFIDENCE, "overlap": OVERLAP, "grid": None,
    }  # fmt: skip
    if reading.grid is not None:
        cells, strides = reading.grid
        found["grid"] = np.concatenate([cells, strides], axis=1).astype(int).ravel().tolist()
    for part in (found["scores"], place):  # in the file's own order of axes
        axes = reading.graph.permuted.get(part["output"])
        if axes is not None and list(axes) != sorted(axes):
            part["candidates_first"] = not part["candidates_first"]
    return found


def _text(reading: SequenceReading) -> dict[str, Any]:
    """Where the page finds the line of text in the file's own outputs; a softmax behind the reading's tensor is one."""
    index, tensor = reading.graph.index, reading.tensor
    names = [spec.name for spec in reading.graph.outputs]
    output = tensor if tensor in names else next(name for name in names if tensor in index.ancestors([name]))
    batch = reading.axes.get(tensor, 0) or 0
    rest = [axis for axis in range(3) if axis != batch]
    symbols = rest[reading.axis]
    axes = reading.graph.permuted.get(output) or (0, 1, 2)  # the file has its own order
    return {
        "output": output,
        "time": axes[next(axis for axis in rest if axis != symbols)],
        "symbols": axes[symbols],
        "blank": reading.blank,
        "are_probabilities": reading.log or output != tensor,
        "names": reading.symbols,
    }


def _page(graph: Graph, info: Mapping[str, Any], policy: str, data: str, scripts: str) -> str:
    height, width = graph.image_size
    always = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; media-src blob: mediastream:"
    values = {
        "policy": f"{always}; {policy}; base-uri 'none'; form-action 'none'",
        "title": html.escape(graph.name),
        "summary": _SUMMARIES[info["lists"]] + ("" if not info["text"] or info["text"]["names"] else _NAMELESS),
        "width": str(width),
        "height": str(height),
        "heading": _HEADINGS.get(info["lists"], ""),
        "hidden": "" if info["lists"] else " hidden",
        "colours": ", ".join(f"rgb({r} {g} {b})" for r, g, b in info["colours"][:: 255 // 5]),
        "footer": html.escape(_footer(graph, info["output"])),
        "info": to_json(info, indent=None).replace("<", "\\u003c"),
        "data": data,
        "scripts": scripts,
    }
    parts = (_PAGE / "index.html").read_text(encoding="utf-8").split("{{ ")
    filled = [parts[0]]
    for part in parts[1:]:  # each value goes in once and is not searched again
        name, _, rest = part.partition(" }}")
        filled += [values[name], rest]
    return "".join(filled)


def _footer(graph: Graph, output: str) -> str:
    others = [spec.name for spec in graph.outputs if spec.name != output]
    part = f"; of the model's outputs this page shows '{output}', not {', '.join(others)}" if others else ""
    return f"graph sha256 {graph.sha256}; preprocessing {graph.preprocessing.preset}{part}"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
