"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from ..tiny import small_cnn


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "small.onnx"
    onnx.save(small_cnn(), path)
    return str(path)
