"""Whether a map lies where its answer lies: the pointing game and the energy in a box or mask."""

from __future__ import annotations

import numpy as np

from ..outputs.target import SidesBox, Target


def figures_of(target: Target, heatmap: np.ndarray) -> dict[str, float]:
    """``pointing`` (1 where the maximum lies inside) and ``energy_inside``, of targets that have a box or a mask.

    Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", arXiv:1608.00507 (without its tolerance of
    15 pixels, since small boxes are common); Wang et al. 2020, "Score-CAM", arXiv:1910.01279, section 4.2: the share
    of the map's sum that lies inside.
    """
    place = inside(target, heatmap.shape)
    if place is None or not heatmap.any():
        return {}
    peak = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
    return {"pointing": float(place[peak]), "energy_inside": float(heatmap[place].sum() / heatmap.sum())}


def inside(target: Target, size: tuple[int, ...]) -> np.ndarray | None:
    """(H, W) bool: the target's mask, else its box, or None where it has neither."""
    if target.place is not None and target.place.shape == tuple(size):
        return target.place
    return None if target.box is None else box_mask(target.box, size)


def box_mask(box: SidesBox, size: tuple[int, ...]) -> np.ndarray:
    """(H, W) bool of a box (left, top, right, bottom) in pixels, widened to whole ones, at least one."""
    left, top = max(int(np.floor(box[0])), 0), max(int(np.floor(box[1])), 0)
    right, bottom = max(int(np.ceil(box[2])), left + 1), max(int(np.ceil(box[3])), top + 1)
    mask = np.zeros(size, dtype=bool)
    mask[min(top, size[0] - 1) : bottom, min(left, size[1] - 1) : right] = True
    return mask
