"""``convscope verify``: proves that the graph computes what the model file computes."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import JSON, OUT, QUIET, SEED, SIZE, Group, ModelArgument, option

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

    # the comparison is the check, and it reports instead of refusing
    perform(verify, model, {**words, "check": False}, prove)
