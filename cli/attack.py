"""``convscope attack``: the smallest change of a picture that makes the model err."""

from __future__ import annotations

from typing import Any

from .calling import Call, takes
from .options import SEED, TOP, Group, ModelArgument, PhotoArgument, batch, option
from .output import emit

OPTIONS: Group = {
    "method": option(
        str, "pixels", "--method -m", "pixels (differential evolution, slow on large models), fgsm or pgd.",
        metavar="NAME",
    ),
    "pixels": option(int, 1, "--pixels", "How many pixels may change.", min=1),
    "target": option(
        str | None, None, "--target", "Class to reach, name or index; default any other.", metavar="CLASS"
    ),
    "epsilon": option(float, 8 / 255, "--epsilon", "Largest change of a value in [0, 1], for fgsm and pgd."),
    "steps": option(int, 10, "--steps", "Steps of pgd.", min=1),
    "population": option(int, 400, "--population", "Candidates of a generation.", min=5),
    "iterations": option(int, 100, "--iterations", "Generations at most.", min=1),
    "top": TOP,
    "batch": batch(64),
    "seed": SEED,
}  # fmt: skip


@takes(OPTIONS)
def command(model: ModelArgument, image: PhotoArgument, **words: Any) -> None:
    """Change one pixel, or a little of every pixel, until the model sees another class.

    Writes the attacked picture at the model's input size, the two side by side, and their JSON. A failed attack is
    a result too: the model withstood it.
    """
    from ..engine.runs import attack

    call = Call(words, "attacked")
    options = attack.Options(**call.options)
    options.check()
    result = call.run(attack.run, call.open(model), image, options)
    call.show(result, lambda: emit(result.picture))
