"""D-RISE: which parts of a picture a box needs to be found again, for any detector, without gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....errors import UsageError
from ...outputs.boxes import DetectionReading, iou
from ...outputs.target import Target
from ..batch import Batch
from ..maps import Maps, unit_range
from ..registry import method
from .masks import random_masks

_SETTLED = 0.95  # rank correlation of the maps of the two halves of the masks
_FIRST = 500  # masks before it is looked at


@method("drise", "D-RISE", "perturbation", many=True)
def d_rise(
    batch: Batch, targets: Sequence[Target], *, masks: int = 2000, cells: int = 16, keep: float = 0.5, seed: int = 0
) -> Maps:
    """The mean of random smooth masks, weighted by how well the box is found again in the masked picture.

    Petsiuk et al. 2021, "Black-box Explanation of Object Detectors via Saliency Maps", arXiv:2006.03204: the weight of
    a mask is max_j IoU(box, box_j) * O_j * cos(P, P_j), see `outputs.boxes.Match`; masks of ``cells`` x ``cells``, each
    open with probability ``keep``. Deviations: masks are drawn and upsampled as in RISE; the paper takes 5,000, here
    drawing ends early when the maps of the odd and of the even masks agree to a rank correlation of 0.95. Targets
    without a box (a class, a mask) are weighted by their own number.
    """
    if masks < 2 or cells < 2 or not 0 < keep < 1:
        raise UsageError(f"drise: masks {masks}, cells {cells}, keep {keep}; need masks >= 2, cells >= 2, 0 < keep < 1")
    values = np.empty((len(batch.x), *batch.size), dtype=np.float32)
    used = np.empty(len(batch.x))
    for index in range(len(batch.x)):
        values[index], used[index] = _one(
            batch, index, _similarity(batch, index, targets[index]), masks, cells, keep, seed
        )
    return Maps(values, unit_range(values), figures={"masks": used})


def _one(
    batch: Batch, index: int, target: Target, masks: int, cells: int, keep: float, seed: int
) -> tuple[np.ndarray, int]:
    """(map, masks used) of one picture."""
    halves, count = np.zeros((2, *batch.size)), 0
    looked = 0
    for part in random_masks(np.random.default_rng(seed), masks, cells, keep, batch.size, _EVEN):
        hidden = np.ascontiguousarray(batch.x[index] * part[:, None], dtype=np.float32)
        weights = batch.executors.scores(hidden, [target])
        for parity in (0, 1):
            halves[parity] += np.tensordot(weights[parity::2], part[parity::2], axes=1)
        count += len(part)
        if count - looked >= _FIRST:
            looked = count
            if _agree(halves):
                break
    return (halves.sum(axis=0) / (count * keep)).astype(np.float32), count


_EVEN = 16  # masks of one part, whatever the batch, so that drawing ends at the same mask


def _agree(halves: np.ndarray) -> bool:
    from scipy.stats import rankdata  # takes longer to import than most methods run

    coarse = halves[:, ::4, ::4].reshape(2, -1)
    ranks = [rankdata(half) for half in coarse]
    if np.ptp(coarse[0]) == 0 or np.ptp(coarse[1]) == 0:
        return False
    return bool(np.corrcoef(ranks)[0, 1] > _SETTLED)


def _similarity(batch: Batch, index: int, target: Target) -> Target:
    """The paper's similarity for a target that is a box of a detector; any other target as it is."""
    reading = batch.executors.reading if target.box is not None else None
    if not isinstance(reading, DetectionReading) or target.box is None:
        return target
    return Target(
        reading.match(target.box, target.class_index, _class_shares(batch, reading, target, index)), target.name
    )


def _class_shares(batch: Batch, reading: DetectionReading, target: Target, index: int) -> np.ndarray | None:
    """(K,) the box's own class probabilities, P of the paper; None where the file gives one class a box."""
    found = reading.decode(batch.rows(reading)[index])
    if found.classes is not None or found.scores.shape[1] < 2 or target.box is None:
        return None
    own: np.ndarray = found.scores[int(iou(np.asarray([target.box]), found.boxes)[0].argmax())]
    return own
