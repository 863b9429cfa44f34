"""Outputs that are pictures themselves: super-resolution, restoration, depth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .facts import Facts
from .masks import MapReading, Regions, _on_input, _planes, is_plane, never_negative, region_weights
from .reading import Answer, Question
from .reads import Masked, Rows
from .target import Target


@dataclass(frozen=True, eq=False)
class PictureAnswer(Answer):
    """A picture that the model made.

    Attributes:
        pixels: (H, W, 3) or (H, W) float32 in [0, 1].
    """

    pixels: np.ndarray

    def to_json(self) -> dict[str, Any]:
        return {"size": [int(self.pixels.shape[0]), int(self.pixels.shape[1])], "mean": float(self.pixels.mean())}

    def text(self) -> str:
        return f"a picture of {self.pixels.shape[1]} x {self.pixels.shape[0]} pixels"


@dataclass(frozen=True, eq=False)
class PictureReading(MapReading):
    """Maps that are pictures themselves: denoised, enlarged, restyled, a depth.

    Attributes:
        scale: the value of white, 1 or 255; 0 where the map's own range is drawn (depth).
        black: the value of black, 0, or -1 of pictures that end in a hyperbolic tangent.
    """

    scale: float = field(kw_only=True, default=1.0)
    black: float = field(kw_only=True, default=0.0)

    accepts = frozenset({"region", "mask"})
    alternatives = (frozenset({"region", "mask"}),)
    takes_target = False

    def answer(self, rows: Rows, *, top: int = 3) -> Any:
        maps = _planes(rows[self.tensor])
        if self.scale:
            maps = np.clip((maps - self.black) / (self.scale - self.black), 0, 1)
        else:
            maps = (maps - maps.min()) / max(float(np.ptp(maps)), 1e-12)
        pixels = maps.transpose(1, 2, 0).astype(np.float32)
        return PictureAnswer(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)

    def regions(self, rows: Rows) -> list[Any]:
        return list(Regions(()).regions)

    def targets(self, rows: Rows, question: Question) -> list[Target]:
        self.check(question)
        maps = _planes(rows[self.tensor])
        given = region_weights(question, maps.shape[1:], self.graph.image_size)
        mask = np.ones(maps.shape[1:], np.float32) if given is None else given
        weights = np.broadcast_to(mask / mask.sum() / len(maps), maps.shape).astype(np.float32)
        weights = weights.reshape(np.shape(rows[self.tensor]))
        name = "mean brightness" if given is None else "mean brightness of the region"
        place = None if given is None else _on_input(mask, self.graph.image_size)
        return [Target(Masked(self.tensor, None, weights), name, place=place, quantity="mean of the picture's values")]


def picture(facts: Facts, forced: bool = False) -> PictureReading | None:
    """(N, 3, h, w) or (N, 1, h, w) larger than the input, named as a picture or depth, or no mask by its values."""
    for name in facts.names:
        shape = facts.shape(name)
        if is_plane(facts, name, shape):
            shape = (shape[0], 1, *shape[1:])
        if not facts.is_float(name) or len(shape) != 4 or shape[1] not in (1, 3) or min(shape[2:]) < 2:
            continue
        if not forced and facts.named(name, "heat", "hm"):
            continue
        larger = shape[2] > facts.size[0] and shape[3] > facts.size[1]
        named = facts.named(name, "image", "img", "rgb", "picture")
        depth = facts.named(name, "depth", "disp")
        low, high = facts.range(name)
        signed = facts.is_tanh(name)
        fine = max(facts.size) <= 8 * max(shape[2:])
        coloured = shape[1] == 3 and fine and facts.head(name) != "softmax" and (low >= 0 or signed)
        plain = shape[1] == 1 and fine and never_negative(facts, name)
        if not (forced or larger or named or depth or coloured or plain):
            continue
        depth = depth or (plain and not named and not larger)
        told = "depth" if facts.named(name, "depth", "disp") else "values that are never negative, from dark to bright"
        title = told if depth else f"{shape[2] / facts.size[0]:g} times the input's size" if larger else "a picture"
        reason = f"a picture of {shape[2]} x {shape[3]} ({title})"
        return PictureReading(
            facts.graph, "image", "image", reason, (name,), (name,), tensor=name, binary=shape[1] == 1,
            scale=0.0 if depth else 255.0 if high > 4 else 1.0,
            black=-1.0 if signed else 0.0,
        )  # fmt: skip
    return None
