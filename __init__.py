"""convscope: a microscope for any convolutional network.

``convscope.load`` takes an ONNX, Keras or Torch model and returns a `Graph`; everything else takes a Graph.
Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_FACE = {
    "load": ".models.load",
    "activations": ".engine.activations.stream",
    "atlas": ".engine.atlas.build",
    "compare": ".engine.compare",
    "explain": ".engine.attribution",
    "export": ".engine.export",
    "filters": ".engine.ascent.filters",
    "maximize": ".engine.ascent.maximize",
    "accent": ".engine.ascent.accent",
    "dream": ".engine.ascent.photograph",
    "invert": ".engine.ascent.photograph",
    "Graph": ".engine.graph.graph",
    "Layer": ".engine.graph.layers",
    "Preprocessing": ".engine.graph.preprocessing",
    "ConvscopeError": ".errors",
    "UsageError": ".errors",
    "RefusedInput": ".errors",
}

__all__ = ["__version__", *_FACE]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'convscope' has no attribute '{name}'")
    return getattr(importlib.import_module(_FACE[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
