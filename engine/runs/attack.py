"""``attack``: the smallest change of a picture that makes the model err."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..attack import METHODS, Attack, gradient_attack, pixel_attack
from ..executors.devices import check_device
from ..graph.graph import Graph
from ..graph.labels import find_class, predictions
from ..outputs.registry import read_outputs
from ..pictures.read import fit
from ..record import Record
from ..render.artifacts import save_npy, save_png, write_json
from ..render.attacked import picture, side_by_side
from ..whole import keep_whole
from .events import Note, OnEvent, Progress, ignore
from .folder import locked
from .opening import Model, opened
from .photograph import read_photo
from .result import Result

_CLASSES = ("classification", "labels")  # forms of outputs that have probabilities
_STEPS = {"pixels": 100, "fgsm": 1, "pgd": 10}


@dataclass(frozen=True)
class Options:
    """How to attack; see `attack.pixel_attack` and `attack.gradient_attack`.

    Attributes:
        method: "pixels", "fgsm" or "pgd".
        pixels, population, batch: of the pixel attack.
        epsilon: of fgsm and pgd.
        steps: of pgd, or generations of the pixel attack, at most; None is 10 and 100. fgsm makes one.
        target: the class to reach, by name or index; None is any other than the present one.
        top: predictions to report.
        seed: the same seed gives the same result.
        device: "auto", "cpu" or "cuda[:n]".
    """

    method: str = "pixels"
    pixels: int = 1
    target: str | int | None = None
    epsilon: float = 8 / 255
    steps: int | None = None
    population: int = 400
    top: int = 3
    batch: int = 64
    seed: int = 0
    device: str = "auto"

    def check(self) -> None:
        """Raises UsageError for an unknown method."""
        check_device(self.device)
        if self.method == "fgsm" and self.steps not in (None, 1):
            raise UsageError(f"steps={self.steps}: fgsm makes one step; use method=pgd for more")
        if self.method not in METHODS:
            raise UsageError(f"method='{self.method}' is unknown; choose one of {', '.join(METHODS)}")
        others = ("epsilon",) if self.method == "pixels" else ("pixels", "population", "batch")
        for name in others:  # of the other kind of attack
            if getattr(self, name) != getattr(Options, name):
                raise UsageError(f"{name}= means nothing for method={self.method}; leave it out")
        if self.seed is None:
            raise UsageError("seed None is not a whole number")
        keep_whole(self, pixels=1, seed=0, population=5, top=1, batch=1, steps=1)

    @property
    def count(self) -> int:
        """How many steps or generations there are at most."""
        return _STEPS[self.method] if self.steps is None else self.steps


@dataclass(frozen=True, eq=False, repr=False)
class Attacked(Result):
    """The result of `run`.

    Attributes:
        attack: the attacked picture and what the model makes of it.
        picture: its PNG, where there is a folder.
    """

    attack: Attack | None = None
    picture: Path | None = None

    @property
    def paths(self) -> Sequence[Path]:
        """The attacked picture."""
        return () if self.picture is None else (self.picture,)


def run(
    model: Model,
    image: Any,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Attacked:
    """Changes one pixel, or a little of every pixel, until the model sees another class.

    A failed attack is a result too: the model withstood it.

    Args:
        model: from `convscope.load`, or what opens it.
        image: one picture, as for `given.sources`.
        options: default one pixel.
        folder: writes the attacked picture at the model's input size, the two side by side, the values, and
            ``NAME-METHOD.json`` there, so that a folder holds many attacks.
        command: what the record says made it.
        on_event: told of every generation or step, and of the outcome.

    Raises:
        UsageError: wrong use, or a model that is no classifier. RefusedInput: the picture cannot be read.
    """
    options = options or Options()
    options.check()
    graph = opened(model, folder, on_event, image)
    target = None if options.target is None else find_class(graph, options.target)
    photo = read_photo(image, graph)
    with locked(folder):
        is_classes = read_outputs(graph, device=options.device).form in _CLASSES
        found = _attack(graph, fit(photo.pixels, graph), target, options, is_classes, on_event)
        before, after = (_strongest(graph, logits, options, is_classes) for logits in (found.before, found.after))
        stem = f"{Path(photo.name).stem}-{found.method}"
        record = Record.of(graph, command)
        content = record.to_json(
            {
                "file": photo.name,
                **found.to_json(),
                "seed": options.seed,
                "before": before,
                "after": after,
                "picture": None if folder is None else f"{stem}.png",
            }
        )
        shown = None if folder is None else _write(folder, stem, found, content, record, options)
    on_event(Note(_in_words(graph, found, before, after)))
    return Attacked(content, None, found, shown)


def _strongest(graph: Graph, logits: np.ndarray, options: Options, is_classes: bool) -> list[dict[str, Any]]:
    """The classes, best first; numbers of unknown meaning are no probabilities and stay what they are."""
    if is_classes:
        return [asdict(p) for p in predictions(graph, logits, options.top)]
    order = np.argsort(-logits, kind="stable")[: options.top]
    return [{"index": int(i), "name": f"value {i}", "value": float(logits[i])} for i in order]


def _attack(
    graph: Graph, pixels: Any, target: int | None, options: Options, is_classes: bool, on_event: OnEvent
) -> Attack:
    count = options.count
    if options.method == "pixels":
        on_event(Progress("attacking", 0, count, "generations"))
        return pixel_attack(
            graph,
            pixels,
            pixels=options.pixels,
            target=target,
            population=options.population,
            iterations=count,
            seed=options.seed,
            device=options.device,
            batch=options.batch,
            progress=lambda done, best: on_event(
                Progress(
                    "attacking", done, count, "generations", detail=f"probability {best:.3f}" if is_classes else ""
                )
            ),
        )
    on_event(Progress("attacking", 0, count, "steps"))
    return gradient_attack(
        graph,
        pixels,
        method=options.method,
        epsilon=options.epsilon,
        steps=count,
        target=target,
        seed=options.seed,
        device=options.device,
        progress=lambda done: on_event(Progress("attacking", done, count, "steps")),
    )


def _write(folder: Path, stem: str, found: Attack, content: dict[str, Any], record: Record, options: Options) -> Path:
    text = record.png_text(method=found.method, seed=options.seed)
    shown = save_png(folder / f"{stem}.png", picture(found.attacked), text)
    save_png(folder / f"{stem}.compare.png", side_by_side(found), text)
    save_npy(folder / f"{stem}.npy", found.attacked)
    write_json(folder / f"{stem}.json", content)
    return shown


def _in_words(graph: Graph, found: Attack, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    was, now = (_with_number(seen[0]) for seen in (before, after))
    changed = f"{len(found.changed)} pixels changed by up to {found.distance:.3f}"
    if "value" in before[0]:
        verb = "now gives most to" if found.success else "withstands the attack and still gives most to"
    else:
        verb = "now sees" if found.success else "withstands the attack and still sees"
    return f"{was}: {graph.name} {verb} {now}; {changed}"


def _with_number(strongest: dict[str, Any]) -> str:
    number = f"{strongest['value']:.4g}" if "value" in strongest else f"{strongest['probability']:.1%}"
    return f"{strongest['name']} ({number})"
