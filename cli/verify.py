"""``convscope verify``: proves that the graph computes what the model file computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from .calling import Call, takes
from .options import JSON, OUT, QUIET, SEED, SIZE, Group, ModelArgument, option
from .output import emit

if TYPE_CHECKING:
    from ..engine.runs.verify import Verification

OPTIONS: Group = {
    "size": SIZE,
    "batch": option(int, 2, "--batch", "Random images at once.", min=1),
    "seed": SEED,
}


@takes(OPTIONS, ending={"out": OUT, "as_json": JSON, "quiet": QUIET})
def command(model: ModelArgument, **words: Any) -> None:
    """Compare every tensor of both executors, the gradient, the batch and the source.

    Exit code 1 where a bound does not hold. With -o the numbers are written as result.json.
    """
    from ..adapters.verify import verify as prove
    from ..engine.runs import verify

    call = Call(words)
    options = verify.Options(**call.options)
    options.check()
    graph = call.open(model, check=False)  # the comparison below is the check, and it reports instead of refusing
    result = call.run(verify.run, graph, prove, options)
    found = result.verification
    assert found is not None
    call.show(result, lambda: _show(found))
    if not found.ok:
        raise typer.Exit(1)


def _show(found: Verification) -> None:
    emit("ok" if found.ok else "DIFFERENT")
    emit(f"tensors compared     {found.tensors_compared} of {found.tensors_total} ({', '.join(found.images)})")
    emit(f"worst tensor         {found.worst['tensor']}: {found.worst['rel']:.2g} relative")
    if found.reason:
        emit(f"                     {found.reason}")
    if found.rounded:
        emit(f"rounding             {found.rounded} tensors part by their last bits alone")
    for said in found.opaque:
        emit(f"forward alone        {said}")
    none = "none: the picture is whole numbers, or the logits do not depend on it beyond rounding"
    slope = none if found.gradient_rel is None else f"{found.gradient_rel:.2g} (float64 against central differences)"
    emit(f"gradient             {slope}")
    emit(f"batch 3 against 1    {found.batch_rel:.2g}")
    if found.heatmap_rel is not None:
        emit(f"heatmap              {found.heatmap_rel:.2g} of its maximum, against the plain model's twin")
    source = "not at hand" if found.source_rel is None else f"{found.source_rel:.2g}"
    emit(f"source               {source} ({found.source_tensors} tensors)")
