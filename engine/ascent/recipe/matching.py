"""Sort matching: pictures whose features are distributed as they are in photographs.

The loss of VITAL (A. Gorgun, B. Schiele and J. Fischer 2025, arXiv:2503.22399). Where a feature lies is left free; how
much of it there is, and how strong, is not. A feature map's values are sorted, and the value at each rank is compared
with the mean of the photographs' values at that rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Ranked:
    """What photographs have at one layer.

    Attributes:
        values: (channels, positions), ascending in each row: the mean over photographs of the value at that rank.
        weights: (channels,) from 0 to 1, how much each channel counts; not all zero.
    """

    values: Tensor
    weights: Tensor

    @staticmethod
    def of(maps: Sequence[Tensor], weights: Tensor) -> Ranked:
        """From the maps (channels, positions) of each photograph."""
        return Ranked(torch.stack([one.sort(dim=1).values for one in maps]).mean(0), weights)


def mismatch(maps: Tensor, wanted: Ranked) -> Tensor:
    """How far one picture's features are from the photographs', 0 where they are the same.

    With ``s`` the sorted values of a channel, ``r`` the photographs' and ``w`` the channels' weights,

        sum_c w_c mean_p (s_cp - r_cp)^2 / sum_c w_c mean_p r_cp^2

    VITAL sums square differences; as a share of the photographs' own squares, layers of any scale count alike.

    Args:
        maps: (channels, positions) of the picture; where it has another number of positions than the photographs,
            theirs are interpolated between ranks.
        wanted: of the photographs.
    """
    target = wanted.values
    if target.shape[1] != maps.shape[1]:
        target = F.interpolate(target[None], maps.shape[1], mode="linear", align_corners=True)[0]
    far = (maps.sort(dim=1).values - target).square().mean(1)
    whole = target.square().mean(1)
    return (wanted.weights * far).sum() / (wanted.weights * whole).sum().clamp_min(1e-12)


def importance(maps: Tensor, gradients: Tensor) -> Tensor:
    """How much each channel speaks for a unit on some photographs, (channels,), the largest 1.

    The mean over photographs of gradient times activation, summed over positions, where it is positive: a stand-in for
    the relevance propagation of VITAL. All alike where no channel speaks for it.

    Args:
        maps: (photographs, channels, positions).
        gradients: of the unit's activation with respect to them.
    """
    spoken = (maps * gradients).sum(2).mean(0).clamp_min(0)
    most = spoken.max()
    return spoken / most if float(most) > 0 else torch.ones_like(spoken)
