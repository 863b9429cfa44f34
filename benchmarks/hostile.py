"""Every hostile file of the tests, and every harmless twin, through the command line, each in a process of its own.

    python -m benchmarks.hostile [GROUP...] [--twins]

One line a file (exit code, lines on stderr, processor seconds, peak memory, what it said), then the largest figures of
each group beside those of a harmless file, which are the tool's own base. Twins that are the same byte for
byte are run once.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

from tests.integration.hostile_cases import CORPUS, HARMLESS
from tests.integration.hostile_pairs import Pair, Pairs
from tests.integration.hostile_runner import PEAK_BYTES, SECONDS, Ended, convscope_pair


def main() -> None:
    """Prints the table; exits with 1 where anything is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(CORPUS))
    parser.add_argument("--twins", action="store_true", help="the harmless twins instead")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.groups) - set(CORPUS)):
        parser.error(f"there is no group {unknown[0]!r}; choose from {', '.join(CORPUS)}")
    small = HARMLESS["small.onnx"].build
    base = _run("a harmless file", Pair(small, small), "harmless")
    side = "harmless" if asked.twins else "hostile"
    rows = [_group(group, CORPUS[group], side, base) for group in asked.groups or CORPUS]
    print(f"\n{'group':<26}{'files':>6}{'seconds':>9}{'MiB':>8}{'above base':>12}{'not as promised':>17}")
    for title, count, seconds, peak, bad in rows:
        above = (peak - base.peak) / 2**20
        print(f"{title:<26}{count:>6}{seconds:>9.1f}{peak / 2**20:>8.0f}{above:>12.0f}{bad:>17}")
    sys.exit(any(bad for *_, bad in rows))


def _group(title: str, pairs: Pairs, side: str, base: Ended) -> tuple[str, int, float, int, int]:
    if side == "harmless":
        pairs = dict({_content(pair): (name, pair) for name, pair in pairs.items()}.values())
    ended = [_run(name, pair, side) for name, pair in pairs.items()]
    bad = sum(not _is_kept(one, side, base) for one in ended)
    return title, len(ended), max(one.seconds for one in ended), max(one.peak for one in ended), bad


def _content(pair: Pair) -> str:
    """The sha256 of a twin, what lies beside it, and its options."""
    found = hashlib.sha256(repr(pair.options).encode())
    with tempfile.TemporaryDirectory() as folder:
        pair.harmless(Path(folder))
        for path in sorted(Path(folder).rglob("*")):
            found.update(f"{path.relative_to(folder)} {path.lstat().st_mode}".encode())
            found.update(path.read_bytes() if path.is_file() and not path.is_symlink() else b"")
    return found.hexdigest()


def _is_kept(ended: Ended, side: str, base: Ended) -> bool:
    """Whether a file was dealt with as docs/security.md promises."""
    if side == "harmless":
        return ended.code == 0 and not ended.appeared
    is_refused = ended.code == 3 and ended.err.count("\n") == 1 and not ended.out and not ended.appeared
    return is_refused and ended.seconds <= SECONDS and ended.peak - base.peak <= PEAK_BYTES


def _run(name: str, pair: Pair, side: str) -> Ended:
    with tempfile.TemporaryDirectory() as root:
        _, ended = convscope_pair(pair, side, Path(root) / "case")
    lines = ended.err.count("\n")
    figures = f"{ended.code:>4}{lines:>4}{ended.seconds:>7.1f} s{ended.peak / 2**20:>7.0f} MiB"
    print(f"{name[:44]:<46}{figures}  {ended.err[:110]!r}", flush=True)
    return ended


if __name__ == "__main__":
    main()
