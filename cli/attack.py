"""``convscope attack``: the smallest change of a picture that makes the model err."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import SEED, TOP, Group, ModelArgument, PhotoArgument, batch, option

OPTIONS: Group = {
    "method": option(
        str, "pixels", "--method -m", "pixels (differential evolution), fgsm or pgd.",
        metavar="NAME",
    ),
    "pixels": option(int, 1, "--pixels", "How many pixels may change.", min=1),
    "target": option(
        str | None, None, "--target", "Class to reach, name or index; default any other.", metavar="CLASS"
    ),
    "epsilon": option(
        float, 8 / 255, "--epsilon", "Largest change of a value in [0, 1], for fgsm and pgd.", show_default="8/255"
    ),
    "steps": option(
        int | None, None, "--steps --iterations", "Of pgd, default 10; generations of pixels at most, default 100.",
        min=1,
    ),
    "population": option(int, 400, "--population", "Candidates of a generation.", min=5),
    "top": TOP,
    "batch": batch(64),
    "seed": SEED,
}  # fmt: skip


@takes(OPTIONS)
def command(model: ModelArgument, image: PhotoArgument, **words: Any) -> None:
    """Change one pixel, or a little of every pixel, until the model sees another class.

    Writes the attacked picture at the model's input size, the two side by side, and their JSON. A failed attack is
    a result too: the model withstood it. The search for pixels asks the model up to --population times --steps
    questions, which takes long with a large one; --steps bounds it, and fgsm and pgd need a few passes only.
    """
    from ..engine.runs import attack

    perform(attack, model, words, image, ending="attacked")
