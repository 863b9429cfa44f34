"""What fuzzing found stays mended: every kept seed ends in one of the tool's own errors, or in none."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fuzz_targets import TARGETS
from convscope.errors import ConvscopeError

SEEDS = Path(__file__).parents[1] / "seeds"
KEPT = sorted(path.relative_to(SEEDS).as_posix() for path in SEEDS.rglob("*") if path.is_file())
ENDLESS = {"keras-h5/circle"}  # the wall ends it; the benchmark of hostile files has it


@pytest.mark.parametrize("name", [name for name in KEPT if name not in ENDLESS])
def test_a_seed_ends_in_an_error_of_our_own_or_in_none(name: str, tmp_path: Path) -> None:
    target = TARGETS[name.split("/")[0]]
    target.prepare()
    data = (SEEDS / name).read_bytes()
    try:
        target.run(data, tmp_path / f"input{target.suffix}")
    except ConvscopeError as error:
        cause = error.__cause__
        assert cause is None or isinstance(cause, ConvscopeError), f"an error that nobody foresaw: {cause!r}"
        assert len(str(error)) < 1000
        assert str(error).isprintable()
