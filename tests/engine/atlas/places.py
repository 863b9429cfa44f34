"""What the tests of the atlas share: a tiny network, a folder of pictures, and a quick way to an atlas."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import convscope
from convscope.engine.atlas.build import Atlas, Manner, atlas
from convscope.engine.graph.graph import Graph

from ...tiny import small_cnn

QUICK: dict[str, Any] = {"preset": "lucid", "size": 16, "steps": 3, "k": 4}


def network() -> Graph:
    """conv1 - bn1 - relu1 (8) - pool1 - conv2 - relu2 (12) - fc (5)."""
    return convscope.load(small_cnn(), preprocessing="unit", check=False)


def photographs(folder: Path, count: int = 6) -> Path:
    """A folder of random pictures in colour, of several sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rng = np.random.default_rng(i)
        coarse = rng.integers(0, 255, (5 + i, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((24 + i, 20), Image.Resampling.BICUBIC).save(folder / f"p{i:02d}.png")
    return folder


def made(graph: Graph, photos: Path, folder: Any, **options: Any) -> Atlas:
    """An atlas with few steps."""
    manner = options.pop("manner", Manner())
    return atlas(graph, photos, folder, manner=manner, **{**QUICK, **options})


def fingerprint(folder: Path) -> str:
    """The hash of an atlas's list of files, which holds the hash of every file."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
