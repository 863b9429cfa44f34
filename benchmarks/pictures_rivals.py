"""Pictures of classes as the neighbouring tools make them: lucent 0.1.8, and MACO by its authors, Horama 0.3.0.

Both get our network, so that the weights and the preprocessing are the same. Horama downloads its spectrum in the
middle of a computation and needs torchvision's compiled operators; here it is given our spectrum and a plain
``roi_align``.
"""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.engine.ascent.network import Network
from convscope.engine.ascent.recipe.spectrum import natural_magnitude

LUCENTS_MARGIN = 12  # pixels by which its standard transforms enlarge what the network sees
HORAMAS_CROPS = 6


class Logits(nn.Module):
    """The network as a torch module, for pictures in [0, 1], whose last child gives the logits."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.logits = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.network(x)[self.network.tensors[0]])  # type: ignore[no-any-return]


def lucent_picture(network: Network, wanted: int, side: int, steps: int, seed: int) -> np.ndarray:
    """lucent's picture of a class, (H, W, 3) in [0, 1]."""
    from lucent.optvis import param, render

    _seed(seed)
    images = render.render_vis(
        Logits(network),
        f"logits:{wanted}",
        lambda: param.image(side),
        thresholds=(steps,),
        preprocess=False,
        progress=False,
        show_image=False,
        fixed_image_size=side + LUCENTS_MARGIN,
    )
    return np.asarray(images[-1][0], dtype=np.float32)


def horama_picture(
    network: Network, wanted: int, side: int, steps: int, seed: int, view: int | None = None
) -> np.ndarray:
    """Horama's picture of a class, shown as its ``plot_maco`` shows it, (H, W, 3) in [0, 1].

    Args:
        network: whose logits are tapped.
        wanted: the class.
        side: of the picture; Horama's own is 1280.
        steps: Horama's own are 1000, each of six views.
        seed: of torch's numbers.
        view: side of what the network sees; by default half the picture's, as in our `maco`.
    """
    maco, plots = _horama()
    _seed(seed)
    image, _ = maco.maco(
        lambda x: network(x)[network.tensors[0]][:, wanted].mean(),
        total_steps=steps,
        image_size=side,
        model_input_size=view or side // 2,
        values_range=(0.0, 1.0),
        device=str(network.device),
    )
    picture = plots.clip_percentile(plots.check_format(image), 1.0)
    return np.asarray(plots.normalize(picture), dtype=np.float32)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)


@cache
def _horama() -> tuple[Any, Any]:
    """Its modules `maco_fv` and `plots`, without what it would download and without torchvision."""
    stand_ins = {name: ModuleType(name) for name in ("torchvision", "torchvision.ops", "torchvision.datasets")}
    stand_ins["torchvision.datasets.utils"] = utils = ModuleType("torchvision.datasets.utils")
    stand_ins["torchvision.ops"].roi_align = _roi_align  # type: ignore[attr-defined]
    utils.download_url = None  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        from horama import maco_fv, plots
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    maco_fv.init_maco_buffer = _buffer
    maco_fv.tqdm = lambda steps: steps
    return maco_fv, plots


def _buffer(shape: tuple[int, int], std_deviation: float = 1.0) -> tuple[Tensor, Tensor]:
    magnitude = torch.from_numpy(natural_magnitude(3, shape))
    return magnitude, torch.randn(magnitude.shape) * std_deviation


def _roi_align(image: Tensor, boxes: Tensor, output_size: tuple[int, int]) -> Tensor:
    """torchvision's for one picture and boxes no larger than ``output_size``: one bilinear sample in each bin.

    Args:
        image: (1, C, H, W).
        boxes: (N, 5) rows of 0, left, top, right, bottom, pixels, where pixel i lies at i.
        output_size: of the results.
    """
    rows, columns = ((torch.arange(n, device=image.device) + 0.5) / n for n in output_size)
    left, top, right, bottom = (boxes[:, i, None] for i in (1, 2, 3, 4))
    x, y = left + (right - left) * columns, top + (bottom - top) * rows
    height, width = image.shape[-2:]
    grid = torch.stack(
        [
            (2 * x / (width - 1) - 1)[:, None, :].expand(-1, len(rows), -1),
            (2 * y / (height - 1) - 1)[:, :, None].expand(-1, -1, len(columns)),
        ],
        dim=-1,
    )
    whole = image.expand(len(boxes), -1, -1, -1)
    found = F.grid_sample(whole, grid, mode="bilinear", padding_mode="border", align_corners=True)
    inside = ((x >= -1) & (x <= width))[:, None, :] & ((y >= -1) & (y <= height))[:, :, None]
    return found * inside[:, None]
