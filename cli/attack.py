"""``convscope attack``: the smallest change of a picture that makes the model err."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .loading import loading_options, open_model
from .options import (
    BatchOption,
    DeviceOption,
    JsonOption,
    ModelArgument,
    OutOption,
    PhotoArgument,
    QuietOption,
    SeedOption,
    TopOption,
)
from .output import command_line, emit, emit_json
from .progress import drawn

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


@loading_options
def command(
    model: ModelArgument,
    image: PhotoArgument,
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
    **loading: Any,
) -> None:
    """Change one pixel, or a little of every pixel, until the model sees another class.

    Writes the attacked picture at the model's input size, the two side by side, and their JSON. A failed attack is
    a result too: the model withstood it.
    """
    from ..engine.runs import attack

    options = attack.Options(method, pixels, target, epsilon, steps, population, iterations, top, batch, seed, device)
    options.check()
    graph = open_model(model, quiet=quiet, **loading)
    folder = out or Path(f"{graph.name}-attacked")
    with drawn(quiet) as on_event:
        result = attack.run(graph, image, options, folder, command=command_line(), on_event=on_event)
    if as_json:
        emit_json(result.to_json())
    else:
        emit(result.picture)
