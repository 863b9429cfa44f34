"""Which part of a picture a model sees, and at which size: timm's, torchvision's and ultralytics' own whole numbers.

A picture is resized, then cut or padded to the input's size. ``crop`` is timm's "center": the short side to
floor(size / crop), the long one truncated after the same scale (torchvision's `Resize`); for an input that is not
square both sides by one ratio, rounded (timm's `ResizeKeepRatio`). ``squash`` resizes both sides to floor(size / crop),
``border`` the long side to that, and fills the rest; ``letterbox`` is YOLO's: the long side to the size, the rest gray.
What is cut lies in the centre, its offset rounded as Python rounds (torchvision's `CenterCrop`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from ..graph.preprocessing import Preprocessing

RESIZES = ("squash", "crop", "border", "letterbox")
LETTERBOX_GRAY = 114 / 255  # ultralytics, data/augment.py, LetterBox


@dataclass(frozen=True)
class Frame:
    """How a picture becomes an input.

    Attributes:
        resized: (rows, columns) that the whole picture is resized to.
        top, left: of the input within the resized picture; negative where the input begins outside it.
        size: (rows, columns) of the input.
    """

    resized: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]

    @property
    def pads(self) -> bool:
        """Whether the input is larger than the resized picture anywhere."""
        ends = (self.top + self.size[0], self.left + self.size[1])
        return self.top < 0 or self.left < 0 or ends[0] > self.resized[0] or ends[1] > self.resized[1]


def framed(height: int, width: int, size: tuple[int, int], how: Preprocessing) -> Frame:
    """The frame of a picture of this height and width in an input of this size; samples (one row) are never scaled."""
    if height == size[0] == 1:
        return Frame((height, width), 0, 0, size)
    if how.resize == "letterbox":
        return _letterbox(height, width, size)
    scaled = (floor(size[0] / how.crop), floor(size[1] / how.crop))
    if how.resize == "squash":
        resized = scaled
    elif how.resize == "border":
        resized = _kept(height, width, max(height / scaled[0], width / scaled[1]))
    elif scaled[0] == scaled[1]:
        resized = _short_side(height, width, scaled[0])
    else:
        resized = _kept(height, width, min(height / scaled[0], width / scaled[1]))
    return Frame(resized, *_centre(resized, size), size)


def _short_side(height: int, width: int, side: int) -> tuple[int, int]:
    """torchvision's `Resize` of one number: the long side is truncated."""
    if width <= height:
        return max(int(side * height / width), 1), side
    return side, max(int(side * width / height), 1)


def _kept(height: int, width: int, ratio: float) -> tuple[int, int]:
    return max(round(height / ratio), 1), max(round(width / ratio), 1)


def _centre(resized: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """torchvision's `CenterCrop`: what is too small is padded first, the smaller half before it."""
    offsets = []
    for have, want in zip(resized, size, strict=True):
        offsets.append(-((want - have) // 2) if want > have else round((have - want) / 2))
    return offsets[0], offsets[1]


def _letterbox(height: int, width: int, size: tuple[int, int]) -> Frame:
    ratio = min(size[0] / height, size[1] / width)
    resized = max(round(height * ratio), 1), max(round(width * ratio), 1)
    top, left = (round((want - have) / 2 - 0.1) for have, want in zip(resized, size, strict=True))
    return Frame(resized, -top, -left, size)
