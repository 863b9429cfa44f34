"""Making pictures: blocks of a layer's units, each unit kept as it is finished, in this process or in others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...errors import ConvscopeError, PartlyDone, UsageError
from ..ascent.many import Studio
from ..graph.graph import Graph
from ..kept import MOST_NAME, Count, fits, from_json
from ..render.artifacts import to_json
from . import units
from .files import Files
from .leases import Leases
from .plan import Plan, Wishes, digest, identity_of, stage_settings, studio, unit_id

# Units of a block, by device: the largest batch on a CPU, and few to lose with a killed process; on a GPU, where a step
# of a few small pictures costs as much as one of many, enough to fill it.
BLOCKS = {"cpu": 16, "cuda": 128}
_FAILED = "store/failed"


@dataclass(frozen=True)
class Block:
    """A piece of work: some units of a layer by the recipe of one stage."""

    layer: int
    stage: str
    units: tuple[int, ...]

    @property
    def name(self) -> str:
        """Tells blocks apart, in every process."""
        return digest([self.layer, self.stage, list(self.units)])

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {"layer": self.layer, "stage": self.stage, "units": list(self.units)}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Block:
        """What `to_json` wrote."""
        return cls(int(row["layer"]), str(row["stage"]), tuple(int(unit) for unit in row["units"]))


class Renderer:
    """Makes the pictures of blocks; keeps the studio of the last layer and stage.

    Args:
        files: the atlas.
        graph: the model.
        plan: what the atlas is of.
        wishes: what the plan was made from.
        device: "auto", "cpu" or "cuda[:n]".
        leases: of the run.
    """

    def __init__(self, files: Files, graph: Graph, plan: Plan, wishes: Wishes, device: str, leases: Leases) -> None:
        self.files, self.graph, self.plan, self.wishes, self.device = files, graph, plan, wishes, device
        self.leases = leases
        self._studio: tuple[int, str, Studio] | None = None

    def render(self, block: Block) -> int:
        """Makes and keeps those of a block's units that are not there; returns how many others are at.

        Raises:
            ConvscopeError: the layer gives NaN, or cannot be run on this device as it was planned.
        """
        planned = self.plan.layer(block.layer)
        recipe = planned.recipes[block.stage]
        ids = {unit_id(recipe, unit): unit for unit in block.units}
        with self.leases.held([one for one in ids if self._is_missing(one)]) as taken:
            mine = [ids[one] for one in taken if self._is_missing(one)]  # another run may have been faster
            if mine:
                with _one_thread():
                    for result in self._ready(block.layer, block.stage, recipe.identity).make(mine):
                        units.put(self.files, self.graph, planned.layer.name, recipe, result)
                        self.leases.release(unit_id(recipe, result.unit))
        return sum(self._is_missing(one) for one in ids)

    def _is_missing(self, identity: str) -> bool:
        return not self.files.has(units.name_of(identity))

    def _ready(self, index: int, stage: str, identity: str) -> Studio:
        if self._studio is None or self._studio[:2] != (index, stage):
            self._studio = None  # free the last one before the next is made
            layer = self.plan.layer(index).layer
            made = studio(self.graph, layer, stage_settings(self.graph, layer, stage, self.wishes), self.device)
            if identity_of(made) != identity:
                raise UsageError(
                    f"layer '{layer.name}' is planned for {self.plan.device} and torch {self.plan.versions['torch']}; "
                    "the pictures of this process would be others: use the same device and version"
                )
            self._studio = (index, stage, made)
        return self._studio[2]


def blocks(
    plan: Plan, stage: str, is_wanted: Callable[[str], bool], order: Mapping[int, Sequence[int]], spread: bool
) -> list[Block]:
    """The work of a stage that is left.

    Args:
        plan: what the atlas is of.
        stage: "coarse", "fine" or a variant's.
        is_wanted: whether a unit of that id is to be made.
        order: layer index -> its units, the first to be made first.
        spread: take a block of each layer in turn, then two, then four, so that a run that ends early has shown
            something of all, and yet seldom makes a layer's studio anew.
    """
    found: list[tuple[int, int, int, Block]] = []
    size = BLOCKS.get(plan.device, BLOCKS["cpu"])
    for place, planned in enumerate(plan.layers):
        recipe = planned.recipes[stage]
        left = [unit for unit in order[planned.layer.index] if is_wanted(unit_id(recipe, unit))]
        for number, first in enumerate(range(0, len(left), size)):
            turn = (number + 1).bit_length() if spread else 0
            found.append((turn, place, number, Block(planned.layer.index, stage, tuple(left[first : first + size]))))
    return [block for *_, block in sorted(found, key=lambda row: row[:3])]


def run_here(
    renderer: Renderer, work: Sequence[Block], is_late: Callable[[], bool], advance: Callable[[int], None]
) -> dict[str, str]:
    """Makes blocks one after the other in this process; returns what failed, as `note_failure` keeps it."""
    failed: dict[str, str] = {}
    for block in work:
        if is_late():
            break
        try:
            others = renderer.render(block)
            forget_failure(renderer.files, block)
            advance(len(block.units) - others)
        except PartlyDone:  # the disk is full, and stays so
            raise
        except ConvscopeError as error:
            failed[block.name] = note_failure(renderer.files, renderer.plan, block, str(error))
            advance(len(block.units))
    return failed


def note_failure(files: Files, plan: Plan, block: Block, reason: str) -> str:
    """Keeps why a block could not be made; returns the sentence."""
    layer = plan.layer(block.layer).layer.name
    row = {**block.to_json(), "name": layer, "reason": reason[:MOST_NAME]}
    files.write(f"{_FAILED}/{block.name}.json", to_json(row, indent=None).encode())
    return f"{len(block.units)} units of '{layer}' ({block.stage}): {reason}"


def forget_failure(files: Files, block: Block) -> None:
    """A block that failed earlier is made now."""
    name = f"{_FAILED}/{block.name}.json"
    if files.has(name):
        files.remove(name)


def failures(files: Files) -> list[dict[str, Any]]:
    """The blocks that could not be made, with the reason.

    Raises:
        UsageError: what is kept of one is damaged.
    """
    found = []
    for name in sorted(files.names(_FAILED)):
        try:
            row = from_json(files.read(name))
        except FileNotFoundError:  # made meanwhile
            continue
        except ValueError:
            row = None
        if not fits(row, _FAILURE):
            raise UsageError(f"{files.place}/{name} is damaged; remove it")
        found.append({key: row[key] for key in _FAILURE})
    return found


_FAILURE = {"layer": Count(), "stage": str, "units": [Count()], "name": str, "reason": str}


@contextmanager
def _one_thread() -> Iterator[None]:
    """On a CPU one thread: many processes share the cores, and sums are then the same in all of them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
