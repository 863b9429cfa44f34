"""``convscope compare``: are two models the same network, and where do they part?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    DeviceOption,
    JsonOption,
    OutOption,
    QuietOption,
    SeedOption,
    command_line,
    emit,
    emit_json,
    loading_options,
    open_model,
    parse_size,
    say,
)

if TYPE_CHECKING:
    from ..engine.compare.result import Comparison

FirstArgument = Annotated[str, typer.Argument(metavar="A", help="A model file, or a name of the catalog.")]
SecondArgument = Annotated[str, typer.Argument(metavar="B", help="The model to compare with A.")]
MaxRelOption = Annotated[
    float, typer.Option("--max-rel", min=0, help="Largest relative difference of a layer that counts as equal.")
]
ImagesOption = Annotated[
    list[str] | None,
    typer.Option("--images", metavar="PATH", help="Folder or image, may be repeated; default 16 shipped photographs."),
]
LayersOption = Annotated[
    str | None, typer.Option("--layers", metavar="LAYERS", help="Only these layers of A: names and globs.")
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
    layers: LayersOption = None,
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
    **options: Any,
) -> None:
    """Tell whether two models are the same network, where they part and why, and which units correspond.

    Exit code 0 for identical, 1 for every other verdict. --arch and --preprocessing go to both models unless
    --arch-b and --preprocessing-b say otherwise.
    """
    from ..engine.compare.pictures import from_files
    from ..engine.compare.result import IDENTICAL
    from ..engine.compare.verdict import compare

    given: dict[str, Any] = {}
    if images:
        given["pictures"] = from_files(images, lambda error: say(f"left out: {error}", quiet))
    graph_a = open_model(a, quiet=quiet, **options)
    second = {**options, **{k: v for k, v in (("preprocessing", preprocessing_b), ("arch", arch_b)) if v is not None}}
    graph_b = open_model(b, quiet=quiet, **second)

    def told(stage: str) -> None:
        say(f"comparing: {stage}", quiet)

    result = compare(
        graph_a,
        graph_b,
        max_rel=max_rel,
        layers=layers,
        similarity=similarity,
        device=device,
        progress=told,
        **given,
    )
    for note in result.notes:
        say(f"note: {note}", quiet)
    record = {"a": a, "b": b, **result.to_json(matches=match)}
    page = None
    if out is not None:
        from ..engine.compare.side_by_side import rows
        from ..engine.pages.comparison import write

        ascent = {"preset": preset, "size": size, "steps": steps, "seed": seed, "device": device}
        seen = rows(graph_a, graph_b, result, count=pictures, options=ascent, progress=told, **given) if match else []
        page = write(out, (graph_a, graph_b), result, record, seen, command_line())
    if as_json:
        emit_json(record)
    else:
        _print(result)
        if page is not None:
            emit(page)
    if result.verdict != IDENTICAL:
        raise typer.Exit(1)


def _print(result: Comparison) -> None:
    emit(result.verdict)
    first = result.first_difference
    if first is not None:
        emit(f"first difference  {first.layer_a} | {first.layer_b}  {first.rel:.2g} relative")
        for cause in first.causes:
            emit(f"cause             {cause.text}" + (" (confirmed by recomputation)" if cause.confirmed else ""))
        if not first.causes:
            emit("cause             none found in settings or weights")
    for name, order in result.permutations.items():
        shown = ",".join(map(str, order[:8])) + (",..." if len(order) > 8 else "")
        emit(f"permuted          {name}: channels of A are {shown} of B")
    width = max(len(p.a.name) for p in result.pairs)
    emit(f"{'A':<{width}}  {'B':<{width}}  found by      relative  matched    CKA")
    for i, pair in enumerate(result.pairs):
        measured = result.statistics.get(i)
        numbers = f"{measured.matching.share:7.0%}  {measured.cka:5.3f}" if measured else ""
        names = f"{pair.a.name:<{width}}  {pair.b.name:<{width}}  {pair.found_by:<12}"
        emit(f"{names}  {result.rel[i]:8.1e}  {numbers}".rstrip())
    for names, where in ((result.only_a, "A"), (result.only_b, "B")):
        if names:
            emit(f"only in {where}         {', '.join(names[:12])}" + (" ..." if len(names) > 12 else ""))
