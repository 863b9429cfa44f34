"""`load`: the one way from a file, a live object or a name of the catalog to a `Graph`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, ParamSpec

from ..adapters.load import load as load_source
from ..engine.graph.graph import Graph
from . import catalog

P = ParamSpec("P")


def _with_parameters_of(_: Callable[P, Graph]) -> Callable[[Callable[..., Graph]], Callable[P, Graph]]:
    return lambda function: function


@_with_parameters_of(load_source)
@functools.wraps(load_source)
def load(source: Any, **options: Any) -> Graph:
    """As `adapters.load.load`, and a name of the catalog where no file bears it."""
    if isinstance(source, str) and not os.path.lexists(source) and source in catalog.names():
        return catalog.load(catalog.find(source), **options)
    return load_source(source, **options)


# What `help(convscope.load)` shows is the adapters' own text, with the one source that only the catalog knows.
load.__doc__ = (load_source.__doc__ or "").replace("source: a path (", "source: a name of the catalog, a path (", 1)
