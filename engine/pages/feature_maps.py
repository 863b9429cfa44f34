"""Feature maps of pictures: the numbers of every layer, and in a folder a grid per picture and layer, and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..graph.graph import Graph
from ..graph.layers import Layer
from ..graph.units import parse_units
from ..pictures.read import Picture, read_image
from ..record import Record, write
from ..render.activation_grids import channel_grid, dense_grid, grid_shape
from ..render.artifacts import save_png, unique, write_text
from .siblings import connect
from .template import data_uri, render_page

PAGE_IMAGES = 12  # a page holds its pictures inside; more would be slow to open
_EXACT = 640  # pixels
_Drawn = tuple[dict[str, Any], np.ndarray, dict[str, Any]]  # a layer's entry, its grid, what the page says of its units


@dataclass(frozen=True)
class Grids:
    """How grids are drawn.

    Attributes:
        scale, colormap, per_row: see `render.activation_grids`.
        wanted: draw them at all.
    """

    scale: str
    colormap: str
    per_row: int
    wanted: bool = True


class FeatureMaps:
    """What is shown of pictures, one after the other.

    Args:
        graph: the model.
        layers: those that are shown.
        units: of every layer, as ``--units`` writes them; of ``top:N`` the N of the highest mean in each picture.
        grids: how they are drawn.
        folder: where they go; None draws nothing.
        record: what made them.

    Attributes:
        images: the rows of ``result.json`` so far.
        drawn: whether there are grids and a page.
    """

    def __init__(
        self,
        graph: Graph,
        layers: Sequence[Layer],
        units: str | int | Sequence[int],
        grids: Grids,
        folder: Path | None,
        record: Record,
    ) -> None:
        self._graph, self._layers, self._units, self._grids = graph, layers, units, grids
        self._folder, self._record = folder, record
        self.images: list[dict[str, Any]] = []
        self.drawn = grids.wanted and folder is not None
        self._entries: list[dict[str, Any]] = []  # of the page
        self._names: set[str] = set()

    def add(self, path: Path, values: Mapping[str, np.ndarray], picture: Picture | None) -> dict[str, Any]:
        """The row of one picture; draws its grids where there is a folder.

        Args:
            path: its file, or what stands for it.
            values: layer name -> (C, H, W) or (C,).
            picture: the picture where it is no file.
        """
        into = unique(path.stem, self._names)
        units = {layer.name: self._shown(layer, values[layer.name]) for layer in self._layers}
        rows = [_numbers(layer, units[layer.name], values[layer.name]) for layer in self._layers]
        self.images.append({"file": str(path), "layers": rows})
        if self.drawn:
            drawn = [
                self._draw(layer, row, values[layer.name][units[layer.name]], into)
                for layer, row in zip(self._layers, rows, strict=True)
            ]
            if len(self._entries) < PAGE_IMAGES:
                self._entries.append(_page_entry(picture or read_image(path), drawn))
        return self.images[-1]

    def finish(self, saved: Path | None, failed: Sequence[Mapping[str, str]]) -> tuple[dict[str, Any], Path | None]:
        """The object of ``result.json``, and the page; both are written where there is a folder.

        Args:
            saved: the file of the arrays.
            failed: the pictures that could not be read.

        Returns:
            Without grids the path of ``result.json`` stands for the page.
        """
        layers = [layer.to_json() for layer in self._layers]
        found = {"scale": self._grids.scale, "layers": layers, "images": self.images, "saved": saved and saved.name}
        content = self._record.to_json(found, failed)
        if self._folder is None:
            return content, None
        last = write(self._folder, content)
        if not self.drawn:
            return content, last
        html = render_page(
            "activations.html",
            title=f"{self._graph.name} · activations",
            facts={"images": len(self.images), "layers": len(self._layers), "scale": self._grids.scale},
            command=self._record.command or "",
            data={"images": self._entries, "total": len(self.images), "summary": self._summary()},
        )
        page = write_text(self._folder / "index.html", html)
        connect(self._graph, self._folder)
        return content, page

    def _shown(self, layer: Layer, values: np.ndarray) -> list[int]:
        asked = parse_units(self._units, layer.channels or 0)
        if asked.top is None:
            return list(asked.indices)
        means = values.reshape(len(values), -1).mean(axis=1)
        return [int(u) for u in (-means).argsort(kind="stable")[: asked.top]]

    def _draw(self, layer: Layer, row: dict[str, Any], values: np.ndarray, into: str) -> _Drawn:
        """Writes a layer's grid and names it in its row."""
        assert self._folder is not None
        draw = channel_grid if values.ndim == 3 else dense_grid
        grid = draw(values, self._grids.scale, self._grids.colormap, self._grids.per_row)
        row["grid"] = f"{into}/{layer.index:03d}-{unique(layer.name, set())}.png"
        text = self._record.png_text(layer=layer.name, scale=self._grids.scale)
        save_png(self._folder / row["grid"], grid, text)
        flat = values.reshape(len(values), -1)
        numbers = {"means": _short(flat.mean(axis=1)), "maxima": _short(flat.max(axis=1))}
        return row, grid, {**numbers, "sheet": grid_shape(values, self._grids.per_row)}

    def _summary(self) -> list[dict[str, Any]]:
        """The model's table, as in ``convscope info``, with the layers that the page shows marked."""
        shown = {layer.name for layer in self._layers}
        return [
            {
                "name": layer.name,
                "op": layer.op,
                "shape": " x ".join("?" if s is None else str(s) for s in layer.shape[1:]),
                "parameters": layer.parameters,
                "shown": layer.name in shown,
            }
            for layer in self._graph.layers
        ]


def _numbers(layer: Layer, units: list[int], values: np.ndarray) -> dict[str, Any]:
    """A layer's entry for ``result.json``."""
    values = values[units]
    return {
        "layer": layer.name,
        "units": units,
        "mean": float(values.mean()),
        "max": float(values.max()),
        "zero_share": float((values == 0).mean()),
        "grid": None,
    }


def _page_entry(picture: Picture, layers: Sequence[_Drawn]) -> dict[str, Any]:
    return {
        "name": Path(picture.path).name,
        "picture": data_uri(picture.pixels, longest=320),
        "layers": [
            {**row, **more, "sheet": {**more["sheet"], "picture": _embedded(grid)}} for row, grid, more in layers
        ],
    }


def _short(values: np.ndarray) -> list[float]:
    """Four significant digits, as the page needs them."""
    return [float(f"{v:.4g}") for v in values]


def _embedded(picture: np.ndarray) -> str:
    """A grid for the page: without loss where single pixels are seen, since chroma would bleed between them."""
    if max(picture.shape[:2]) <= _EXACT:
        return data_uri(picture, format="png")
    return data_uri(picture, longest=1600, quality=80)
