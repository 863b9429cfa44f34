"""``convscope compare``: are two models the same network, and where do they part?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .loading import loading_options, open_model
from .options import DeviceOption, JsonOption, OutOption, QuietOption, SeedOption, parse_size
from .output import command_line, emit, emit_json
from .progress import drawn
from .tables import show_comparison

FirstArgument = Annotated[str, typer.Argument(metavar="A", help="A model file, or a name of the catalog.")]
SecondArgument = Annotated[str, typer.Argument(metavar="B", help="The model to compare with A.")]
MaxRelOption = Annotated[
    float, typer.Option("--max-rel", min=0, help="Largest relative difference of a layer that counts as equal.")
]
ImagesOption = Annotated[
    list[str] | None,
    typer.Option("--images", metavar="PATH", help="Folder or image, may be repeated; default 16 shipped photographs."),
]
OfAOption = Annotated[
    str | None,
    typer.Option("--layer", "--layers", "-l", metavar="LAYER,...", help="Only these layers of A: names and globs."),
]
SimilarityOption = Annotated[
    bool, typer.Option("--similarity", help="Also SVCCA, PWCCA, Procrustes and CKA between all layers.")
]
MatchOption = Annotated[bool, typer.Option("--match", help="Pair the units; with -o, their pictures side by side.")]
UnitsOption = Annotated[int, typer.Option("--pictures", min=1, help="Matched units per layer on the page.")]
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Of gradient ascent; default the preset's.")]
PixelsOption = Annotated[
    Any, typer.Option("--size", metavar="PX|HxW", parser=parse_size, help="Side of the ascent pictures.")
]
PresetOption = Annotated[str, typer.Option("--preset", help="How the ascent pictures are made.")]
BLoadingOption = Annotated[
    str | None, typer.Option("--preprocessing-b", metavar="PRESET", help="Of B, where it differs from A's option.")
]
ArchBOption = Annotated[
    str | None, typer.Option("--arch-b", metavar="PACKAGE:CALLABLE", help="Builds B, for files of weights alone.")
]


@loading_options
def command(
    a: FirstArgument,
    b: SecondArgument,
    max_rel: MaxRelOption = 1e-4,
    images: ImagesOption = None,
    layer: OfAOption = None,
    similarity: SimilarityOption = False,
    match: MatchOption = False,
    pictures: UnitsOption = 8,
    preset: PresetOption = "convscope",
    size: PixelsOption = 128,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    preprocessing_b: BLoadingOption = None,
    arch_b: ArchBOption = None,
    out: OutOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **loading: Any,
) -> None:
    """Tell whether two models are the same network, where they part and why, and which units correspond.

    Exit code 0 for identical, 1 for every other verdict. --arch and --preprocessing go to both models unless
    --arch-b and --preprocessing-b say otherwise.
    """
    from ..engine.runs import compare

    options = compare.Options(max_rel, images, layer, similarity, match, pictures, preset, size, steps, seed, device)
    first = open_model(a, quiet=quiet, **loading)
    of_b = {"preprocessing": preprocessing_b, "arch": arch_b}
    second = open_model(b, quiet=quiet, **{**loading, **{k: v for k, v in of_b.items() if v is not None}})
    with drawn(quiet) as on_event:
        result = compare.run(first, second, options, out, command=command_line(), on_event=on_event)
    if as_json:
        emit_json(result.to_json())
    else:
        assert result.comparison is not None
        show_comparison(result.comparison)
        if result.page is not None:
            emit(result.page)
    if not result.identical:
        raise typer.Exit(1)
