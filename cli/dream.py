"""``convscope dream``: a photograph changed towards what a layer sees in it."""

from __future__ import annotations

from typing import Any

from .calling import Call, needed_layer, read_first, takes
from .options import ASCENT, LAYER, UNITS, Group, ModelArgument, PhotoArgument, option, parse_size, preset

OPTIONS: Group = {
    "layer": LAYER,
    "units": UNITS,
    "preset": preset("dream"),
    **ASCENT,
    "size": option(
        Any, 384, "--size", "The dream's longer side, or height x width.", metavar="PX|HxW", parser=parse_size
    ),
}


@takes(OPTIONS)
def command(model: ModelArgument, image: PhotoArgument, **words: Any) -> None:
    """Change a photograph towards what a layer, or some of its units, see in it.

    Writes dream.png, before.png, result.json and index.html.
    """
    from ..engine.runs import dream

    call = Call(words, "dream")
    layer, units = words.pop("layer"), words.pop("units")
    dream.check_units(units)
    options = dream.Options(**call.options)
    options.check()
    read_first(image)
    graph = call.open(model)
    call.finish(call.run(dream.run, graph, image, needed_layer(graph, layer, "dream"), units, options))
