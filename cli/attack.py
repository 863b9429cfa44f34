"""``convscope attack``: the smallest change of a picture that makes the model err."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .common import (
    BatchOption,
    DeviceOption,
    JsonOption,
    ModelArgument,
    OutOption,
    QuietOption,
    SeedOption,
    emit,
    emit_json,
    loading_options,
    open_model,
    progress,
    say,
)

if TYPE_CHECKING:
    from ..engine.attack import Attack
    from ..engine.graph.graph import Graph

ImageArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture.", show_default=False)]
MethodOption = Annotated[
    str, typer.Option("--method", "-m", metavar="NAME", help="pixels (differential evolution), fgsm or pgd.")
]
PixelsOption = Annotated[int, typer.Option("--pixels", min=1, help="How many pixels may change.")]
TargetOption = Annotated[
    str | None, typer.Option("--target", metavar="CLASS", help="Class to reach, name or index; default any other.")
]
EpsilonOption = Annotated[
    float, typer.Option("--epsilon", help="Largest change of a value in [0, 1], for fgsm and pgd.")
]
StepsOption = Annotated[int, typer.Option("--steps", min=1, help="Steps of pgd.")]
PopulationOption = Annotated[int, typer.Option("--population", min=5, help="Candidates of a generation.")]
IterationsOption = Annotated[int, typer.Option("--iterations", min=1, help="Generations at most.")]
TopOption = Annotated[int, typer.Option("--top", min=1, help="Predictions to report.")]


@loading_options
def command(
    model: ModelArgument,
    image: ImageArgument,
    method: MethodOption = "pixels",
    pixels: PixelsOption = 1,
    target: TargetOption = None,
    epsilon: EpsilonOption = 8 / 255,
    steps: StepsOption = 10,
    population: PopulationOption = 400,
    iterations: IterationsOption = 100,
    top: TopOption = 3,
    batch: BatchOption = 64,
    seed: SeedOption = 0,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Change one pixel, or a little of every pixel, until the model sees another class.

    Writes the attacked picture at the model's input size, the two side by side, and result.json. A failed
    attack is a result too: the model withstood it.
    """
    from ..engine.attack import METHODS, gradient_attack, pixel_attack
    from ..engine.graph.labels import find_class
    from ..engine.pictures.read import fit, read_image

    if method not in METHODS:
        raise UsageError(f"--method '{method}' is unknown; choose one of {', '.join(METHODS)}")
    graph = open_model(model, quiet=quiet, **options)
    wanted = None if target is None else find_class(graph, target)
    picture = fit(read_image(image).pixels, graph)
    if method == "pixels":
        with progress(iterations, "attacking", quiet, unit="generations") as bar:
            found = pixel_attack(
                graph,
                picture,
                pixels=pixels,
                target=wanted,
                population=population,
                iterations=iterations,
                seed=seed,
                device=device,
                batch=batch,
                progress=lambda _, best: bar.advance(1, probability=f"{best:.3f}"),
            )
    else:
        found = gradient_attack(
            graph, picture, method=method, epsilon=epsilon, steps=steps, target=wanted, seed=seed, device=device
        )
    _write(graph, image, found, out or Path(f"{graph.name}-attacked"), top, seed, as_json, quiet)


def _write(
    graph: Graph, image: Path, found: Attack, folder: Path, top: int, seed: int, as_json: bool, quiet: bool
) -> None:
    from dataclasses import asdict

    from ..engine.graph.labels import predictions
    from ..engine.render.artifacts import save_npy, save_png, write_json

    stem = f"{image.stem}-{found.method}"
    before, after = ([asdict(p) for p in predictions(graph, z, top)] for z in (found.before, found.after))
    facts = {"convscope": f"{graph.name} sha256 {graph.sha256}", "method": found.method, "seed": str(seed)}
    shown = save_png(folder / f"{stem}.png", _picture(found.attacked), facts)
    save_png(folder / f"{stem}.compare.png", compare(found), facts)
    save_npy(folder / f"{stem}.npy", found.attacked)
    result = {
        "model": {"name": graph.name, "sha256": graph.sha256, "source": graph.source.path},
        "file": str(image),
        **found.to_json(),
        "seed": seed,
        "before": before,
        "after": after,
        "picture": shown.name,
    }
    write_json(folder / f"{stem}.json", {"schema_version": 1, **result})
    verb = "now sees" if found.success else "withstands the attack and still sees"
    sees = [f"{shown_as[0]['name']} ({shown_as[0]['probability']:.1%})" for shown_as in (before, after)]
    said = f"{sees[0]}: {graph.name} {verb} {sees[1]}"
    say(f"{said}; {len(found.changed)} pixels changed by up to {found.distance:.3f}", quiet)
    if as_json:
        emit_json(result)
    else:
        emit(shown)


def compare(found: Attack) -> Any:
    """The picture, the attacked picture with rings around a few changed pixels, and the change, side by side."""
    import numpy as np

    from ..engine.render.grid import grid

    change = _picture(found.attacked) - _picture(found.image)
    size = float(np.abs(change).max()) or 1.0
    ringed = _picture(found.attacked).copy()
    if len(found.changed) <= 20:
        for place in found.changed:
            _ring(ringed, *place)
    return grid([_picture(found.image), ringed, 0.5 + 0.5 * change / size], columns=3)


def _ring(picture: Any, row: int, column: int, radius: int = 4) -> None:
    """A red square, one pixel wide, around a place; the pixel itself stays as it is."""
    height, width = picture.shape[:2]
    top, bottom = max(row - radius, 0), min(row + radius, height - 1)
    left, right = max(column - radius, 0), min(column + radius, width - 1)
    for edge in (
        (top, slice(left, right + 1)),
        (bottom, slice(left, right + 1)),
        (slice(top, bottom + 1), left),
        (slice(top, bottom + 1), right),
    ):
        picture[edge] = (1.0, 0.0, 0.0)


def _picture(values: Any) -> Any:
    """(C, H, W) in [0, 1] as (H, W, 3)."""
    import numpy as np

    return np.ascontiguousarray(np.broadcast_to(values, (3, *values.shape[1:])).transpose(1, 2, 0))
