"""What only runs forward imports no torch: it takes longer than most of what these commands do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from convscope.engine.executors import devices

from ..golden.commands import CAT, ROOT

COMMANDS = (
    "info lenet",
    f"predict lenet {CAT}",
    f"activations lenet {CAT} -o OUT/maps",
    f"top lenet {CAT} --layer conv1 -o OUT/top",
    f"stats lenet {CAT} -o OUT/stats",
)


@pytest.mark.skipif(devices._has_driver(), reason="with a driver torch is asked for the GPU")
def test_a_second_command_on_a_file_imports_no_torch_where_it_only_runs_forward(tmp_path: Path) -> None:
    script = f"""
import sys
from convscope.cli.main import run
lines = {[line.replace("OUT", str(tmp_path)).split() for line in COMMANDS]!r}
codes = [run([*line, "-q"]) for line in lines]
assert codes == [0] * len(lines), codes
assert "torch" not in sys.modules, "torch"
assert "scipy.stats" not in sys.modules, "scipy.stats"
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
