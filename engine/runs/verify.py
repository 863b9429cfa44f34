"""``verify``: does the graph compute what the model file computes?

What compares the graph with its source reads model files, and lives with the adapters; it is handed to the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ...errors import UsageError
from ..graph.graph import Graph
from ..pictures.sides import height_width
from ..record import Record, write
from ..whole import keep_whole
from .events import Note, OnEvent, ignore
from .folder import locked
from .opening import Model, opened
from .result import Result


@dataclass(frozen=True, repr=False)
class Verification:
    """What was compared and how far apart it was; relative to each tensor's largest absolute value.

    Attributes:
        ok: every bound holds.
        tensors_compared, tensors_total: of the canonical graph.
        worst: the tensor with the largest difference between the executors.
        gradient_rel: input gradient against central differences, float64.
        batch_rel: an image alone against the same image in a batch of three.
        source_rel: against the source file in its own runtime, None where that was not compared.
        source_tensors: how many tensors that comparison covers.
        source_reason: why the source was not compared, or None.
        source_by: what ran it: ONNX Runtime, Keras, the module that ``arch`` builds, ...
        bounds: the limits that ``ok`` stands for.
        images: which images were run.
        rounded: how many tensors lie further apart than the bound, by no more than rounding explains.
        reason: where the executors part beyond that, who is off by float64.
        opaque: operators that the session alone computes, and why; what they give is compared with the source alone.
        heatmap_rel: of a file that `convscope.export` wrote: its map against the twin's; None for other files.
    """

    ok: bool
    tensors_compared: int
    tensors_total: int
    worst: dict[str, Any]
    gradient_rel: float | None
    batch_rel: float
    source_rel: float | None
    source_tensors: int
    bounds: dict[str, float]
    images: tuple[str, ...]
    heatmap_rel: float | None = None
    rounded: int = 0
    reason: str | None = None
    opaque: tuple[str, ...] = ()
    source_reason: str | None = None
    source_by: str | None = None

    def __repr__(self) -> str:
        verdict, worst = "ok" if self.ok else "DIFFERENT", self.worst["rel"]
        return f"<Verification: {verdict}, {self.tensors_compared} of {self.tensors_total} tensors, worst {worst:.2g}>"

    def to_json(self) -> dict[str, Any]:
        """A plain dict for ``--json``."""
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """The same for people: the verdict first, then a line for each comparison."""
        none = "none: the picture is whole numbers, or the logits do not depend on it beyond rounding"
        slope = none if self.gradient_rel is None else f"{self.gradient_rel:.2g} (float64 against central differences)"
        source = f"not compared: {self.source_reason}"
        if self.source_rel is not None:
            source = f"{self.source_rel:.2g} ({self.source_tensors} tensors, by {self.source_by})"
        rows = [
            ("tensors compared", f"{self.tensors_compared} of {self.tensors_total} ({', '.join(self.images)})"),
            ("worst tensor", f"{self.worst['tensor']}: {self.worst['rel']:.2g} relative"),
            ("", self.reason),
            ("rounding", f"{self.rounded} tensors part by their last bits alone" if self.rounded else None),
            *(("forward alone", said) for said in self.opaque),
            ("gradient", slope),
            ("batch 3 against 1", f"{self.batch_rel:.2g}"),
            (
                "heatmap",
                None
                if self.heatmap_rel is None
                else f"{self.heatmap_rel:.2g} of its maximum, against the plain model's twin",
            ),
            ("source", source),
        ]
        return ["ok" if self.ok else "DIFFERENT", *(f"{name:<21}{text}" for name, text in rows if text)]


@dataclass(frozen=True)
class Options:
    """What is run.

    Attributes:
        size: side of the random images, or (height, width); None is the graph's own.
        batch: random images at once; a model with a fixed batch of one needs 1.
        seed: of the random images.
    """

    size: int | tuple[int, int] | None = None
    batch: int = 2
    seed: int = 0

    @property
    def sides(self) -> tuple[int, int] | None:
        """(height, width), if they are named; raises UsageError for what is none."""
        return None if self.size is None else height_width(self.size)

    def check(self) -> None:
        """Raises UsageError for a size or batch that is none."""
        if self.size is not None:
            height_width(self.size)
        keep_whole(self, batch=1, seed=0)


class Prove(Protocol):
    """What compares a graph with itself and its source: `adapters.verify.verify`."""

    def __call__(
        self, graph: Graph, *, size: tuple[int, int] | None, batch: int, seed: int, progress: Callable[[str], None]
    ) -> Verification:
        """The verification of a graph."""


@dataclass(frozen=True, eq=False, repr=False)
class Verified(Result):
    """The result of `run`.

    Attributes:
        verification: what was compared, and how far apart it was.
    """

    verification: Verification | None = None

    @property
    def lines(self) -> Sequence[str]:
        """The verification in words."""
        return () if self.verification is None else self.verification.lines

    @property
    def ok(self) -> bool:
        """Whether every bound holds."""
        return bool(self.content["ok"])


def run(
    model: Model,
    prove: Prove,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Verified:
    """Compares every tensor of both executors, the gradient, the batch and the source.

    Args:
        model: from `convscope.load`, or what opens it; with or without the check at import.
        prove: makes the comparisons.
        options: default two random images of the graph's own size.
        folder: writes ``result.json`` there.
        command: what the record says made it.
        on_event: told of every stage.

    Raises:
        UsageError: a size or batch that is none. RefusedInput: the weights hold NaN.
    """
    options = options or Options()
    options.check()
    graph = opened(model, folder, on_event)
    if options.sides is not None:
        fixed = [own or asked for own, asked in zip(graph.inputs[0].shape[2:4], options.sides, strict=False)]
        if fixed and tuple(fixed) != options.sides:
            raise UsageError(
                f"size={options.size}: the model's input is fixed at {'x'.join(map(str, fixed))}; leave it out"
            )
    with locked(folder):
        found = prove(
            graph,
            size=options.sides,
            batch=options.batch,
            seed=options.seed,
            progress=lambda stage: on_event(Note(f"comparing: {stage}")),
        )
        content = Record.of(graph, command).to_json(found.to_json())
        if folder is not None:
            write(folder, content)
    return Verified(content, None, found)
