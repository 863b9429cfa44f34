"""What every run of gradient ascent may be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..ascent.recipe.presets import Preset, preset
from ..ascent.recipe.tuning import tuned
from ..executors.devices import check_device
from ..pictures.sides import height_width
from ..whole import keep_whole


@dataclass(frozen=True, kw_only=True)
class AscentOptions:
    """How a picture is made.

    Attributes:
        preset: a name, or a `Preset`.
        size: side in pixels, or (height, width); None is the run's own default.
        steps: of the ascent; None is the preset's own number.
        seed: of everything random.
        strip: how many pictures on the way to keep.
        device: "auto", "cpu" or "cuda[:n]".
        tuning: changes to the preset by name, see `recipe.tuning.SETTINGS`.
    """

    preset: str | Preset = "convscope"
    size: int | tuple[int, int] | None = None
    steps: int | None = None
    seed: int = 0
    strip: int = 0
    device: str = "auto"
    tuning: Mapping[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """Raises UsageError for a preset, setting, number or device that no model can have."""
        tuned(preset(self.preset), self.tuning)
        if self.size is not None:
            height_width(self.size)
        keep_whole(self, steps=1, seed=0, strip=0)
        check_device(self.device)

    def keywords(self, *more: str) -> dict[str, Any]:
        """These, and options of a run's own by name, as `ascent.filters`, `ascent.dream` and their like take them."""
        names = ("preset", "size", "steps", "seed", "strip", "device", "tuning", *more)
        return {name: getattr(self, name) for name in names}
