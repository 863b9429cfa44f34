"""What the tests of runs share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.adapters.load import load
from convscope.engine.graph.graph import Graph
from convscope.models import catalog


@pytest.fixture(scope="session")
def lenet() -> Graph:
    """The LeNet that ships."""
    return load(Path(catalog.__file__).parent / "lenet" / "lenet.onnx", check=False)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three small pictures, one of them broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, size in (("a.png", (40, 60, 3)), ("b.png", (33, 32, 3))):
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"not a picture")
    return folder
