"""An atlas of many units without a model: 64 distinct tiles, repeated."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convscope.engine.atlas.compile import ACROSS, GROUP, Writer
from convscope.engine.atlas.files import Folder

TILE = 112
VARIANTS = {"variant1": True, "variant2": False}  # stage -> whether it is negative


def write_atlas(
    folder: Path,
    units: int = 100_000,
    name: str = "conv",
    labels: list[str] | None = None,
    coarse: bool = False,
    told: bool = True,
    drawn: bool = True,
) -> None:
    """Writes the page of one layer of so many units; unit views are there for the first and the last sheet.

    Args:
        folder: where.
        units: how many.
        name: of the layer, the model, a photograph and everything else that has one.
        labels: of classes.
        coarse: every other picture is a coarse one.
        told: relations and crops were found.
        drawn: the layer has sheets; else none of its other units is made.
    """
    writer = Writer(Folder(folder))
    sheet = _sheet()
    sheets = -(-units // GROUP) if drawn else 0
    for number in range(sheets):
        writer.write(f"s/L0000-{number:03d}.webp", sheet)
    values = [round(0.001 * ((u * 7919) % 1000), 3) for u in range(units)]
    marks = "".join("wd-ooooooo"[u % 10] for u in range(units))
    columns = dict.fromkeys(("act", "photo", "mean", "sparsity", "special"), values)
    stages = "".join("c" if coarse and marks[u] != "-" and u // 10 % 2 else " " for u in range(units))
    writer.layer(0, {"status": marks, "coarse": stages, **columns})
    rows = [_unit(u, units, name) for u in range(GROUP)]
    for number in sorted({0, (units - 1) // GROUP}):
        writer.group(0, number, rows)
    writer.photographs([name])
    for unit in {*range(min(units, 60)), units - 1}:
        writer.write(f"u/L0000/{unit:05d}.webp", sheet)
        for stage in VARIANTS:
            writer.write(_variant_file(unit, stage), sheet)
    writer.write("p/00000.webp", sheet)
    writer.write("s/best-000.webp", sheet)
    writer.manifest_script(_manifest(units, name, labels or [], marks, stages, told, sheets))
    writer.finish()
    write_status(folder, {"running": False})


def write_status(folder: Path, status: dict[str, Any]) -> None:
    """What a run says while it works, see docs/atlas.md."""
    (folder / "d" / "status.js").write_text(f"ATLAS_STATUS({json.dumps(status)});\n", encoding="ascii")


def _sheet() -> bytes:
    rng = np.random.default_rng(0)
    tiles = [
        np.asarray(Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((TILE, TILE)))
        for _ in range(64)
    ]
    rows = [np.concatenate([tiles[(16 * r + c) % 64] for c in range(ACROSS)], axis=1) for r in range(ACROSS)]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(buffer, format="WEBP", quality=60, method=0)
    return buffer.getvalue()


def _variant_file(unit: int, stage: str) -> str:
    return f"u/L0000/{unit:05d}-{stage}.webp"


def _unit(unit: int, units: int, name: str) -> dict[str, Any]:
    return {
        "top": [[0, 0.5, [40, 50, 90, 100], [0, 0, 224, 224]]], "hist": [40, [1, 2, 3]], "active": 0.5,
        "std": 0.0 if unit % 10 == 1 else 0.1, "nan": 0, "near": [[(unit + 1) % units, 0.9]],
        "inputs": [[-2, 0, 0.5, 1.0, "f4GB", [1, 3]]],
        "readers": [[0, 3, 0.25, 1]], "id": "ab" * 32, "size": [128, 128], "steps": 256, "reason": name,
        "rescue": "", "start": 0.0, "curve": [0.0, 1.0],
        "variants": [
            {"stage": stage, "file": _variant_file(unit % min(units, 60), stage),
             "id": "cd" * 32, "preset": name, "size": [128, 128],
             "steps": 256, "status": "ok", "reason": name, "rescue": "", "start": 0.0, "act": 1.5}
            for stage in VARIANTS
        ],
    }  # fmt: skip


def _manifest(
    units: int, name: str, labels: list[str], marks: str, stages: str, told: bool, sheets: int
) -> dict[str, Any]:
    both = sum(pair == ("w", "c") for pair in zip(marks, stages, strict=True))
    counts = {"units": units, "ok": marks.count("o"), "weak": marks.count("w"), "dead": marks.count("d"),
              "coarse": stages.count("c"), "weak_coarse": both, "missing": marks.count("-")}  # fmt: skip
    recipe = {"name": "strongest", "size": [128, 128], "steps": 256}
    layer = {
        "i": 0, "name": name, "tensor": name, "op": "Relu", "units": units, "shape": [units, 14, 14], "sees": [9, 9],
        "tile": TILE, "sheets": sheets, "row": 0, "best": [3, 4], "counts": counts,
        "silent": 1, "always": 2, "alike": 3, "sources": "", "told": told,
        "recipes": {"coarse": recipe, "fine": recipe, **dict.fromkeys(VARIANTS, recipe)},
    }  # fmt: skip
    preprocessing = {"low": 0, "high": 1, "mean": [0, 0, 0], "std": [1, 1, 1], "order": "RGB", "resize": "squash",
                     "preset": name, "found": "assumed", "crop": 1.0}  # fmt: skip
    return {
        "model": {
            "name": name, "sha256": "0" * 64, "file": name, "file_sha256": "0" * 64, "format": "onnx", "opset": 17,
            "producer": name, "notes": [name], "inputs": [[name, [None, 3, 224, 224], "float32"]], "channels": 3,
            "image_size": [224, 224], "preprocessing": preprocessing, "parameters": 1, "macs": 1,
            "logits": 0 if labels else None,
        },
        "labels": labels,
        "certificate": {
            "ok": True, "tensors_compared": 3, "tensors_total": 3, "images": [name], "batch_rel": 0.0,
            "worst": {"tensor": name, "rel": 1e-6}, "bounds": {"rel": 1e-3}, "gradient_rel": None, "source_rel": None,
        },
        "photographs": {"count": 1, "shipped": False, "failed": {name: name}},
        "made": {"preset": name, "size": None, "steps": None, "seed": 0, "device": "cpu", "k": 9,
                 "versions": {"convscope": name}, "command": name},
        "edges": [None, *[float(i) for i in range(74)], None],
        "counts": counts,
        "variants": [{"stage": s, "preset": name, "negative": n, "made": units} for s, n in VARIANTS.items()],
        "fewest": 16,
        "failed": [{"layer": name, "units": [1], "reason": name}],
        "layers": [layer],
        "graph": {"nodes": [[name, "Relu", [3, 4, 4], ""], ["b.0.x", "Conv", [3], "b.0"], ["b.0.y", name, [3], "b.0"]],
                  "edges": [[-1, 0], [0, 1], [1, 2], [0, 2]]},
    }  # fmt: skip
