"""Runs an exported file where neither torch nor convscope is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SCRIPT = """
import json, sys, numpy as np, onnxruntime as ort
session = ort.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])
feeds = {name: np.ones(shape, np.float32) for name, shape in json.loads(sys.argv[2]).items()}
feeds |= {name: np.array(value) for name, value in json.loads(sys.argv[3]).items()}
print(session.run(['heatmap'], feeds)[0].shape)
assert not {'torch', 'convscope'} & set(sys.modules)
"""


def shape_of_map(path: Path, pictures: Mapping[str, tuple[int, ...]], asked: Mapping[str, Any] | None = None) -> str:
    """The shape of the map for pictures of ones, as Python prints it.

    Args:
        path: the exported file.
        pictures: input -> shape.
        asked: input -> what is asked, such as a box.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", _SCRIPT, str(path), json.dumps(pictures), json.dumps(asked or {})],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
