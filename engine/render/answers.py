"""What a model sees, drawn on the picture: numbered boxes, coloured masks, points, the characters of a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..graph.graph import Graph
from ..outputs.boxes import Detections
from ..outputs.masks import Regions
from ..outputs.pictures import PictureAnswer
from ..outputs.reading import Answer
from ..outputs.sequences import Line
from ..outputs.target import SidesBox
from ..pictures.crops import onto_picture, whole_input
from .artifacts import to_uint8

# Okabe & Ito's palette for colour blindness, without black: the order in which numbers are coloured
COLORS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_MASK_WEIGHT = 0.45
_LEGIBLE = 320  # pixels of the longer side; on less, names cover what they name


def drawn_answer(graph: Graph, answer: Answer, pixels: np.ndarray) -> np.ndarray | None:
    """The picture (H, W, 3) in [0, 1] with the answer on it, or None where nothing of it has a place.

    Args:
        graph: its preprocessing says which part of the picture the model saw.
        answer: of a reading.
        pixels: (H, W, 3) in [0, 1], the picture itself.
    """
    if isinstance(answer, PictureAnswer):
        return answer.pixels if answer.pixels.ndim == 3 else np.repeat(answer.pixels[..., None], 3, axis=2)
    if isinstance(answer, Detections):
        found = pixels
        for detection in answer.boxes:
            if detection.mask is not None:
                found = with_mask(graph, found, detection.mask, color_of(detection.number))
        names = [f"{d.number} {d.name} {d.score:.0%}" for d in answer.boxes]
        return with_boxes(graph, found, [d.box for d in answer.boxes], names)
    if isinstance(answer, Regions):
        found = pixels
        for region in answer.regions:
            found = with_mask(graph, found, region.mask, color_of(region.number))
        boxes = [r.box for r in answer.regions if r.box is not None]
        return with_boxes(graph, found, boxes, [str(r.number) for r in answer.regions]) if boxes else found
    if isinstance(answer, Line) and answer.length:
        height, width = graph.image_size
        step = width / answer.length
        places = [(c.steps[0] * step, 0.0, (c.steps[-1] + 1) * step, float(height)) for c in answer.characters]
        names = [c.text if len(c.text) == 1 and c.text.isascii() else str(c.number) for c in answer.characters]
        return with_boxes(graph, pixels, places, names)
    points = getattr(answer, "points", None)
    return with_points(graph, pixels, points) if points is not None else None


def color_of(number: int) -> tuple[int, int, int]:
    """The colour of an answer's number (from 1)."""
    return COLORS[(number - 1) % len(COLORS)]


def on_pixels(graph: Graph, box: SidesBox, size: tuple[int, int]) -> SidesBox:
    """A box of the model's input in pixels of a picture (height, width)."""
    top, left, bottom, right = whole_input(graph, size)
    height, width = graph.image_size
    x, y = (right - left) / width, (bottom - top) / height
    return left + box[0] * x, top + box[1] * y, left + box[2] * x, top + box[3] * y


def with_boxes(
    graph: Graph, pixels: np.ndarray, boxes: Sequence[SidesBox], names: Sequence[str], first: int = 1
) -> np.ndarray:
    """The picture with framed boxes (of the model's input) and a name on each; colours by number from ``first``.

    A small picture is made a whole number of times larger, so that a name does not cover it.
    """
    image = _legible(pixels)
    pen = ImageDraw.Draw(image)
    line = max(round(max(image.size) / 320), 1)
    font: Any = ImageFont.load_default(max(min(image.size) / 28, 10))
    for number, (box, name) in enumerate(zip(boxes, names, strict=True), first):
        left, top, right, bottom = on_pixels(graph, box, (image.height, image.width))
        left, right = max(min(left, right), 0), min(max(left, right), image.width - 1)
        top, bottom = max(min(top, bottom), 0), min(max(top, bottom), image.height - 1)
        if right < left or bottom < top:
            continue
        color = color_of(number)
        pen.rectangle((left, top, right, bottom), outline=color, width=line)
        _label(pen, font, name, (left, top), image.size, color)
    return np.asarray(image, dtype=np.float32) / 255


def _legible(pixels: np.ndarray) -> Image.Image:
    """The picture, pixels repeated until its longer side is long enough for names."""
    image = Image.fromarray(to_uint8(pixels)).convert("RGB")
    times = -(-_LEGIBLE // max(image.size))
    return image if times < 2 else image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _label(
    pen: ImageDraw.ImageDraw, font: Any, name: str, at: tuple[float, float], size: tuple[int, int],
    color: tuple[int, int, int],
) -> None:  # fmt: skip
    """A name on a ground of the box's colour, above the box where there is room, inside the picture always."""
    text = name.encode("ascii", "replace").decode() if not name.isascii() else name  # the font has Latin letters alone
    _, _, width, height = pen.textbbox((0, 0), text, font=font)
    x = min(max(at[0], 0), max(size[0] - width - 4, 0))
    y = at[1] - height - 4 if at[1] >= height + 4 else at[1]
    pen.rectangle((x, y, x + width + 4, y + height + 4), fill=color)
    pen.text((x + 2, y + 1), text, fill=(0, 0, 0) if sum(color) > 330 else (255, 255, 255), font=font)


def with_mask(graph: Graph, pixels: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """The picture with a mask (of any size, over the model's input) in a colour."""

    def enlarged(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.NEAREST))

    inside = onto_picture(graph, mask.astype(np.uint8) * 255, (pixels.shape[0], pixels.shape[1]), enlarged) > 127
    found = np.array(pixels, dtype=np.float32)
    found[inside] = (1 - _MASK_WEIGHT) * found[inside] + _MASK_WEIGHT * np.asarray(color, np.float32) / 255
    return found


def with_points(graph: Graph, pixels: np.ndarray, points: Sequence[tuple[float, float]]) -> np.ndarray:
    """The picture with a dot on each point of the model's input; a small one larger, see `with_boxes`."""
    image = _legible(pixels)
    pen = ImageDraw.Draw(image)
    radius = max(max(image.size) / 160, 2)
    for x, y in points:
        left, top, _, _ = on_pixels(graph, (x, y, x, y), (image.height, image.width))
        pen.ellipse((left - radius, top - radius, left + radius, top + radius), fill=COLORS[0], outline=(0, 0, 0))
    return np.asarray(image, dtype=np.float32) / 255
