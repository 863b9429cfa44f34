"""From the pixels that the network saw to the picture that a person is shown."""

from __future__ import annotations

import numpy as np


def shown(pixels: np.ndarray, how: str, origin: np.ndarray) -> np.ndarray:
    """A picture (H, W, C) float32 in [0, 1].

    Args:
        pixels: (C, H, W), where 0 and 1 are black and white; may lie outside.
        how: "clip"; "standard": mean 0.5 and standard deviation 0.1 over the whole picture, in the units of 0..255,
            then clip (Chollet 2016); "stretch": pixels counted from ``origin``, scaled so that the largest
            magnitude reaches 0 or 1 and the origin is mid-grey (Yosinski et al. 2015, their toolbox); "percentile": the
            1st percentile of all values becomes 0 and the 99th becomes 1 (Horama's ``plot_maco``).
        origin: the model's mean, 0..255, one per channel.
    """
    picture = pixels.astype(np.float32)
    if how == "standard":
        values = picture * 255
        picture = (values - values.mean()) / (values.std() + np.float32(1e-5)) * np.float32(0.1) + np.float32(0.5)
    elif how == "stretch":
        values = picture * 255 - origin.astype(np.float32)[:, None, None]
        picture = values / max(2 * float(np.abs(values).max()), 1e-10) + np.float32(0.5)
    elif how == "percentile":
        low, high = np.percentile(picture, (1, 99))
        picture = (picture - np.float32(low)) / np.float32(max(high - low, 1e-10))
    return np.ascontiguousarray(np.clip(picture, 0, 1).transpose(1, 2, 0))
