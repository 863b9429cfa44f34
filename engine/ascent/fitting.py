"""What a network can follow and a machine can hold: recipes adapted to the network, batch sizes, precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ...errors import UsageError
from ..executors.devices import torch_device
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..whole import is_whole
from .network import Network
from .recipe.presets import Preset, Stage
from .recipe.transforms import Crops, Robust, Zoom
from .settings import Settings

_CPU_MAP_BYTES = 12e6  # of the largest feature map of a batch


def adapted(network: Network, chosen: Settings) -> Settings:
    """The settings with a recipe that the network can follow: a head may take pictures of one size only.

    Small views go first, then small stages, then views larger than the picture, then a size that is not the model's own
    and that the user did not name; what is left must work.

    Raises:
        UsageError: the network does not take pictures of this size at all.
    """
    recipe, own = chosen.preset, network.graph.image_size
    if not chosen.is_sized and chosen.size != own and not _takes(network, chosen.size):
        return adapted(network, replace(chosen, size=own))  # some view may fit by chance, photographs would not
    if _fits(network, recipe, chosen.size):
        return chosen
    if isinstance(recipe.transform, Zoom):  # a small picture can be seen enlarged
        recipe = replace(recipe, transform=replace(recipe.transform, whole=True))
    if isinstance(recipe.transform, Crops):  # and so can crops
        recipe = replace(recipe, transform=replace(recipe.transform, side=1.0))
    if not isinstance(recipe.transform, Zoom) or not _fits(network, recipe, chosen.size):
        recipe = replace(recipe, stages=(Stage(1.0, 1.0),))
    if not _fits(network, recipe, chosen.size) and isinstance(recipe.transform, Robust):
        recipe = replace(recipe, transform=replace(recipe.transform, keep=True))
    if not _fits(network, recipe, chosen.size):
        if not chosen.is_sized and chosen.size != own:  # attention over a fixed number of places, say
            return adapted(network, replace(chosen, size=own))
        network(torch.zeros(2, network.channels, *chosen.size, device=network.device))  # raises, with the reason
    return replace(chosen, preset=recipe)


def _takes(network: Network, size: tuple[int, int]) -> bool:
    """Whether the network computes the tapped tensors of whole pictures of this size."""
    try:
        with torch.no_grad():
            network(torch.zeros(2, network.channels, *size, device=network.device))
        return True
    except UsageError:
        return False


def _fits(network: Network, recipe: Preset, size: tuple[int, int]) -> bool:
    rows = np.stack([recipe.transform.draw(np.random.default_rng(0), 1)[0]] * 2)
    stage = recipe.stages[0].size
    small = [max(1, round(side * stage)) for side in size]
    picture = torch.zeros(2, network.channels, *small, device=network.device)
    views = recipe.transform(picture, rows, size)
    if network.graph.own_input is not None and tuple(views.shape[2:]) != tuple(size):
        return False  # a longer signal has other places than the layers' grids know
    try:
        with torch.no_grad():
            return bool(next(iter(network(views).values())).numel())
    except UsageError:
        return False


def reduced_precision(
    graph: Graph, tensors: Sequence[str], recipe: Preset, device: str = "auto", precision: str = "auto"
) -> bool:
    """Whether gradients may be computed in bfloat16.

    Args:
        graph: the network.
        tensors: that are tapped; the network up to them counts.
        recipe: an exact one computes in float32, as its source does.
        device: "auto", "cpu" or "cuda[:n]".
        precision: "auto" leaves it to the recipe and the network; "bfloat16" and "float32" overrule both.

    Raises:
        UsageError: another word.
    """
    check_precision(precision)
    if precision != "auto":
        return precision == "bfloat16"
    return not recipe.exact and (torch_device(device).type != "cpu" or not _is_grouped(graph, tensors))


def check_precision(precision: str) -> None:
    """Raises UsageError for a precision that there is none of."""
    if precision not in ("auto", "bfloat16", "float32"):
        raise UsageError(f"precision '{precision}' is unknown; choose auto, bfloat16 or float32")


def asked_batch(batch: int | str) -> int | None:
    """Pictures at once; None for "auto".

    Raises:
        UsageError: neither "auto" nor a positive number.
    """
    if batch == "auto":
        return None
    is_number = is_whole(batch) or (isinstance(batch, str) and batch.isascii() and batch.isdigit())
    count = int(batch) if is_number else 0
    if count < 1:
        raise UsageError(f"batch '{batch}' is not a positive number; write auto or a number")
    return count


def _is_grouped(graph: Graph, tensors: Sequence[str]) -> bool:
    """Whether a grouped convolution is on the way.

    These gain nothing on a CPU, and EfficientNet-Lite0 took half as long again in bfloat16.
    """
    nodes = graph.index.between([i.name for i in graph.inputs], tensors)
    return any(a.name == "group" and a.i > 1 for n in nodes if n.op_type == "Conv" for a in n.attribute)


def batch_size(batch: int | str, graph: Graph, layer: Layer, chosen: Settings, network: Network) -> int:
    """Pictures at once: as given; on a GPU what fits in half of its free memory; on a CPU what stays fast.

    On a CPU a batch is no faster than a few pictures, and slower once its largest feature map leaves the cache and
    is mapped and unmapped in every step: VGG16's early blocks at 128 pixels took 2.4 times as long per picture in
    batches of 16 as in batches of 2. Beyond 16, bits were not found to be independent of the batch.

    Raises:
        UsageError: neither "auto" nor a positive number.
    """
    if (asked := asked_batch(batch)) is not None:
        return asked
    height, width = graph.image_size
    scale = 1.2 * chosen.size[0] * chosen.size[1] / max(height * width, 1) * chosen.preset.transform.views
    sizes = [
        (2 if network.reduced else 4) * scale * float(np.prod([s or 1 for s in la.shape]))
        for la in graph.layers[: layer.index + 1]
    ]
    if network.device.type == "cuda":
        free = torch.cuda.mem_get_info(network.device)[0]
        return int(np.clip(0.5 * free / max(3 * sum(sizes), 1.0), 1, 256))
    return int(np.clip(_CPU_MAP_BYTES / max(*sizes, 1.0), 2, 16))
