"""Pages of one model side by side: a unit's picture, best photographs, weights and statistics lead to each other.

Folders of one parent that hold a result of the same model know each other by their ``result.json``. A run that has
written its page connects all of them, the earlier ones too: a page keeps its links in an element of its own, which is
all that is changed there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...errors import ConvscopeError
from .. import locks
from ..graph.graph import Graph
from ..graph.operators import operator
from ..record import FILE
from ..render.artifacts import read_regular, to_json, write_text

_PAGE = "index.html"
_MOST_FOLDERS, _MOST_BYTES = 256, 1 << 25  # beside a folder, and of a result that is read for its layers
_ELEMENT = re.compile(r'(<script type="application/json" id="links">)(.*?)(</script>)', re.S)
_KEEPING = {"BatchNormalization", "InstanceNormalization", "Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Selu", "Celu"}
_KEEPING |= {"HardSwish", "Sigmoid", "HardSigmoid", "Softplus", "Tanh", "Gelu", "Mish", "Swish", "ThresholdedRelu"}
_JOINING = {"Mul", "Add", "Div", "Sub"}  # keep the units where the other side is a constant, or made of the same ones


@dataclass(frozen=True)
class Held:
    """What a page shows.

    Attributes:
        page: its file.
        label: what it shows of a unit.
        layers: name -> units, like ``0-63,70``, or ``all``.
    """

    page: Path
    label: str
    layers: Mapping[str, str]


def connect(graph: Graph, folder: Path) -> None:
    """Writes into the pages of ``folder`` and of the folders beside it where else their units are shown.

    A folder that another process is writing into is left as it is, and so is all that is no result of this model.
    """
    pages = list(_beside(graph, folder))
    same = same_units(graph)
    for page in pages:
        links = _links(page, [one for one in pages if one.page != page.page], same)
        with suppress(ConvscopeError, OSError, ValueError), locks.locked(page.page.parent):
            text = read_regular(page.page, _MOST_BYTES).decode("utf-8")
            changed = _with_links(text, links)
            if changed != text:
                write_text(page.page, changed)


def _with_links(html: str, links: Mapping[str, Any]) -> str:
    """A page whose element of links holds these; no text in it can end the element."""
    plain = to_json(links, indent=None).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return _ELEMENT.sub(lambda found: f"{found[1]}{plain}{found[3]}", html, count=1)


def same_units(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Layer -> the layers that carry the same units, in order: a convolution, its batch-norm, its activation."""
    made = {layer.tensor: layer for layer in graph.layers}
    root: dict[str, str] = {}

    def find(tensor: str) -> str:
        return root.get(tensor, tensor)

    for node in graph.model.graph.node:
        read = [name for name in node.input if name and graph.index.constant(name) is None]
        if not read:
            continue
        origins = {find(name) for name in read}
        keeps = node.op_type in _KEEPING or operator(node).family == "quantization"
        if (keeps and len(read) == 1) or (node.op_type in _JOINING and len(origins) == 1):
            for name in node.output:
                root[name] = find(read[0])
    groups: dict[str, list[str]] = {}
    for tensor, layer in made.items():
        groups.setdefault(find(tensor), []).append(layer.name)
    return {layer.name: tuple(groups[find(tensor)]) for tensor, layer in made.items()}


def _links(page: Held, others: Sequence[Held], same: Mapping[str, Sequence[str]]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for layer in page.layers:
        for other in others:
            near = next((name for name in (layer, *same.get(layer, ())) if name in other.layers), None)
            if near is not None:
                place = quote(os.fsencode(_relative(other.page, page.page.parent)))
                link = {"label": other.label, "page": place, "layer": near, "units": other.layers[near]}
                found.setdefault(layer, []).append(link)
    return found


def _relative(page: Path, start: Path) -> str:
    return Path(os.path.relpath(page, start)).as_posix()


def _beside(graph: Graph, folder: Path) -> Iterator[Held]:
    """The pages of the model in ``folder`` and the folders beside it."""
    folder = folder.absolute()
    try:
        beside = [one for one in sorted(folder.parent.iterdir()) if one != folder][:_MOST_FOLDERS]
    except OSError:  # a folder that may be written into below one that may not be read
        beside = []
    for one in (folder, *beside):
        if one.is_dir() and not one.is_symlink():
            yield from _held(graph, one)


def _held(graph: Graph, folder: Path, inside: bool = False) -> list[Held]:
    """The pages of a result's folder; none where it is of another model, or no result that shows units.

    Args:
        graph: the model.
        folder: of the result.
        inside: whether it is a part of another result, which has no further parts.
    """
    file, page = folder / FILE, folder / _PAGE
    try:
        if not file.is_file() or not page.is_file():
            return []
        result = json.loads(read_regular(file, _MOST_BYTES))
        if result["model"]["sha256"] != graph.sha256:
            return []
        return _pages(graph, result, page, inside)
    except (OSError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RecursionError):
        return []


def _pages(graph: Graph, result: Mapping[str, Any], page: Path, inside: bool) -> list[Held]:
    layers = result.get("layers")
    if isinstance(result.get("layer"), str) and isinstance(result.get("units"), list):
        return [Held(page, "its picture", {result["layer"]: _ranges(row["unit"] for row in result["units"])})]
    if not isinstance(layers, list) or not layers:
        return []
    first = layers[0]
    if "folder" in first:
        names = [] if inside else dict.fromkeys(str(row["folder"]) for row in layers)
        parts = [page.parent / name for name in names if name not in (".", "..") and Path(name).name == name]
        return [one for part in parts if not part.is_symlink() for one in _held(graph, part, inside=True)]
    if "filters" in first:
        return [Held(page, "its weights", {la["layer"]: _ranges(f["unit"] for f in la["filters"]) for la in layers})]
    if "histogram_edges" in first:
        return [Held(page, "its statistics", {la["layer"]: "all" for la in layers})]
    if "k" in result:
        each = {la["layer"]: _ranges(unit["unit"] for unit in la["units"]) for la in layers}
        return [Held(page, "its best photographs", each)]
    if result.get("images") and "grid" in result["images"][0]["layers"][0]:
        each = {la["layer"]: _ranges(la["units"]) for la in result["images"][0]["layers"]}
        return [Held(page, "its feature maps", each)]
    return []


def _ranges(units: Any) -> str:
    """Numbers as ``0-63,70``."""
    parts: list[list[int]] = []
    for unit in sorted({int(u) for u in units}):
        if parts and parts[-1][1] == unit - 1:
            parts[-1][1] = unit
        else:
            parts.append([unit, unit])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
