"""Names of models: listed, found, and made or fetched on demand."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.cache import cache_folder
from ..errors import ConvscopeError, UsageError
from .download import Progress, download
from .recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from ..engine.graph.graph import Graph


def names() -> tuple[str, ...]:
    """The catalog's names, in its order."""
    return tuple(recipe.name for recipe in RECIPES)


def listed() -> list[dict[str, Any]]:
    """Every entry's fields, with ``path`` and whether the file is ``present``."""
    return [{**asdict(r), "path": str(local_path(r)), "present": local_path(r).exists()} for r in RECIPES]


def find(name: str) -> Recipe:
    """The recipe of a name; raises UsageError with the closest names."""
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    close = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
    hint = "closest: " + ", ".join(f"'{c}'" for c in close) if close else "list them: convscope models list"
    raise UsageError(f"'{name}' is neither a model file nor a name of the catalog; {hint}")


def local_path(recipe: Recipe) -> Path:
    """Where the model's file is, or will be.

    What is built here lies in a folder of its recipe's version, so that a changed recipe builds again.
    """
    if recipe.is_shipped:
        return Path(__file__).parent / recipe.file
    return cache_folder() / (f"built-{recipe.version}" if recipe.builder else "") / recipe.file


def fetch(recipe: Recipe, progress: Progress = lambda done, total: None) -> Path:
    """The model's file, downloaded or built where it is not there yet.

    Raises:
        ConvscopeError: the network, a package that is needed, or a file of the installation is missing.
        RefusedInput: a wrong sum.
    """
    path = local_path(recipe)
    if path.exists() and not recipe.url:
        return path
    if recipe.is_shipped:
        raise ConvscopeError(f"'{recipe.name}' should have come with convscope, but {path} is missing; reinstall it")
    if recipe.url:
        return download(recipe.url, path, recipe.sha256, progress)
    from . import builders

    build: Callable[[Path, Progress], None] = getattr(builders, recipe.builder)
    build(path, progress)
    return path


def resolve(model: str) -> Path | Recipe:
    """The path of a model file, or the recipe of a name of the catalog.

    Raises:
        UsageError: what looks like a file, by a suffix or a folder, does not exist; or there is no such name.
    """
    path = Path(model)
    if os.path.exists(model):  # a name that no file system takes raises nothing
        return path
    if path.suffix or len(path.parts) > 1:
        raise UsageError(f"no such file: '{model}'")
    return find(model)


def load(recipe: Recipe, **options: Any) -> Graph:
    """The graph of a catalog entry; options as for `convscope.load`, which win over the recipe's."""
    from ..adapters.load import load as load_file

    path = fetch(recipe)
    if options.get("preprocessing") is None and recipe.preprocessing is not None:
        options["preprocessing"] = recipe.preprocessing
    if options.get("labels") is None and recipe.labels is not None:
        options["labels"] = recipe.labels
    if options.get("size") is None:
        options["size"] = recipe.size
    return load_file(path, **options)
