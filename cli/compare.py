"""``convscope compare``: are two models the same network, and where do they part?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .calling import ENDING, perform, takes
from .loading import LOADING, opener
from .options import DEVICE, LAYERS, SEED, SIDES, Group, option

FirstArgument = Annotated[str, typer.Argument(metavar="A", help="A model file, or a name of the catalog.")]
SecondArgument = Annotated[str, typer.Argument(metavar="B", help="The model to compare with A.")]
OPTIONS: Group = {
    "max_rel": option(
        float, 1e-4, "--max-rel", "Largest relative difference of a layer that counts as equal.", min=0
    ),
    "images": option(
        list[str] | None, None, "--images", "Folder or image, may be repeated; default 16 shipped photographs.",
        metavar="PATH",
    ),
    "layer": LAYERS,
    "similarity": option(
        bool, False, "--similarity", "Also SVCCA, PWCCA, Procrustes and CKA between all layers."
    ),
    "match": option(bool, False, "--match", "Pair the units; with -o, their pictures side by side."),
    "pictures": option(int, 8, "--pictures", "Matched units per layer on the page.", min=1),
    "preset": option(str, "convscope", "--preset", "How the ascent pictures are made."),
    "size": option(
        Any, 128, "--size", "Side of the ascent pictures.", **SIDES
    ),
    "steps": option(int | None, None, "--steps", "Of gradient ascent; default the preset's.", min=1),
    "seed": SEED,
    "preprocessing_b": option(
        str | None, None, "--preprocessing-b", "Of B, where it differs from A's option.", metavar="PRESET"
    ),
    "arch_b": option(
        str | None, None, "--arch-b", "Builds B, for files of weights alone.", metavar="PACKAGE:CALLABLE"
    ),
}  # fmt: skip


@takes(OPTIONS, ending={**ENDING, "device": (DEVICE[0], "cpu")})
def command(a: FirstArgument, b: SecondArgument, **words: Any) -> None:
    """Tell whether two models are the same network, where they part and why, and which units correspond.

    Exit code 0 for identical, 1 for every other verdict. --arch and --preprocessing go to both models unless
    --arch-b and --preprocessing-b say otherwise.
    """
    from ..engine.runs import compare

    of_b = {"preprocessing": words.pop("preprocessing_b"), "arch": words.pop("arch_b")}
    stated = {name: value for name, value in of_b.items() if value is not None}
    second = opener(b, **{name: words[name] for name in LOADING} | stated)
    perform(compare, a, words, second)
