"""The page of a comparison: verdict, table of layers, matched units side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compare.result import Comparison
from ..compare.side_by_side import Row
from ..graph.graph import Graph
from .template import data_uri, render_page


def page(graphs: tuple[Graph, Graph], result: Comparison, rows: Sequence[Row], command: str) -> str:
    """The HTML text."""
    a, b = (f"{g.name} ({g.source.format})" for g in graphs)
    numbers = result.to_json()
    return render_page(
        "compare.html",
        title=f"{graphs[0].name} and {graphs[1].name}",
        command=command,
        facts={"A": a, "B": b, "Layers compared": len(result.pairs), "Pictures": result.images},
        data={
            **numbers,
            "where": f"{result.where[:1].upper()}{result.where[1:]}.",
            "nameA": a,
            "nameB": b,
            "rows": [_row(row) for row in rows],
        },
    )


def _row(row: Row) -> dict[str, Any]:
    def side(i: int, layer: str, unit: int) -> dict[str, Any]:
        kernel = row.weights[i]
        return {
            "layer": layer,
            "unit": unit,
            "image": data_uri(row.images[i]),
            "weights": None if kernel is None else data_uri(_enlarged(kernel), format="png"),
            "top": [data_uri(picture, longest=72) for picture in row.top[i]],
        }

    return {
        "a": side(0, row.layer_a, row.unit_a),
        "b": side(1, row.layer_b, row.unit_b),
        "score": row.score,
        "confidence": row.confidence,
    }


def _enlarged(kernel: np.ndarray, side: int = 8) -> np.ndarray:
    """Every weight as a square of 8 pixels."""
    return kernel.repeat(side, axis=0).repeat(side, axis=1)
