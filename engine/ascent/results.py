"""What ascent gives back: plain arrays with their history, their verdict and where they come from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..kept import Count, Either, OneOf
from ..record import Record

_LONGEST = 4096  # pixels in a notebook; a picture of many channels side by side is wider than WebP can be
_LOOKED_AT = 128  # pixels: the side up to which a small picture is enlarged
OK, WEAK, DEAD = "ok", "weak", "dead"
FORM = {  # of what `UnitResult.to_json` gives, when it is read again
    "unit": Count(), "status": OneOf(OK, WEAK, DEAD), "reason": str, "rescue": str, "activation_start": float,
    "activation_end": float, "activation_photographs": Either(None, float), "steps": Count(), "history": [float],
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class UnitResult:
    """One unit's picture.

    Attributes:
        unit: the channel or class.
        image: (H, W, C) float32 in [0, 1], as it is shown.
        start: the same before the first step.
        history: what ascent maximized, per step, on the transformed views.
        activation_start, activation_end: the objective on the plain start and end picture.
        reference: the highest value that the reference photographs reach.
        status: "ok", "weak" or "dead".
        reason: the verdict in words.
        rescue: "" or what made a silent unit speak: "pre-activation", "restart 1", ...
        strip: pictures on the way, where asked for.
        name: the class's name, or "".
        alpha: how much each place mattered to the ascent, (H, W) in [0, 1], where asked for: the picture's opacity.
        file: its PNG in the folder that keeps it, or None. The picture is then as the file has it: 8 bits a value,
            and crossed out where the unit is dead.
    """

    unit: int
    image: np.ndarray
    start: np.ndarray
    history: tuple[float, ...]
    activation_start: float
    activation_end: float
    reference: float
    status: str
    reason: str
    rescue: str = ""
    strip: tuple[np.ndarray, ...] = ()
    name: str = ""
    alpha: np.ndarray | None = None
    file: str | None = None

    @property
    def steps(self) -> int:
        """Steps taken: fewer than asked for where the picture had converged, a rescue's own where there is one."""
        return len(self.history)

    def to_json(self, file: str | None = None) -> dict[str, Any]:
        """Every number, without the pictures."""
        return {
            "unit": self.unit,
            **({"name": self.name} if self.name else {}),
            "file": file or self.file,
            "status": self.status,
            "reason": self.reason,
            "rescue": self.rescue,
            "activation_start": self.activation_start,
            "activation_end": self.activation_end,
            "activation_photographs": self.reference,
            "steps": self.steps,
            "history": list(self.history),
        }

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        height, width = self.image.shape[:2]
        return (
            f"<Unit {self.unit}{name}: {height} x {width} pixels, {self.status}, activation {self.activation_end:.3g}>"
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the picture as a PNG file; returns its path."""
        from ..render.artifacts import save_png

        return save_png(path, self.image)

    def _repr_png_(self) -> bytes:
        from ..render.notebook import png

        return png(self.image)


@dataclass(frozen=True, eq=False, repr=False)
class AscentResult:
    """Pictures of the units of one layer, in the order asked for.

    Attributes:
        record: of which model, and made by what.
        layer: the layer's name.
        preset: the preset's name.
        size, steps, seed: as used.
        settings: changes to the preset, name -> value.
        provenance: what else a picture is a function of: where the preset's numbers come from, the start, the
            precision of gradients, the source file's sha256.
        units: the results; where they are kept in a folder, they are read when they are looked at.
    """

    record: Record
    layer: str
    preset: str
    size: tuple[int, int]
    steps: int
    seed: int
    settings: Mapping[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    units: Sequence[UnitResult] = ()

    @property
    def model(self) -> str:
        """The graph's name."""
        return str(self.record.model["name"])

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, index: int) -> UnitResult:
        return self.units[index]

    def __repr__(self) -> str:
        verdicts = ", ".join(f"{n} {s}" for s in (OK, WEAK, DEAD) if (n := sum(u.status == s for u in self.units)))
        return f"<Ascent of {self.model!r} {self.layer!r}: {len(self)} pictures ({verdicts}), preset {self.preset}>"

    @property
    def images(self) -> list[np.ndarray]:
        """The pictures, (H, W, C) float32 in [0, 1], in the order of the units."""
        return [unit.image for unit in self.units]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the grid, where ``path`` ends in .png, else a folder of all pictures with grid and numbers.

        Returns:
            The path of the grid, or the folder's.

        Raises:
            UsageError: a grid of no pictures.
        """
        from ..render.artifacts import save_png, unique, write_json

        target, taken = Path(path), set[str]()
        if target.suffix.lower() == ".png":
            return save_png(target, self.grid())
        files = [f"{unique(f'unit-{unit.unit:04d}', taken)}.png" for unit in self.units]  # facets are of one unit
        for unit, file in zip(self.units, files, strict=True):
            unit.save(target / file)
        if files:
            save_png(target / "grid.png", self.grid())
        write_json(target / "result.json", self.to_json(files))
        return target

    def grid(self, columns: int | None = None, margin: int = 2) -> np.ndarray:
        """All pictures stitched, (H, W, C) in [0, 1]; small ones enlarged, dead units crossed out, not grey.

        Raises:
            UsageError: there is none, as where all the units that ``top`` may choose from are dead.
        """
        from ..render.grid import grid

        if not len(self):
            raise UsageError(f"no picture of '{self.layer}' was kept, so there is no grid of them")
        return grid([enlarged(tile(u)) for u in self.units], columns, margin)

    def to_json(self, files: Sequence[str | None] | None = None) -> dict[str, Any]:
        """The content of ``result.json``."""
        return self.record.to_json(
            {
                "layer": self.layer,
                "preset": self.preset,
                "size": self.size[0] if self.size[0] == self.size[1] else list(self.size),
                "steps": self.steps,
                "seed": self.seed,
                "settings": dict(self.settings),
                "units": self._rows(files),
                "provenance": self.provenance,
            }
        )

    def _rows(self, files: Sequence[str | None] | None) -> list[dict[str, Any]]:
        from .making import Kept

        if files is None and isinstance(self.units, Kept):
            return self.units.rows()
        names = files if files is not None else [None] * len(self.units)
        return [u.to_json(f) for u, f in zip(self.units, names, strict=True)]

    def _repr_html_(self) -> str:
        from ..pages.template import data_uri

        negative = ", negative" if self.provenance.get("negative") else ""
        title = f"{self.model}, layer {self.layer}{negative}, preset {self.preset}, seed {self.seed}"
        cells = "".join(
            f'<figure style="display:inline-block;margin:4px;text-align:center">'
            f'<img src="{data_uri(enlarged(u.image), longest=_LONGEST)}" alt="unit {u.unit}" width="128">'
            f"<figcaption>{u.unit} {escape(u.name)} {escape(u.status)} {u.activation_end:.3g}</figcaption></figure>"
            for u in self.units
        )
        return f"<div><p>{escape(title)}</p>{cells}</div>"


def enlarged(image: np.ndarray) -> np.ndarray:
    """A small picture (H, W, C) as it is looked at: every pixel drawn as a square, so that none is invented."""
    factor = max(1, _LOOKED_AT // max(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else image


def tile(unit: UnitResult) -> np.ndarray:
    """The unit's picture for a grid; a dead unit's is darkened and crossed out, as its file is already."""
    if unit.status != DEAD or unit.file is not None:
        return unit.image
    image = unit.image * np.float32(0.25)
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    slope = y / max(height - 1, 1), x / max(width - 1, 1)
    thickness = 1.5 / max(min(height, width), 1) + 0.01
    cross = np.minimum(np.abs(slope[0] - slope[1]), np.abs(slope[0] + slope[1] - 1)) < thickness
    image[cross] = 0.75
    return image
