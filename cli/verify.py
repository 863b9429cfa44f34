"""``convscope verify``: proves that the graph computes what the model file computes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .loading import loading_options, open_model
from .options import JsonOption, ModelArgument, QuietOption, SeedOption, SizeOption
from .output import command_line, emit, emit_json, say

BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Random images at once.")]


@loading_options
def command(
    model: ModelArgument,
    size: SizeOption = None,
    batch: BatchOption = 2,
    seed: SeedOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Compare every tensor of both executors, the gradient, the batch and the source."""
    from ..adapters.verify import verify
    from ..engine.record import Record

    sides = (size, size) if isinstance(size, int) else size
    if sides is not None and min(sides) < 1:
        from ..errors import UsageError

        raise UsageError(f"--size {size}: the size must be at least 1 pixel")
    options["check"] = False  # the comparison below is the check, and it reports instead of refusing
    graph = open_model(model, quiet=quiet, **options)
    result = verify(
        graph,
        size=sides,
        batch=batch,
        seed=seed,
        progress=lambda stage: say(f"comparing: {stage}", quiet),
    )
    if json:
        emit_json(Record.of(graph, command_line()).to_json(result.to_json()))
    else:
        emit("ok" if result.ok else "DIFFERENT")
        emit(f"tensors compared     {result.tensors_compared} of {result.tensors_total} ({', '.join(result.images)})")
        emit(f"worst tensor         {result.worst['tensor']}: {result.worst['rel']:.2g} relative")
        if result.reason:
            emit(f"                     {result.reason}")
        if result.rounded:
            emit(f"rounding             {result.rounded} tensors part by their last bits alone")
        for said in result.opaque:
            emit(f"forward alone        {said}")
        emit(f"gradient             {_gradient(result.gradient_rel)}")
        emit(f"batch 3 against 1    {result.batch_rel:.2g}")
        if result.heatmap_rel is not None:
            emit(f"heatmap              {result.heatmap_rel:.2g} of its maximum, against the plain model's twin")
        emit(f"source               {_number(result.source_rel)} ({result.source_tensors} tensors)")
    if not result.ok:
        raise typer.Exit(1)


def _gradient(value: float | None) -> str:
    if value is None:
        return "none: the picture is whole numbers, or the logits do not depend on it beyond rounding"
    return f"{value:.2g} (float64 against central differences)"


def _number(value: float | None) -> str:
    return "not at hand" if value is None else f"{value:.2g}"
