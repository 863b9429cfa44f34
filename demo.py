"""``make demo``: what convscope shows of EfficientNet-Lite0 with ImageNet weights in a few minutes, and two atlases."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .engine.pictures.photographs import FOLDER

if TYPE_CHECKING:
    import numpy as np

MODEL = "efficientnet-lite0"
OUT = Path("demo")
CAT = FOLDER / "cat.jpg"
CLASSES = "beacon,goldfish,strawberry,red fox,balloon,pirate,snail,monarch"
_WIDTH, _MARGIN = 960, 6  # of the montage, pixels
_COLUMNS = 4  # of its walls


@dataclass(frozen=True)
class Step:
    """One command of the demo.

    Attributes:
        title, caption: what the page says.
        folder: its folder inside ``demo/``.
        picture: glob of the picture that stands for it; the first match is shown.
        arguments: of ``convscope``, without ``-o``.
    """

    title: str
    caption: str
    folder: str
    picture: str
    arguments: tuple[str, ...]

    @property
    def out(self) -> Path:
        return OUT / self.folder


def _filters(folder: str, title: str, layer: str, caption: str) -> Step:
    arguments = ("filters", MODEL, "--layer", layer, "--units", "0-7", "--columns", "4")
    return Step(title, caption, folder, "grid.png", arguments)


STEPS = (
    Step(
        "Eight classes",
        "What the network takes for a lighthouse, a goldfish, a strawberry, a red fox, a balloon, a pirate ship, a "
        "snail and a monarch butterfly most.",
        "classes",
        "grid.png",
        ("maximize", MODEL, "--class", CLASSES, "--columns", "4"),
    ),
    _filters("filters-early", "Early: edges and colours", "_blocks.1", "8 units of _blocks.1."),
    _filters("filters-middle", "Middle: textures", "_blocks.6", "8 units of _blocks.6."),
    _filters("filters-late", "Late: parts of objects", "_blocks.13._swish", "8 units of _blocks.13._swish."),
    Step(
        "A dream",
        "A photograph, changed towards what the middle of the network sees in it.",
        "dream",
        "dream.png",
        ("dream", MODEL, str(CAT), "--layer", "_blocks.7"),
    ),
    Step(
        "Why a cat?",
        "Where in the photograph the evidence for the predicted class lies.",
        "explain",
        "*overlay*.png",
        ("explain", MODEL, str(CAT), "--method", "gradcam"),
    ),
    Step(
        "Atlas of LeNet",
        "Every unit of every layer of the network for digits that ships with convscope.",
        "atlas-lenet",
        "s/best-000.webp",
        ("atlas", "lenet", "--steps", "32"),
    ),
    Step(
        "Atlas of EfficientNet-Lite0",
        "Every unit of three of its layers, coarse: the same command without --coarse refines them.",
        "atlas",
        "s/best-000.webp",
        ("atlas", MODEL, "--layer", "_blocks.1._bn2,_blocks.6,_blocks.10", "--coarse"),
    ),
)


def main(steps: Sequence[Step] = STEPS) -> int:
    """Runs every step, writes ``demo/index.html`` and prints the page of the last one; returns the exit code."""
    from .cli.main import run
    from .cli.output import emit, say

    started = time.monotonic()
    for number, step in enumerate(steps, 1):
        begun, worked = time.monotonic(), _processor_seconds()
        say(f"[{number}/{len(steps)}] {step.title}: convscope {' '.join(step.arguments)}")
        code = run([*step.arguments, "-o", str(step.out)])
        if code != 0:
            return code
        took, work = time.monotonic() - begun, _processor_seconds() - worked
        say(f"[{number}/{len(steps)}] {step.title}: {took:.0f} s, of processor time {work:.0f} s")
    page = _write_page(steps)
    _write_montage(steps)
    took, work = time.monotonic() - started, _processor_seconds()
    say(f"done in {took:.0f} s, of processor time {work:.0f} s")
    say(f"all of it is on {page.resolve()}; open this page in a browser:")
    emit((steps[-1].out / "index.html").resolve())
    return 0


def _processor_seconds() -> float:
    """What this process and those that it has started have worked so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _write_page(steps: Sequence[Step]) -> Path:
    import numpy as np
    from PIL import Image

    from .engine.pages.gallery import Item, pictures_page
    from .engine.render.artifacts import write_text

    items = []
    for step in steps:
        found = sorted(step.out.rglob(step.picture))
        if found:
            with Image.open(found[0]) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            items.append(Item(step.title, pixels, caption=step.caption, file=f"{step.folder}/index.html"))
    html = pictures_page("What EfficientNet-Lite0 sees", items, facts={"model": MODEL}, command="make demo")
    return write_text(OUT / "index.html", html)


def _write_montage(steps: Sequence[Step]) -> None:
    """``demo/montage.jpg``: the classes above the three layers, as the README shows them, without their numbers."""
    import numpy as np

    from .engine.render.artifacts import to_pillow
    from .engine.render.grid import grid

    (classes,) = (step for step in steps if step.folder == "classes")
    layers = [step for step in steps if step.folder.startswith("filters")]
    third = (_WIDTH - 2 * _MARGIN) // 3
    below = grid([_scaled(_wall(step), third) for step in layers], 3, _MARGIN)
    above = grid([_scaled(_wall(classes), _WIDTH)])
    whole = np.concatenate([above, np.ones((_MARGIN, _WIDTH, 3)), below])
    to_pillow(whole).save(OUT / "montage.jpg", quality=85)


def _wall(step: Step) -> np.ndarray:
    """A step's pictures, four in a row, in the order of its result."""
    import json

    import numpy as np
    from PIL import Image

    from .engine.record import FILE
    from .engine.render.grid import grid

    pictures = []
    for unit in json.loads((step.out / FILE).read_text(encoding="utf-8"))["units"]:
        with Image.open(step.out / unit["file"]) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    return grid(pictures, _COLUMNS)


def _scaled(pixels: np.ndarray, width: int) -> np.ndarray:
    """A picture at another width."""
    import numpy as np
    from PIL import Image

    from .engine.render.artifacts import to_pillow

    picture = to_pillow(pixels)
    height = max(1, round(width * picture.height / picture.width))
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


if __name__ == "__main__":
    sys.exit(main())
