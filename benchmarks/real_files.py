"""Trained files out of public packages, as their user meets them: ``python -m benchmarks.real_files FOLDER``.

FOLDER holds the packages unpacked, one folder each, called like the package; nothing is downloaded here. Each file is
walked from `info` to `explain` without a flag, weights alone with ``--arch``. What it must be (`real_files_cases`) was
read in its own package's code, and what it must give is what ONNX Runtime gives on the original file. Results go line
by line into a JSONL file, so that a walk that was stopped goes on; ``--write`` puts the table into docs/coverage.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import convscope
from convscope.adapters.load import load_here
from convscope.adapters.verify import verify
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.preprocessing import Preprocessing
from convscope.engine.pictures.photographs import photographs
from convscope.engine.pictures.read import model_input, read_image
from convscope.engine.runs import predict
from convscope.errors import ConvscopeError

from .real_files_cases import CASES, Case
from .sweep import put_between, read_lines

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "coverage.md"
RESULTS = ROOT / "build" / "real_files.jsonl"
_BEGIN, _END = "<!-- real files -->", "<!-- /real files -->"
_COLUMNS = ("imported", "verified", "named", "sized", "labels", "preprocessed", "predicted", "from info to explain")
_CLOSE = 1e-3  # of the largest value: as `verify`


def main() -> None:
    """Walks every case whose file is there and that has no result yet, or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--until", type=float, default=float("inf"), metavar="SECONDS", help="for the whole walk")
    parser.add_argument("--only", default="", help="files whose name holds this, again")
    parser.add_argument("--write", action="store_true", help="only write docs/coverage.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["REAL_FILES"] = str(arguments.folder)
    RESULTS.parent.mkdir(exist_ok=True)
    done = _done()
    if arguments.write:
        _write(done)
        return
    deadline = time.monotonic() + arguments.until
    paths = {case: _found(arguments.folder, case) for case in CASES}
    for case, path in sorted(paths.items(), key=_order):
        again = arguments.only and arguments.only in case.file
        if path is None or (not again and ((case.package, case.file) in done or arguments.only)):
            continue
        if time.monotonic() > deadline:
            print("time is up; the same command goes on", file=sys.stderr)
            return
        row = {"package": case.package, "file": case.file, **_walk_or_fault(case, path)}
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(" | ".join(str(value) for value in row.values()), flush=True)


def _order(found: tuple[Case, Path | None]) -> tuple[bool, int]:
    """What takes pictures first, and small files before large ones."""
    case, path = found
    return case.feeds is None, path.stat().st_size if path else 0


def _done() -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["package"], row["file"]): row for row in read_lines(RESULTS)}


def _found(folder: Path, case: Case) -> Path | None:
    name = re.sub(r"[^a-z]", "", case.package.split(" ")[0].lower())
    for path in sorted(folder.rglob(case.file)):
        if any(re.sub(r"[^a-z]", "", part.lower()).startswith(name) for part in path.relative_to(folder).parts):
            return path
    return None


def _walk_or_fault(case: Case, path: Path) -> dict[str, str]:
    """The walk, or what broke in it: a fault of ours must not end the others' walks."""
    try:
        return walk(case, path)
    except Exception as error:
        traceback.print_exc()
        return {"imported": f"FAULT: {type(error).__name__}: {_short(error)}"}


def walk(case: Case, path: Path) -> dict[str, str]:
    """What each station says of a file, by column; one that is refused ends the walk."""
    start = time.process_time()
    try:
        graph = load_here(path, arch=case.arch, check=False)
    except ConvscopeError as error:
        return {"imported": f"no: {_short(error)}"}
    found = {"imported": f"yes, {time.process_time() - start:.1f} s", "verified": _verified(graph)}
    named = 100 * np.mean([not re.fullmatch(r"[\d.:]+|\w+?_\d+", layer.name) for layer in graph.layers])
    size = f"{graph.image_size[0]}x{graph.image_size[1]}"
    wrong = case.size is not None and graph.image_size != case.size
    found["named"] = f"{named:.0f} %"
    found["sized"] = f"{size}, not {case.size[0]}x{case.size[1]}" if wrong and case.size else size
    count = len(graph.labels or ())
    found["labels"] = str(count) if count == case.labels else f"{count}, not {case.labels}"
    found["preprocessed"] = _preprocessed(graph.preprocessing, case.feeds)
    found["predicted"] = _predicted(graph, path)
    found["from info to explain"] = _walked(graph, case)
    return found


def _verified(graph: Graph) -> str:
    try:
        result = verify(graph)
    except ConvscopeError as error:
        return f"no: {_short(error)}"
    source = "" if result.source_rel is None else f", file {result.source_rel:.0e} of {result.source_tensors}"
    return f"{'ok' if result.ok else 'DIFFERENT'}: {result.tensors_compared} tensors{source}"


def _preprocessed(found: Preprocessing, feeds: Preprocessing | None) -> str:
    """Whether a picture arrives as the package's own code feeds it, to a hundredth of its range."""
    if feeds is None:
        return ""
    image = np.random.default_rng(0).random((1, 1 if feeds.order == "GRAY" else 3, 8, 8))
    ours, theirs = found.normalize(image), feeds.normalize(image)
    if np.abs(ours - theirs).max() <= 0.01 * np.ptp(theirs):
        return f"{found.preset} {found.order} ({found.found})"
    return f"{found.preset} {found.order} ({found.found}), not {_name(feeds)}"


def _name(p: Preprocessing) -> str:
    if p.preset != "custom":
        return f"{p.preset} {p.order}"
    return f"(pixel - {p.mean[0]:g}) / {p.std[0]:g}" if p.high > p.low else f"{p.order}, inverted"


def _predicted(graph: Graph, path: Path) -> str:
    """The largest difference of an output from ONNX Runtime's on the original file, on a photograph."""
    if graph.source.format != "onnx" or graph.own_input is not None or graph.channels not in (1, 3):
        return ""
    x = model_input(read_image(photographs()[1]), graph)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if len(inputs) != 1:
        return ""
    axes = graph.permuted.get(graph.inputs[0].name)
    own = x if axes is None else x.transpose(np.argsort(axes))
    feeds = {inputs[0].name: own.round().astype(np.uint8) if inputs[0].type == "tensor(uint8)" else own}
    expected = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    worst = 0.0
    found = graph.session(list(expected), device="cpu").run({graph.inputs[0].name: x})
    for name, value in expected.items():
        moved = graph.permuted.get(name)
        value = value.transpose(moved) if moved is not None else value
        worst = max(worst, float(np.abs(found[name] - value).max() / max(np.abs(value).max(), 1e-3)))
    return f"{worst:.0e}" if worst <= _CLOSE else f"DIFFERENT: {worst:.0e}"


def _walked(graph: Graph, case: Case) -> str:
    """Which commands refuse a photograph, or their own start, and why."""
    picture = photographs()[1]
    stations: dict[str, Callable[[], Any]] = {
        "filters": lambda: convscope.filters(graph, layer=_a_layer(graph), units="0", steps=4),
        "activations": lambda: convscope.activations(graph, picture, layer=[_a_layer(graph)]),
    }
    if case.feeds is not None:
        stations = {
            "predict": lambda: predict.run(graph, picture),
            "explain": lambda: convscope.explain(graph, picture),
            "top": lambda: convscope.top(graph, photographs(), layer=_a_layer(graph), units="0"),
            **stations,
        }
    else:
        del stations["activations"]
    refused = []
    for name, run in stations.items():
        try:
            run()
        except ConvscopeError as error:
            refused.append(f"not {name}: {_short(error)}")
    return "; ".join(refused) or f"yes: {', '.join(stations)}"


def _a_layer(graph: Graph) -> str:
    """A layer in the middle that has feature maps, or units at least."""
    maps = [layer for layer in graph.layers if layer.is_spatial] or [la for la in graph.layers if la.channels]
    return maps[len(maps) // 2].name


def _write(done: dict[tuple[str, str], dict[str, Any]]) -> None:
    lines = ["| file | package | task | exporter | " + " | ".join(_COLUMNS) + " |", "|" + "---|" * (4 + len(_COLUMNS))]
    for case in CASES:
        row = done.get((case.package, case.file))
        cells = ["not measured"] if row is None else [row.get(column, "") for column in _COLUMNS]
        cells += [""] * (len(_COLUMNS) - len(cells))
        lines.append("| " + " | ".join([case.file, case.package, case.task, case.exporter, *cells]) + " |")
    put_between(PAGE, _BEGIN, _END, "\n".join(lines))


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0].replace("|", "/")[-200:]


if __name__ == "__main__":
    main()
