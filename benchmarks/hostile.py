"""Every hostile file of the tests through ``convscope info``: exit code, lines, seconds and peak memory.

    python -m benchmarks.hostile [GROUP]

One line a file, then the largest figures of each group beside those of a harmless file, which are the tool's own base.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.integration import hostile_cases, hostile_growth_cases
from tests.integration.hostile_cases import Case
from tests.integration.hostile_runner import Ended, convscope

GROUPS: dict[str, dict[str, Case]] = {
    "not a model": hostile_cases.NOT_A_MODEL,
    "external data": hostile_cases.EXTERNAL,
    "bombs": hostile_cases.BOMBS,
    "growth": {name: Case(hostile) for name, (hostile, _) in hostile_growth_cases.PAIRS.items()},
    "Torch": hostile_cases.TORCH,
    "Keras": hostile_cases.KERAS,
}


def main() -> None:
    """Prints the table."""
    base = _run("harmless", hostile_cases.HARMLESS["small.onnx"])
    rows: list[tuple[str, float, int, int]] = []
    for group, cases in GROUPS.items():
        if sys.argv[1:] and group not in sys.argv[1:]:
            continue
        ended = [_run(name, case) for name, case in cases.items()]
        bad = sum(one.code != 3 or one.err.count("\n") != 1 or bool(one.appeared) for one in ended)
        rows.append((f"{group} ({len(ended)})", max(e.seconds for e in ended), max(e.peak for e in ended), bad))
    print(f"\n{'group':<24}{'seconds':>9}{'MiB':>8}{'not as promised':>18}")
    print(f"{'a harmless file':<24}{base.seconds:>9.1f}{base.peak / 2**20:>8.0f}")
    for title, seconds, peak, bad in rows:
        print(f"{title:<24}{seconds:>9.1f}{peak / 2**20:>8.0f}{bad:>18}")


def _run(name: str, case: Case) -> Ended:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "case"
        (folder / "files").mkdir(parents=True)
        path = case.build(folder / "files")
        ended = convscope(["info", str(path), *case.options], folder)
    lines = ended.err.count("\n")
    figures = f"{ended.code:>4}{lines:>4}{ended.seconds:>7.1f} s{ended.peak / 2**20:>7.0f} MiB"
    print(f"{name:<34}{figures}  {ended.err[:110]!r}", flush=True)
    return ended


if __name__ == "__main__":
    main()
