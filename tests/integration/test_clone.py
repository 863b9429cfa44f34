"""A fresh clone passes lint, types and tests whatever its folder is called: also `convscope`, what everybody types."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convscope", "something-else"])
def test_a_clone_of_any_name_passes_lint_types_and_tests(name: str, tmp_path: Path) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git, and a checkout to clone")
    clone, imports = tmp_path / name, tmp_path / "imports"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True, capture_output=True, timeout=120)
    imports.mkdir()
    (imports / "convscope").symlink_to(clone)  # as an editable install finds it
    tools = Path(sys.executable).parent
    for command in (
        [tools / "ruff", "check", "--no-cache", "."],
        [tools / "ruff", "format", "--no-cache", "--check", "."],
        [tools / "mypy", "--cache-dir", tmp_path / "types", "errors.py", "engine/runs/events.py", "cli/output.py"],
        [sys.executable, "-m", "pytest", "tests/cli/test_common.py", "-k", "units or clean", "-p", "no:cacheprovider"],
    ):
        environment = {**os.environ, "PYTHONPATH": str(imports), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [str(word) for word in command], cwd=clone, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
