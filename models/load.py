"""`load`: the one way from a file, a live object or a name of the catalog to a `Graph`."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from ..adapters.load import load as load_source
from ..engine.graph.graph import Graph
from . import catalog
from .recipes import Recipe

P = ParamSpec("P")


def _with_parameters_of(_: Callable[P, Graph]) -> Callable[[Callable[..., Graph]], Callable[P, Graph]]:
    return lambda function: function


@_with_parameters_of(load_source)
@functools.wraps(load_source)
def load(source: Any, **options: Any) -> Graph:
    """As `adapters.load.load`, and a name of the catalog where no file bears it."""
    found = catalog.resolve(source) if isinstance(source, str) else source
    with contextlib.redirect_stdout(sys.stderr):  # exporters print, and stdout is for results
        return catalog.load(found, **options) if isinstance(found, Recipe) else load_source(found, **options)


# What `help(convscope.load)` shows is the adapters' own text, with the one source that only the catalog knows.
load.__doc__ = (load_source.__doc__ or "").replace("source: a path (", "source: a name of the catalog, a path (", 1)


def name_of(source: str) -> str:
    """What `Graph.name` will be of a file, or of a name of the catalog.

    Raises:
        UsageError: there is neither.
    """
    found = catalog.resolve(source)
    return Path(found.file if isinstance(found, Recipe) else found).stem
