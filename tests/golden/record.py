"""Writes the golden results anew: all of them, or those named."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from .commands import COMMANDS, RESULTS, kept


def main(names: list[str]) -> None:
    """Records the named commands, by default all."""
    for name in names or COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            text = json.dumps(kept(name, Path(folder) / "out"), indent=1)
        (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
