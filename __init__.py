"""convscope: a microscope for any convolutional network.

`load` takes a file (ONNX, Keras, Torch), a name of the catalog or a live network, and gives a `Graph`. Everything else
takes a `Graph`, or what `load` takes, and pictures as people hold them. The words are those of the command line.
Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors as errors
    from .engine.ascent.ascend import ascend as ascend
    from .engine.ascent.recipe import objectives as objectives
    from .engine.ascent.recipe import presets as presets
    from .engine.ascent.recipe.presets import Preset as Preset
    from .engine.ascent.results import AscentResult as AscentResult
    from .engine.ascent.results import UnitResult as UnitResult
    from .engine.atlas.build import atlas as atlas
    from .engine.attribution.explain import Attribution as Attribution
    from .engine.attribution.explain import explain as explain
    from .engine.compare.result import Comparison as Comparison
    from .engine.export import export as export
    from .engine.graph.graph import Graph as Graph
    from .engine.graph.layers import Layer as Layer
    from .engine.graph.preprocessing import Preprocessing as Preprocessing
    from .errors import ConvscopeError as ConvscopeError
    from .errors import ParityError as ParityError
    from .errors import PartlyDone as PartlyDone
    from .errors import RefusedInput as RefusedInput
    from .errors import UnsafeFile as UnsafeFile
    from .errors import UnsupportedOperator as UnsupportedOperator
    from .errors import UsageError as UsageError
    from .face import accent as accent
    from .face import activations as activations
    from .face import attack as attack
    from .face import compare as compare
    from .face import dream as dream
    from .face import filters as filters
    from .face import info as info
    from .face import invert as invert
    from .face import maximize as maximize
    from .face import predict as predict
    from .face import stats as stats
    from .face import top as top
    from .face import verify as verify
    from .face import weights as weights
    from .models.load import load as load

__version__ = "0.1.0"

# name -> where it is; a module where nothing follows the colon. Functions first, as `help(convscope)` shows them.
_FACE = {
    "load": ".models.load:load",
    **{
        verb: f".face:{verb}"
        for verb in (
            "filters", "maximize", "dream", "invert", "accent", "activations", "top", "stats", "predict", "attack",
            "compare", "info", "verify", "weights",
        )
    },
    "explain": ".engine.attribution.explain:explain",
    "ascend": ".engine.ascent.ascend:ascend",
    "atlas": ".engine.atlas.build:atlas",
    "export": ".engine.export:export",
    "objectives": ".engine.ascent.recipe.objectives:",
    "presets": ".engine.ascent.recipe.presets:",
    "errors": ".errors:",
    "Graph": ".engine.graph.graph:Graph",
    "Layer": ".engine.graph.layers:Layer",
    "Preprocessing": ".engine.graph.preprocessing:Preprocessing",
    "Preset": ".engine.ascent.recipe.presets:Preset",
    "Attribution": ".engine.attribution.explain:Attribution",
    "AscentResult": ".engine.ascent.results:AscentResult",
    "UnitResult": ".engine.ascent.results:UnitResult",
    "Comparison": ".engine.compare.result:Comparison",
    **{
        name: f".errors:{name}"
        for name in (
            "ConvscopeError", "UsageError", "RefusedInput", "UnsafeFile", "UnsupportedOperator", "ParityError",
            "PartlyDone",
        )
    },
}  # fmt: skip

__all__ = ["__version__", *_FACE]


if not TYPE_CHECKING:  # else a misspelt name would have a type

    def __getattr__(name: str) -> Any:
        if name not in _FACE:
            raise AttributeError(f"module 'convscope' has no attribute '{name}'")
        module, _, attribute = _FACE[name].partition(":")
        found = importlib.import_module(module, __name__)
        return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return list(__all__)
