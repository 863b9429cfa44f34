"""What an atlas is of: the model, its layers and recipes, the photographs. Everything else follows from it.

The plan is kept as ``plan.json`` in the folder, so that pages can be made and work be counted without the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RefusedInput, UsageError
from ..activations.fields import FIELDS
from ..activations.folder_pass import picture_names
from ..ascent.making import function_of
from ..ascent.many import Studio
from ..ascent.recipe.presets import PRESETS, Preset, hastened
from ..ascent.settings import Settings, settings
from ..graph.graph import Graph
from ..graph.layers import Layer, ReceptiveField, Tokens
from ..kept import Count, Either, OneOf, Text, Within, fits, from_json
from ..outputs.registry import read_outputs
from ..pictures.photographs import photographs
from ..pictures.read import image_paths
from ..render.artifacts import sha256_of, to_json
from .drawing import drawn_graph
from .files import Files
from .stations import Stations

SCHEMA = 2
FILE = "plan.json"
COARSE, FINE = "coarse", "fine"
COARSE_STEPS, COARSE_SIZE, COARSE_CLASS = 12, 48, 96  # steps; sides of units with a map, and of those without
CHUNK = 64  # photographs; at 24 bytes per unit and photograph a chunk's figures are written in one go


@dataclass(frozen=True)
class Variant:
    """One more fine picture of every unit: by another preset, or of what inhibits the unit."""

    preset: str | Preset
    negative: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the plan and the page have it."""
        return {"preset": _name(self.preset), "negative": self.negative}


@dataclass(frozen=True)
class Wishes:
    """What the user wants of the pictures.

    Attributes:
        preset: of the coarse and fine pictures.
        size: of the fine ones and the variants; None is the preset's own, as for ``steps``.
        steps, seed: as for ``convscope filters``.
        variants: further pictures of every unit.
    """

    preset: str | Preset
    size: int | None = None
    steps: int | None = None
    seed: int = 0
    variants: tuple[Variant, ...] = ()

    def stages(self) -> dict[str, Variant]:
        """The variants by the names of their recipes, ``variant1`` and so on."""
        return {f"variant{i}": variant for i, variant in enumerate(self.variants, 1)}


@dataclass(frozen=True)
class Recipe:
    """How a layer's units are made in one stage.

    Attributes:
        identity: what their pictures are a function of, beside the unit, as from `album.identity`.
        name: of the recipe that suits the layer.
        size: (height, width).
        steps: at most.
        gradients: "float32" or "bfloat16".
    """

    identity: str
    name: str
    size: tuple[int, int]
    steps: int
    gradients: str


@dataclass(frozen=True)
class PlannedLayer:
    """A layer of the atlas with its recipes by stage: coarse, fine, and those of the variants."""

    layer: Layer
    recipes: Mapping[str, Recipe]

    @property
    def units(self) -> int:
        """How many."""
        return self.layer.channels or 0


@dataclass(frozen=True)
class Plan:
    """What the atlas is of.

    Attributes:
        model: facts for the page; ``sha256`` is the graph's.
        layers: in the order of the layer table.
        preset, size, steps, seed: what was wished for, see `Wishes`.
        variants: stage -> {"preset", "negative"} of the further pictures, see `Wishes.stages`.
        device: "cpu" or "cuda".
        k: best photographs per unit.
        field: "map" or "gradient": where a crop shows the reason.
        photographs: (name, sha256) of each, by name.
        shipped: they are the package's own, since the user gave none.
        drawing: the whole graph, as from `drawing.drawn_graph`.
        versions: of what makes the pictures.
        command: the command line that makes the atlas, without where and how it is run.
        opening: how the command line names the model, with all that is stated about it; "" where it does not.
    """

    model: Mapping[str, Any]
    layers: tuple[PlannedLayer, ...]
    preset: str
    size: int | None
    steps: int | None
    seed: int
    variants: Mapping[str, Mapping[str, Any]]
    device: str
    k: int
    field: str
    photographs: tuple[tuple[str, str], ...]
    shipped: bool
    drawing: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    opening: str = ""

    def to_json(self) -> dict[str, Any]:
        """The content of ``plan.json``."""
        return {
            "schema": SCHEMA,
            "model": dict(self.model),
            "layers": [
                {
                    **planned.layer.to_json(),
                    "seen": _table(planned.layer),
                    "recipes": {
                        stage: {
                            "identity": r.identity,
                            "name": r.name,
                            "size": list(r.size),
                            "steps": r.steps,
                            "gradients": r.gradients,
                        }
                        for stage, r in planned.recipes.items()
                    },
                }
                for planned in self.layers
            ],
            "preset": self.preset,
            "size": self.size,
            "steps": self.steps,
            "seed": self.seed,
            "variants": {stage: dict(variant) for stage, variant in self.variants.items()},
            "device": self.device,
            "k": self.k,
            "field": self.field,
            "photographs": [list(pair) for pair in self.photographs],
            "shipped": self.shipped,
            "drawing": dict(self.drawing),
            "versions": dict(self.versions),
            "command": self.command,
            "opening": self.opening,
        }

    @classmethod
    def read(cls, files: Files) -> Plan:
        """The plan of an atlas; raises UsageError where the folder holds none."""
        try:
            found = from_json(files.read(FILE))
            if not fits(found, {"schema": Count()}) or found["schema"] != SCHEMA:
                raise UsageError(f"{files.place} was made by another version of convscope; choose another folder")
            if not _is_plan(found):
                raise ValueError(FILE)
            return cls(
                found["model"],
                tuple(_planned(row) for row in found["layers"]),
                found["preset"],
                found["size"],
                found["steps"],
                found["seed"],
                found["variants"],
                found["device"],
                found["k"],
                found["field"],
                tuple((name, digest) for name, digest in found["photographs"]),
                found["shipped"],
                found["drawing"],
                found["versions"],
                found["command"],
                found.get("opening", ""),
            )
        except FileNotFoundError:
            raise UsageError(f"{files.place} holds no atlas; make one with convscope atlas") from None
        except ValueError:
            raise UsageError(
                f"{files.place}/{FILE} is damaged; make it again with the command that made the atlas"
            ) from None

    def chunks(self) -> list[tuple[tuple[str, str], ...]]:
        """The photographs in the parts that they are measured in."""
        return [self.photographs[i : i + CHUNK] for i in range(0, len(self.photographs), CHUNK)]

    def layer(self, index: int) -> PlannedLayer:
        """The layer of that index in the layer table."""
        return next(planned for planned in self.layers if planned.layer.index == index)


def digest(value: Any) -> str:
    """The SHA-256 of plain values as canonical JSON, hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def unit_id(recipe: Recipe, unit: int) -> str:
    """The hash of what a unit's picture is a function of: its name in the store."""
    return digest([recipe.identity, unit])


def photograph_files(photos: Sequence[str | Path] | str | Path | None) -> tuple[dict[str, Path], bool]:
    """(name -> file of every photograph, whether they are the shipped ones because none were given).

    Raises:
        UsageError: one does not exist, or two have one name.
    """
    if photos is None or (not isinstance(photos, (str, Path)) and not photos):
        return {path.name: path for path in photographs()}, True
    given = [Path(p) for p in ([photos] if isinstance(photos, (str, Path)) else photos)]
    names = picture_names(image_paths(given), given)
    return {name: names[name] for name in sorted(names)}, False


def make_plan(
    graph: Graph,
    photos: Mapping[str, Path],
    *,
    shipped: bool,
    layers: str | Sequence[str] | None,
    wishes: Wishes,
    k: int,
    field: str,
    device: str,
    command: str,
    opening: str = "",
    earlier: Plan | None = None,
) -> Plan:
    """The plan for these wishes; recipes that an earlier plan of the same model holds are not tried again.

    Raises:
        UsageError: a wish that the model or the recipe does not fit.
    """
    chosen = Stations(graph).chosen(layers)
    known = {p.layer.index: p for p in earlier.layers} if earlier is not None else {}
    wanted = _digest_of(graph, wishes, device)
    same = earlier is not None and earlier.model.get("wishes") == wanted
    planned = tuple(
        PlannedLayer(la, known[la.index].recipes)
        if same and la.index in known
        else _with_recipes(graph, la, wishes, device)
        for la in chosen
    )
    return Plan(
        model={**_facts(graph), "wishes": wanted},
        layers=planned,
        preset=_name(wishes.preset),
        size=wishes.size,
        steps=wishes.steps,
        seed=wishes.seed,
        variants={stage: variant.to_json() for stage, variant in wishes.stages().items()},
        device=_kind(device),
        k=k,
        field=field,
        photographs=tuple((name, _sha256(path)) for name, path in photos.items()),
        shipped=shipped,
        drawing=drawn_graph(graph),
        versions=_versions(),
        command=command,
        opening=opening,
    )


def stage_settings(graph: Graph, layer: Layer, stage: str, wishes: Wishes) -> Settings:
    """The settings of a layer's pictures in a stage; coarse ones are never larger nor longer than fine ones.

    A network that does not take pictures as small as the coarse ones gets its own size (`studio`).
    """
    variant = wishes.stages().get(stage)
    if variant is not None:
        return settings(
            graph, layer, preset_name=variant.preset, size=wishes.size, steps=wishes.steps, seed=wishes.seed,
            negative=variant.negative,
        )  # fmt: skip
    fine = settings(graph, layer, preset_name=wishes.preset, size=wishes.size, steps=wishes.steps, seed=wishes.seed)
    if stage == FINE:
        return fine
    side = COARSE_SIZE if layer.is_spatial else COARSE_CLASS
    return settings(
        graph, layer, preset_name=hastened(fine.preset), size=(min(side, fine.size[0]), min(side, fine.size[1])),
        steps=min(COARSE_STEPS, fine.steps), seed=wishes.seed,
    )  # fmt: skip


def studio(graph: Graph, layer: Layer, chosen: Settings, device: str) -> Studio:
    """The studio that makes a layer's pictures; where the network refuses so small a picture, one of its own size."""
    try:
        return Studio(graph, layer, chosen, device=device)
    except UsageError:
        if chosen.size == graph.image_size:
            raise
        from dataclasses import replace

        return Studio(graph, layer, replace(chosen, size=graph.image_size), device=device)


def identity_of(made: Studio) -> str:
    """What a studio's pictures are a function of: the same as an album of ``convscope filters``."""
    return function_of(made, {"neuron": None, "position": None, "photos": None})


def _with_recipes(graph: Graph, layer: Layer, wishes: Wishes, device: str) -> PlannedLayer:
    recipes = {}
    for stage in (COARSE, FINE, *wishes.stages()):
        made = studio(graph, layer, stage_settings(graph, layer, stage, wishes), device)
        recipes[stage] = _recipe(made)
    return PlannedLayer(layer, recipes)


def _recipe(made: Studio) -> Recipe:
    chosen = made.chosen
    return Recipe(identity_of(made), chosen.preset.name, chosen.size, chosen.steps, made.precision)


def _table(layer: Layer) -> Any:
    """The receptive field's intervals, which `Layer.to_json` leaves out; None where a line says them."""
    return None if layer.receptive_field is None else layer.receptive_field.table


def _planned(row: Mapping[str, Any]) -> PlannedLayer:
    """A layer of a plan that `_is_plan`."""
    recipes = {
        stage: Recipe(r["identity"], r["name"], (r["size"][0], r["size"][1]), r["steps"], r["gradients"])
        for stage, r in row["recipes"].items()
    }
    field, grid, seen = row["receptive_field"], row.get("tokens"), None
    if field is not None:
        pair = tuple(field["size"]) if field["size"] is not None else None
        seen = ReceptiveField(pair, tuple(field["stride"]), tuple(field["offset"]), row.get("seen"))
    tokens = None if grid is None else Tokens(**{name: grid[name] for name in _TOKENS if name in grid})
    plain = {name: row[name] for name in _LAYER if name != "shape"}
    return PlannedLayer(Layer(**plain, shape=tuple(row["shape"]), receptive_field=seen, tokens=tokens), recipes)


_SIDE, _PLACES = Count(2**24), Count(2**24, 1)
_BOTH, _NEAR = (_PLACES, _PLACES), Within(2.0**32)
_COMMAND = Text(2**24)  # it may name many photographs
_SHAPE = [Either(None, _SIDE)]
_LAYER = {
    "index": Count(10**6), "name": str, "tensor": str, "node": str, "op": str, "channels": Either(None, Count(10**6)),
    "shape": _SHAPE, "channel_axis": Either(None, Count(64)), "parameters": Count(), "macs": Count(),
}  # fmt: skip
_GRID = {"rows": _PLACES, "columns": _PLACES, "prefix": _SIDE, "count": _SIDE}
_TOKENS = {**_GRID, "slices": _PLACES, "depth": _PLACES}
_FIELD = {"size": Either(None, (_NEAR, _NEAR)), "stride": (_NEAR, _NEAR), "offset": (_NEAR, _NEAR)}
_INTERVALS = [[(_NEAR, _NEAR)]]
_RECIPE = {"identity": str, "name": str, "size": _BOTH, "steps": Count(), "gradients": str}
_PLAN = {
    "model": {
        "name": str, "sha256": str, "labels": Either(None, [str]), "logits": Either(None, Count(10**6)),
        "image_size": _BOTH, "preprocessing": {"resize": str, "crop": Either(None, float)},
        "notes": [str], "opset": Either(None, Count()), "parameters": Count(), "macs": Count(),
        "inputs": [(str, _SHAPE, str)], "file": Either(None, str), "file_sha256": Either(None, str), "format": str,
        "producer": Either(None, str),
    },
    "layers": [{**_LAYER, "receptive_field": Either(None, _FIELD), "recipes": {str: _RECIPE}}],
    "preset": str, "size": Either(None, Count()), "steps": Either(None, Count()), "seed": Count(10**20),
    "variants": {str: {"preset": str, "negative": bool}}, "device": OneOf("cpu", "cuda"), "k": Count(10**6, 1),
    "field": OneOf(*FIELDS), "photographs": [(str, str)], "shipped": bool,
    "drawing": {"nodes": [(str, str, [_SIDE], str)], "edges": [(Count(least=-1), Count())]},
    "versions": {"convscope": str, "torch": str, "numpy": str}, "command": _COMMAND,
}  # fmt: skip


def _is_plan(found: Any) -> bool:
    """Whether what a folder's plan says is of the form that `Plan.to_json` gives it, and hangs together."""
    if not fits(found, _PLAN) or not fits(found.get("opening", ""), _COMMAND):
        return False
    stages, layers, nodes = [COARSE, FINE, *found["variants"]], found["layers"], found["drawing"]["nodes"]
    return (
        list(found["variants"]) == [f"variant{i}" for i in range(1, len(stages) - 1)]
        and len({row["index"] for row in layers}) == len(layers)
        and len({name for name, _ in found["photographs"]}) == len(found["photographs"])
        and all(max(edge) < len(nodes) for edge in found["drawing"]["edges"])
        and all({*stages} <= {*row["recipes"]} and _is_layer(row) for row in layers)
    )


def _is_layer(row: Mapping[str, Any]) -> bool:
    """Whether a layer's row has places to show, beside what every row has."""
    grid, table, axis = row.get("tokens"), row.get("seen"), row["channel_axis"]
    return (
        (row["channels"] is None or (axis is not None and 0 < axis < len(row["shape"])))
        and fits(table, Either(None, (_INTERVALS, _INTERVALS)))
        and all(side and all(side) for side in table or ())
        and fits(grid, Either(None, _GRID))
        and all(fits(grid[name], form) for name, form in _TOKENS.items() if grid is not None and name in grid)
    )


def _digest_of(graph: Graph, wishes: Wishes, device: str) -> str:
    """What the recipes follow from, as a hash."""
    coarse = [COARSE_STEPS, COARSE_SIZE, COARSE_CLASS, repr([hastened(one) for one in PRESETS.values()])]
    wish = [
        graph.sha256, graph.preprocessing.to_json(), repr(wishes), repr(PRESETS), coarse, _kind(device), _versions(),
    ]  # fmt: skip
    return digest(json.loads(to_json(wish)))


def _name(preset: str | Preset) -> str:
    return preset if isinstance(preset, str) else preset.name


def _kind(device: str) -> str:
    from ..executors.devices import torch_device

    return str(torch_device(device).type)


def _versions() -> dict[str, str]:
    import torch

    root = import_module(__name__.split(".")[0])
    return {"convscope": root.__version__, "torch": torch.__version__, "numpy": np.__version__}


def _facts(graph: Graph) -> dict[str, Any]:
    source, classes = graph.source, _classes(graph)
    named = graph.labels is not None and classes is not None and len(graph.labels) == classes.channels
    return {
        "name": graph.name,
        "sha256": graph.sha256,
        "file": source.path,
        "file_sha256": source.sha256,
        "format": source.format,
        "producer": source.producer,
        "opset": source.opset,
        "notes": list(source.notes),
        "inputs": [[spec.name, list(spec.shape), spec.dtype] for spec in graph.inputs],
        "image_size": list(graph.image_size),
        "channels": graph.channels,
        "preprocessing": graph.preprocessing.to_json(),
        "parameters": sum(layer.parameters for layer in graph.layers),
        "macs": sum(layer.macs for layer in graph.layers),
        "labels": list(graph.labels or ()) if named else None,
        "logits": None if classes is None else classes.index,
    }


def _classes(graph: Graph) -> Layer | None:
    """The layer whose units are classes; None of a model that puts out boxes, vectors, text or pictures."""
    if read_outputs(graph).form not in ("classification", "labels", "segmentation", "unknown"):
        return None
    return next((la for la in graph.layers if la.tensor == graph.logits and la.channels), None)


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as exc:
        raise RefusedInput(f"cannot read the photograph {path}: {exc.strerror or exc}") from exc
