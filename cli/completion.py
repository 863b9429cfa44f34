"""What a shell offers behind the tab key: models, layers, presets, methods, colormaps."""

from __future__ import annotations

import os
import shlex
from glob import glob
from pathlib import Path

import typer


def models(incomplete: str) -> list[str]:
    """Names of the catalog, and files and folders."""
    from ..models.catalog import names

    files = [f"{path}/" if Path(path).is_dir() else path for path in sorted(glob(f"{incomplete}*"))]
    return [name for name in names() if name.startswith(incomplete)] + files


def layers(ctx: typer.Context, incomplete: str) -> list[str]:
    """The layers of the model that is on the command line already."""
    head, comma, last = incomplete.rpartition(",")
    names = _layer_names(str(ctx.params.get("model") or ctx.params.get("a") or _first_word()))
    return [f"{head}{comma}{name}" for name in names if name.startswith(last)]


def presets(incomplete: str) -> list[str]:
    """The recipes of ascent."""
    from ..engine.ascent.recipe.presets import names

    return [name for name in names() if name.startswith(incomplete)]


def methods(incomplete: str) -> list[str]:
    """The methods of explain; behind a comma the next one."""
    from ..engine.attribution import METHODS

    head, comma, last = incomplete.rpartition(",")
    return [f"{head}{comma}{name}" for name in (*METHODS, "all") if name.startswith(last)]


def colormaps(incomplete: str) -> list[str]:
    """The colormaps."""
    from ..engine.render.colormaps import names

    return [name for name in names() if name.startswith(incomplete)]


def _first_word() -> str:
    """The first word behind the command, from what the shell hands over.

    An option that still lacks its value ends the reading of a command line, and then the context knows no argument.
    """
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    try:
        words = shlex.split(line)[2:]
    except ValueError:  # a quote that is still open
        return ""
    return next((word for word in words if not word.startswith("-")), "")


def _layer_names(model: str) -> list[str]:
    """None for a model that does not load: a shell must not be told why."""
    from ..models.load import load

    try:
        return [layer.name for layer in load(model, check=False).layers]
    except Exception:  # whatever is wrong with it, there is nothing to offer
        return []
