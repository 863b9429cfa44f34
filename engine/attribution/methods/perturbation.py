"""Attributions that only watch the score while something is hidden: no gradient, forward session, fixed batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from ....errors import RefusedInput, UsageError
from ...graph.layers import Layer
from ...outputs.target import Target, tensors_of
from ..batch import Batch, Executors, passes
from ..capture import maps_of, require_spatial
from ..maps import Maps, over_picture, unit_range
from ..registry import method
from .gradient import reference_input
from .masks import random_masks


@method("occlusion", "Occlusion", "perturbation", many=True)
def occlusion(
    batch: Batch,
    targets: Sequence[Target],
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: str | np.ndarray = "gray",
) -> Maps:
    """How much the score falls when a square is covered, averaged over the squares that cover a pixel.

    Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2. The paper maps the score itself at the square's centre;
    here it is the drop, and squares overlap.

    Args:
        batch: the pictures and the executors.
        targets: one score for each picture.
        window: side of the square, pixels; default a seventh of the shorter side.
        stride: pixels between squares; default half a window.
        baseline: what covers, see `gradient.reference_input`.
    """
    height, width = batch.size
    side = window or max(min(height, width) // 7, 1)
    step = stride or max(side // 2, 1)
    if not 1 <= side <= min(height, width) or step < 1:
        raise UsageError(f"occlusion window {side} and stride {step} do not fit an image of {height} x {width} pixels")
    boxes = [(top, left) for top in _places(height, side, step) for left in _places(width, side, step)]
    masks = np.zeros((len(boxes), height, width), dtype=np.float32)
    for mask, (top, left) in zip(masks, boxes, strict=True):
        mask[top : top + side, left : left + side] = 1
    covered = masks.sum(axis=0)
    reference = reference_input(batch, baseline)
    values = np.empty((len(batch.x), height, width), dtype=np.float32)
    whole = batch.scores(targets)
    for index in range(len(batch.x)):
        size = min(batch.executors.batch, len(masks))
        found = np.concatenate(
            [
                _masked_scores(
                    batch.executors,
                    batch.x[index],
                    targets[index],
                    1 - masks[start : start + size],
                    reference[index],
                    rows=size,
                )
                for start in range(0, len(masks), size)
            ]
        )
        values[index] = np.tensordot(whole[index] - found, masks, axes=1) / np.maximum(covered, 1)
    return Maps(values, values)


@method("rise", "RISE", "perturbation", many=True)
def rise(
    batch: Batch, targets: Sequence[Target], *, masks: int = 1000, cells: int = 7, keep: float = 0.5, seed: int = 0
) -> Maps:
    """The mean of random smooth masks, weighted by the probability that the masked image keeps.

    Petsiuk et al. 2018, "RISE", arXiv:1806.07421: M_i upsampled from a coarse grid of ``cells`` x ``cells``,
    each open with probability ``keep``, shifted at random; map = sum_i p(x * M_i) M_i / (N keep). ``x * M``
    is taken in model space, as in the authors' code. The paper uses 4000 to 8000 masks; fewer are noisier.
    The heatmap's zero is the least important pixel, since every pixel carries the mean probability.
    """
    if masks < 1 or cells < 2 or not 0 < keep < 1:
        raise UsageError(f"rise: masks {masks}, cells {cells}, keep {keep}; need masks >= 1, cells >= 2, 0 < keep < 1")
    values = np.zeros((len(batch.x), *batch.size), dtype=np.float64)
    rows = min(batch.executors.batch, masks)
    for index in range(len(batch.x)):
        for part in random_masks(np.random.default_rng(seed), masks, cells, keep, batch.size, batch.executors.batch):
            found = _masked_scores(batch.executors, batch.x[index], targets[index], part, rows=rows, probability=True)
            values[index] += np.tensordot(found, part, axes=1)
    values = (values / (masks * keep)).astype(np.float32)
    return Maps(values, unit_range(values))


@method("scorecam", "Score-CAM", "cam", many=True)
def score_cam(
    batch: Batch,
    targets: Sequence[Target],
    layer: Layer,
    *,
    align_corners: bool = False,
    coarse: float = 1.0,
    refine: int = 64,
) -> Maps:
    """Feature maps weighted by the softmax of the scores that they leave as masks on the image.

    Wang et al. 2020, "Score-CAM", arXiv:1910.01279: H_k = upsampled A_k scaled to [0, 1],
    w = softmax_k S(x * H_k), map = sum_k w_k A_k. The baseline score that the paper subtracts is the same for
    every channel and drops out of the softmax.

    Channels whose low-resolution maps are equal after scaling make equal masks, and each distinct mask is
    scored once: above all the silent channels, which in a trained network are many, share one pass.

    Args:
        batch: the pictures and the executors.
        targets: one score for each picture.
        layer: whose maps are the masks.
        align_corners: upsample the masks as pytorch-grad-cam does; the authors' code does not.
        coarse: below 1, a deviation that saves time: every mask is scored on the image at this scale first
            (0.5 costs a quarter), and only the strongest ``refine`` masks on the full image; the other scores
            are carried over by the straight line that fits the refined ones.
        refine: see ``coarse``.
    """
    if not 0 < coarse <= 1:
        raise UsageError(f"scorecam: coarse {coarse} is no scale; use more than 0 and at most 1")
    require_spatial(layer)
    (raw,) = batch.values([layer.tensor])
    activations = layer.maps(raw)
    values = np.empty((len(batch.x), *activations.shape[2:]), dtype=np.float32)
    for index, maps in enumerate(activations):
        distinct, places = _distinct(maps)
        ask = partial(_map_scores, batch.executors, layer, target=targets[index], align_corners=align_corners)
        x = batch.x[index]
        found = ask(x, distinct) if coarse == 1 else _coarse_to_fine(ask, x, distinct, coarse, refine)
        weights = np.exp(found - found.max())[places]
        values[index] = np.tensordot(weights / weights.sum(), maps, axes=1)
    note = f"masks scored at {coarse:g} of the image's size, the strongest {refine} at full size"
    return replace(maps_of(values, batch, layer), notes=() if coarse == 1 else (note,))


@method("ablationcam", "Ablation-CAM", "cam", many=True)
def ablation_cam(batch: Batch, targets: Sequence[Target], layer: Layer) -> Maps:
    """Feature maps weighted by the relative fall of the score when each is set to zero.

    Desai & Ramaswamy 2020, "Ablation-CAM", WACV: w_k = (S - S_k) / S, map = sum_k w_k A_k. Only the part above
    the layer runs again, and only for channels that are not zero already. Where the layer has negative
    activations pytorch-grad-cam ablates to a large negative value, which is not in the paper; zero is used
    here. A negative S flips the paper's quotient, so it is divided by |S|.
    """
    require_spatial(layer)
    executors, wanted = batch.executors, tensors_of(targets)
    names = (layer.tensor, *executors.sides(layer, wanted))
    feeds = batch.values(names)
    whole = batch.scores(targets)
    axis = layer.channel_axis or 1
    maps, whole_channels = layer.maps(feeds[0]), layer.channels_first(feeds[0])
    weights = np.zeros(maps.shape[:2])
    session = executors.session(wanted, names)
    for index in range(len(batch.x)):
        alive = np.flatnonzero(whole_channels[index].reshape(maps.shape[1], -1).any(axis=1))
        for _, channels in passes(alive, executors.rows_together(targets)):
            rows = _rows(batch, names, index, len(channels))
            for row, channel in enumerate(channels):
                rows[layer.tensor][(row, *[slice(None)] * (axis - 1), channel)] = 0
            found = executors.read(session.run(rows), [targets[index]], len(channels))
            weights[index, channels] = (whole[index] - found) / (abs(whole[index]) or 1.0)
    values = np.einsum("nkhw,nk->nhw", maps, weights).astype(np.float32)
    return maps_of(values, batch, layer)


def _places(length: int, side: int, step: int) -> list[int]:
    """Starts of the windows; the last may reach over the edge."""
    count = -(-(length - side) // step) + 1
    return [i * step for i in range(count)]


def _distinct(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct masks (at the layer's resolution) among maps (K, h, w), and which each channel has."""
    scaled = unit_range(maps)
    _, first, places = np.unique(scaled.reshape(len(maps), -1), axis=0, return_index=True, return_inverse=True)
    return scaled[first], places.reshape(-1)


def _map_scores(
    executors: Executors, layer: Layer, x: np.ndarray, maps: np.ndarray, *, target: Target, align_corners: bool
) -> np.ndarray:
    """(K,) scores of one image (C, H, W) under K low-resolution masks, upsampled a batch at a time."""
    rows = min(executors.batch, len(maps))
    found = []
    for start in range(0, len(maps), rows):
        size = (x.shape[1], x.shape[2])
        masks = unit_range(over_picture(maps[start : start + rows], layer, size, align_corners=align_corners))
        found.append(_masked_scores(executors, x, target, masks, rows=rows))
    return np.concatenate(found)


def _coarse_to_fine(
    ask: Callable[[np.ndarray, np.ndarray], np.ndarray], x: np.ndarray, maps: np.ndarray, scale: float, refine: int
) -> np.ndarray:
    """Scores of all maps on a small image, replaced for the strongest by those on the full one."""
    size = [max(round(s * scale), 1) for s in x.shape[1:]]
    small = np.stack([np.asarray(Image.fromarray(c).resize(size[::-1], Image.Resampling.BOX)) for c in x])
    try:
        found = ask(small, maps)
    except RefusedInput as error:
        raise UsageError(f"scorecam: coarse needs a model that takes any image size; {error}") from error
    best = np.argsort(-found)[: max(refine, 2)]
    exact = ask(x, maps[best])
    slope, offset = np.polyfit(found[best], exact, 1) if np.ptp(found[best]) > 0 else (1.0, exact[0] - found[best][0])
    found = found * max(slope, 0.0) + offset
    found[best] = exact
    return found


def _masked_scores(
    executors: Executors,
    x: np.ndarray,
    target: Target,
    masks: np.ndarray,
    reference: np.ndarray | None = None,
    *,
    rows: int,
    probability: bool = False,
) -> np.ndarray:
    """(M,) scores of one image under M masks (M, H, W): 1 keeps the pixel, 0 shows the reference or 0.

    The pass has ``rows`` >= M images: fewer are filled up, so that all passes have one shape.
    """
    part = masks[:, None].astype(np.float32)
    hidden = x * part
    if reference is not None:
        hidden += reference * (1 - part)
    if len(hidden) < rows:
        hidden = np.concatenate([hidden, np.repeat(hidden[-1:], rows - len(hidden), axis=0)])
    return executors.scores(hidden, [target], probability=probability)[: len(masks)]


def _rows(batch: Batch, names: Sequence[str], index: int, count: int) -> dict[str, Any]:
    """One image's tensors, ``count`` times; whole-number ones (shapes) are computed anew for that batch."""
    values = dict(zip(names, batch.values(names), strict=True))
    if all(np.issubdtype(v.dtype, np.floating) and len(v) == len(batch.x) for v in values.values()):
        return {n: np.repeat(v[index : index + 1], count, axis=0) for n, v in values.items()}
    return batch.executors.session(names).run(np.repeat(batch.x[index : index + 1], count, axis=0))
