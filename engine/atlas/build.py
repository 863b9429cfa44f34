"""The public way to an atlas: `atlas`, a run through the stages, each of which does only what is left to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import RefusedInput, UsageError
from ..activations.fields import check_field
from ..ascent.recipe.presets import AUTO, Preset
from ..ascent.recipe.presets import preset as find_preset
from ..graph.graph import Graph
from ..render.artifacts import to_json
from ..runs.events import Note, OnEvent, Progress, Skipped, ignore
from ..whole import check_part
from . import crops, numbers, relations, units
from .compile import CERTIFICATE, certificate_of, compile_atlas
from .files import Files, opened
from .leases import Leases, rest, together
from .plan import COARSE, FILE, FINE, Plan, Variant, Wishes, make_plan, photograph_files, unit_id
from .progress import Pulse, tidy
from .rendering import Block, Renderer, blocks, failures, run_here
from .workers import Work, run_in_processes

VARIANTS = "variants"
STAGES = ("numbers", COARSE, "relations", FINE, VARIANTS)
COARSE_STAGES = STAGES[:3]
EXECUTORS = ("local", "ray")

_TITLES = {
    "certificate": ("proving the import", "models"),
    "numbers": ("measuring on photographs", "photographs"),
    COARSE: ("coarse pictures", "units"),
    "relations": ("relations and crops", "photographs"),
    FINE: ("fine pictures", "units"),
    VARIANTS: ("variants", "pictures"),
    "page": ("writing the page", "units"),
}


@dataclass(frozen=True)
class Atlas:
    """A folder with an atlas.

    Attributes:
        place: the folder, or its address.
        units: how many the plan has.
        counts: units by "ok", "weak", "dead", "coarse" (of these), "weak_coarse" (of both: fine pictures decide) and
            "missing"; empty where no page was made.
        failed: what could not be made, a sentence each.
        late: the time ran out before all was made.
    """

    place: str
    units: int
    counts: Mapping[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    late: bool = False

    @property
    def left(self) -> str:
        """What is not finished, in words."""
        missing, coarse = self.counts.get("missing", 0), self.counts.get("coarse", 0)
        parts = [f"{missing} of {self.units} units are not made"] * (missing > 0)
        parts += [f"{coarse} {'is' if coarse == 1 else 'are'} coarse"] * (coarse > 0)
        return ", ".join(parts) or "some pictures are not made"

    @property
    def page(self) -> str:
        """The address of the page in the folder."""
        return self.place.rstrip("/") + "/index.html"


@dataclass(frozen=True)
class Manner:
    """How an atlas is made; none of it changes what is made.

    Attributes:
        device: "auto", "cpu" or "cuda[:n]".
        workers: processes.
        shard: (i, n), counted from 1: only that part of the photographs and units, and no page.
        budget: seconds for pictures, or None.
        executor: "local" or "ray".
        address: of a running Ray; None starts one on this machine alone.
    """

    device: str = "auto"
    workers: int = 1
    shard: tuple[int, int] | None = None
    budget: float | None = None
    executor: str = "local"
    address: str | None = None

    def check(self) -> None:
        """Raises UsageError for what cannot be."""
        if self.executor not in EXECUTORS:
            raise UsageError(f"executor='{self.executor}' is unknown; choose {' or '.join(EXECUTORS)}")
        if self.workers < 1:
            raise UsageError(f"workers={self.workers} is not positive; give the number of processes")
        check_part(self.shard)


def atlas(
    graph: Graph,
    photos: Sequence[str | Path] | str | Path | None = None,
    folder: str | os.PathLike[str] | Files = "atlas",
    *,
    layers: str | Sequence[str] | None = None,
    preset: str | Preset | Sequence[str | Preset] = AUTO,
    negative: bool = False,
    size: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    k: int = 9,
    field: str = "map",
    stages: Sequence[str] = STAGES,
    albums: Sequence[Path] = (),
    manner: Manner | None = None,
    certify: Callable[[], Mapping[str, Any]] | None = None,
    command: str = "",
    opening: str = "",
    on_event: OnEvent = ignore,
) -> Atlas:
    """A folder that shows every unit of a model: its picture, its best photographs, its numbers, its neighbours.

    The work can stop anywhere, killed or not, and goes on with the same call; every finished piece is kept under the
    hash of what it is a function of, so that other processes and machines may do parts of it. The page is there as
    soon as the coarse pictures are.

    Args:
        graph: from `convscope.load`.
        photos: files and folders to measure units on; None takes the four that ship with convscope.
        folder: where, or an address with a scheme (extra ``[cloud]``).
        layers: names and globs; default every layer that makes units, shown behind its activation.
        preset: a name of `presets.names`, or a `Preset`; default the recipe that suits each layer. Of several the
            first makes the coarse and fine pictures, the others one more picture of every unit each.
        negative: also a picture of what inhibits every unit, by the first preset.
        size: side of the fine pictures; default the preset's, behind a head the model's own.
        steps: of the fine pictures; default the preset's.
        seed: the same seed gives the same pictures.
        k: best photographs per unit.
        field: where a crop shows the reason: "map" or "gradient", see `activations.fields`.
        stages: of `STAGES`, those to do; what others need must have been done before.
        albums: folders of ``convscope filters`` whose pictures are taken over.
        manner: how; default one process without an end of time.
        certify: gives the proof that the model was imported right, as ``adapters.verify`` does; asked once.
        command: the command line that the page names.
        opening: how a command line names the model, with what is stated about it; default its file.
        on_event: told how far each stage is.

    Returns:
        What there is now.

    Raises:
        UsageError: a wish that the model does not fit; the folder holds the atlas of another model; a stage that needs
            another one first. RefusedInput: the model gives NaN, or none of the photographs can be read.
        PartlyDone: the disk is full.
    """
    manner = manner or Manner()
    _check_stages(stages)
    manner.check()
    check_field(field)
    files = opened(folder)
    wishes = wished(preset, negative, size, steps, seed)
    pictures, shipped = photograph_files(photos)
    earlier = _earlier(files, graph)
    plan = make_plan(
        graph, pictures, shipped=shipped, layers=layers, wishes=wishes, k=k, field=field,
        device=manner.device, command=command, opening=opening, earlier=earlier,
    )  # fmt: skip
    text = (to_json(plan.to_json(), indent=None) + "\n").encode()
    if earlier is None or files.read(FILE) != text:
        files.write(FILE, text)
    run = _Run(files, graph, plan, wishes, manner, pictures, on_event)
    with run.pulse:
        counts = run.all(stages, albums, certify)
    return Atlas(files.place, sum(p.units for p in plan.layers), counts, tuple(run.failed.values()), run.late)


def wished(
    preset: str | Preset | Sequence[str | Preset], negative: bool, size: int | None, steps: int | None, seed: int
) -> Wishes:
    """The wishes that a user's words mean; arguments as for `atlas`.

    Raises:
        UsageError: no such preset, or one that is named twice.
    """
    presets = [preset] if isinstance(preset, (str, Preset)) else list(preset)
    if not presets:
        raise UsageError("no preset is named; leave it out for the recipe that suits each layer")
    for number, one in enumerate(presets):
        find_preset(one)
        if one in presets[:number]:
            raise UsageError(f"preset '{one if isinstance(one, str) else one.name}' is named twice; name each once")
    others = [Variant(presets[0], negative=True)] if negative else []
    return Wishes(presets[0], size, steps, seed, (*others, *(Variant(one) for one in presets[1:])))


class _Run:
    """One call of `atlas`."""

    def __init__(
        self,
        files: Files,
        graph: Graph,
        plan: Plan,
        wishes: Wishes,
        manner: Manner,
        pictures: Mapping[str, Path],
        on_event: OnEvent,
    ) -> None:
        self.files, self.graph, self.plan, self.wishes = files, graph, plan, wishes
        self.manner, self.pictures, self.on_event = manner, pictures, on_event
        self.failed: dict[str, str] = {}
        self.late = False
        self.leases = Leases(files)
        self.pulse = Pulse(files, self.leases.owner)
        self._given_up: set[str] = set()  # ids of units that could not be made
        self._end: float | None = None  # of the time for pictures, which begins with the first

    def all(
        self, stages: Sequence[str], albums: Sequence[Path], certify: Callable[[], Mapping[str, Any]] | None
    ) -> dict[str, Any]:
        """The stages, in their order; returns the counts of the page, where one is made."""
        whole = self.manner.shard is None
        if certify is not None and whole:
            self.certify(certify)
        if albums:
            units.take_over(self.files, self.graph, self.plan, albums)
        counts: dict[str, Any] = {}
        for stage in STAGES:
            if stage not in stages:
                continue
            if stage == "numbers":
                self.measure()
            elif stage == "relations" and whole:
                self.relate()
                counts = self.compile(stages)
            elif stage in (COARSE, FINE, VARIANTS):
                self.draw(stage)
        if whole:
            if {FINE, VARIANTS} & {*stages} or not counts:
                counts = self.compile(stages)
            self.leases.tidy()
            tidy(self.files)
            self.files.tidy()
        return counts

    def certify(self, certify: Callable[[], Mapping[str, Any]]) -> None:
        """Keeps the certificate of this very model."""
        if certificate_of(self.files, self.graph.sha256) is not None:
            return
        self._counter("certificate", 1, 0)
        found = {"graph": self.graph.sha256, **certify()}
        self.files.write(CERTIFICATE, to_json(found).encode())

    def measure(self) -> None:
        """The photographs' parts that are not measured yet."""
        chunks = [c for c in self.plan.chunks() if self._is_mine(numbers.chunk_name(self.plan, c).split("/")[-1])]
        left = [c for c in chunks if not self.files.has(numbers.chunk_name(self.plan, c))]
        total = sum(map(len, chunks))
        count = self._counter("numbers", total, total - sum(map(len, left)))

        def measure(chunk: numbers.Chunk) -> None:
            numbers.measure(self.files, self.graph, self.plan, chunk, self.pictures, self.manner.device, count)

        together(self.leases, {numbers.chunk_name(self.plan, c): partial(measure, c) for c in left})
        if self.manner.shard is None:
            self._tell_unread()

    def _tell_unread(self) -> None:
        """Tells of photographs that could not be read; units have nothing to be judged by where that is all of them."""
        figures = numbers.Numbers(self.files, self.plan)
        for name, reason in sorted(figures.failed.items()):
            self.on_event(Skipped(self.pictures[name], RefusedInput(reason)))
        if not figures.names:
            first = next(iter(figures.failed.values()))
            raise RefusedInput(f"none of the {len(figures.failed)} photographs could be read; the first: {first}")

    def draw(self, stage: str) -> None:
        """The pictures of a stage's recipes that are not there yet, as far as the time goes.

        What other runs are at is waited for, and made here if they end without it.
        """
        recipes = list(self.plan.variants) if stage == VARIANTS else [stage]
        if not recipes:
            return
        if self._end is None and self.manner.budget is not None:
            self._end = time.monotonic() + self.manner.budget
        order = self._order()
        spread = self._end is not None or stage != COARSE
        work, looks = self._left(recipes, order, spread), 0
        total = sum(planned.units for planned in self.plan.layers) * len(recipes)
        count = self._counter(stage, total, total - sum(len(block.units) for block in work))
        free = work
        while work and not self._is_late():
            if free:
                failed = self._done(free, count)
                self.failed |= failed
                self._given_up.update(one for block in free if block.name in failed for one in self._ids(block))
            else:
                rest(looks)
                looks += 1
            work = self._left(recipes, order, spread)
            free = [block for block in work if any(map(self.leases.is_free, self._ids(block)))]
            count.to(total - sum(len(block.units) for block in work))
        self.late = self.late or bool(work)

    def _left(self, recipes: Sequence[str], order: Mapping[int, Sequence[int]], spread: bool) -> list[Block]:
        """The blocks of this run's units that are not there."""
        there = units.kept(self.files) | self._given_up
        if COARSE in recipes:  # what a fine picture is there of needs none
            there |= {
                unit_id(planned.recipes[COARSE], unit)
                for planned in self.plan.layers
                for unit in range(planned.units)
                if unit_id(planned.recipes[FINE], unit) in there
            }

        def is_wanted(identity: str) -> bool:
            return identity not in there and self._is_mine(identity)

        return [block for recipe in recipes for block in blocks(self.plan, recipe, is_wanted, order, spread)]

    def _ids(self, block: Block) -> list[str]:
        recipe = self.plan.layer(block.layer).recipes[block.stage]
        return [unit_id(recipe, unit) for unit in block.units]

    def _done(self, work: list[Block], count: Callable[[int], None]) -> dict[str, str]:
        m = self.manner
        others = Work(
            self.files, self.graph, self.plan, self.wishes, m.device, m.workers, work, self._is_late, count,
            self.leases.owner,
        )  # fmt: skip
        if m.executor == "ray":
            from .on_ray import run_on_ray

            return run_on_ray(others, address=m.address)
        if m.workers > 1 and len(work) > 1:
            return run_in_processes(others)
        renderer = Renderer(self.files, self.graph, self.plan, self.wishes, m.device, self.leases)
        return run_here(renderer, work, self._is_late, count)

    def relate(self) -> None:
        """Relations, and where in the best photographs the reason lies."""
        self._check_measured()
        relations.relate(self.files, self.graph, self.plan)
        figures = numbers.Numbers(self.files, self.plan)
        count = self._counter("relations", len(self.plan.photographs), 0)
        crops.find_boxes(
            self.files, self.graph, self.plan, figures, self.pictures, self.manner.device, self.leases, count
        )

    def compile(self, stages: Sequence[str]) -> dict[str, Any]:
        """The page; pictures that a power failure cut, or a hand changed, are made again by the stages of this run."""
        self._check_measured()
        while True:
            count = self._counter("page", sum(planned.units for planned in self.plan.layers), 0)
            try:
                return compile_atlas(self.files, self.plan, count)
            except units.DamagedUnits as found:
                many = f"{len(found.names)} damaged pictures are"
                self.on_event(Note(f"{many if len(found.names) > 1 else '1 damaged picture is'} made again"))
                for name in found.names:
                    self.files.remove(name)
            for stage in (COARSE, FINE, VARIANTS):
                if stage in stages:
                    self.draw(stage)

    def _check_measured(self) -> None:
        missing = [c for c in self.plan.chunks() if not self.files.has(numbers.chunk_name(self.plan, c))]
        if missing:
            raise UsageError(
                f"{sum(map(len, missing))} photographs are not measured in {self.files.place}; "
                "run the stage numbers first, or the other shards"
            )

    def _order(self) -> dict[int, Sequence[int]]:
        """Each layer's units, the most active on the photographs first where these are measured."""
        measured = all(self.files.has(numbers.chunk_name(self.plan, c)) for c in self.plan.chunks())
        figures = numbers.Numbers(self.files, self.plan) if measured and self._end is not None else None
        found: dict[int, Sequence[int]] = {}
        for planned in self.plan.layers:
            order: Sequence[int] = range(planned.units)
            if figures is not None:
                levels = figures.layer(planned.layer).levels
                order = sorted(order, key=lambda unit, levels=levels: (-levels[unit], unit))  # type: ignore[misc]
            found[planned.layer.index] = order
        return found

    def _counter(self, stage: str, total: int, done: int) -> _Counter:
        return _Counter(self.on_event, self.pulse, stage, total, done)

    def _is_mine(self, name: str) -> bool:
        if self.manner.shard is None:
            return True
        part, parts = self.manner.shard
        return int(name[:12], 16) % parts == part - 1

    def _is_late(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end


class _Counter:
    """Adds up what a stage reports."""

    def __init__(self, on_event: OnEvent, pulse: Pulse, stage: str, total: int, done: int) -> None:
        self._on_event, self._pulse, self._total, self._done = on_event, pulse, total, done
        self._title, self._unit = _TITLES[stage]
        self(0)

    def __call__(self, count: int) -> None:
        """So many more are done."""
        self.to(self._done + count)

    def to(self, done: int) -> None:
        """So many are done, by whichever run."""
        self._done = done
        self._pulse.stage(self._title, self._unit, done, self._total)
        self._on_event(Progress(self._title, done, self._total, self._unit))


def _check_stages(stages: Sequence[str]) -> None:
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        raise UsageError(f"stage '{', '.join(unknown)}' is unknown; choose of {', '.join(STAGES)}")


def _earlier(files: Files, graph: Graph) -> Plan | None:
    """The plan in the folder.

    Raises:
        UsageError: it is of another model. ConvscopeError: nothing can be written there.
    """
    files.check()
    if not files.has(FILE):
        return None
    found = Plan.read(files)
    if found.model["sha256"] != graph.sha256:
        raise UsageError(
            f"{files.place} holds the atlas of another model ({found.model['name']}, {found.model['sha256'][:12]}); "
            "choose another folder"
        )
    return found


__all__ = ["EXECUTORS", "STAGES", "Atlas", "Manner", "atlas", "failures"]
