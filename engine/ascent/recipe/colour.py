"""Colour decorrelation: ascent in a space where natural images' three channels are uncorrelated.

The matrix is the square root of the colour covariance of ImageNet as C. Olah, A. Mordvintsev and L. Schubert
publish it (Feature Visualization, 2017, doi:10.23915/distill.00007), divided by its largest column norm, which is
that of the first, luminance-like direction.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

# colour covariance's square root, Olah et al. 2017 (rows R, G, B; columns the decorrelated directions)
CORRELATION_ROOT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
DECORRELATION = CORRELATION_ROOT / np.linalg.norm(CORRELATION_ROOT, axis=0).max()


def recorrelate(image: Tensor) -> Tensor:
    """RGB from decorrelated colour, (N, 3, H, W) to (N, 3, H, W)."""
    return _mix(image, DECORRELATION)


def decorrelate(image: Tensor) -> Tensor:
    """Decorrelated colour from RGB: the inverse of `recorrelate`."""
    return _mix(image, np.linalg.inv(DECORRELATION))


def _mix(image: Tensor, matrix: np.ndarray) -> Tensor:
    """Written out per channel: a matrix product's bits may depend on the number of pictures in the batch."""
    import torch

    first, second, third = image.unbind(1)
    rows = [float(a) * first + float(b) * second + float(c) * third for a, b, c in matrix]
    return torch.stack(rows, dim=1)
