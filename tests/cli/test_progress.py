"""Progress: plain lines in logs, a bar on a terminal, nothing when quiet."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from convscope.cli import tables, terminal
from convscope.cli.progress import drawn
from convscope.engine.runs.events import Note, Progress, Skipped
from convscope.errors import RefusedInput


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_plain_line_every_thirty_seconds_with_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with drawn(clock=clock) as on_event:
        for done in range(71):
            clock.now = float(done)
            on_event(Progress("filters", done, 100, "units", detail=f"failed {done // 30}, layer a\x1b[2Jb"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "filters: 30/100 units, 1/s, 0:01:10 left, failed 1, layer a\N{REPLACEMENT CHARACTER}[2Jb",
        "filters: 60/100 units, 1/s, 0:00:40 left, failed 2, layer a\N{REPLACEMENT CHARACTER}[2Jb",
    ]


def test_unknown_totals_show_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with drawn(clock=clock) as on_event:
        on_event(Progress("photos", 0, None))
        clock.now = 31.0
        on_event(Progress("photos", 62, None))
    assert capsys.readouterr().err == "photos: 62, 2/s\n"


def test_what_an_earlier_run_finished_is_no_measure_of_the_speed(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with drawn(clock=clock) as on_event:
        on_event(Progress("filters", 60, 100, "units"))
        clock.now = 40.0
        on_event(Progress("filters", 80, 100, "units"))
    assert capsys.readouterr().err == "filters: 80/100 units, 0.5/s, 0:00:40 left\n"


def test_notes_and_skipped_files_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with drawn() as on_event:
        on_event(Note("layer:\nconv1"))
        on_event(Skipped(Path("a.png"), RefusedInput("image 'a.png' is broken")))
    assert capsys.readouterr() == ("", "layer: conv1\nskipped: image 'a.png' is broken\n")


def test_a_thousand_broken_files_are_a_hundred_lines_and_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    with drawn() as on_event:
        for _ in range(1100):
            on_event(Skipped(Path("a.png"), RefusedInput("image 'a.png' is broken")))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 101 and lines[-1] == "skipped: 1,000 more, 1,100 in all"


def test_quiet_and_short_jobs_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with drawn(quiet) as on_event:
            on_event(Progress("x", 0, 3))
            on_event(Progress("x", 3, 3))
    with drawn(True) as on_event:
        on_event(Note("quiet"))
    assert capsys.readouterr() == ("", "")


_JOB = (
    "import numpy as np\n"
    "from convscope.cli.progress import drawn\n"
    "from convscope.engine.runs.events import Preview, Progress\n"
    "with drawn() as on_event:\n"
    "    [on_event(Progress('filters [red]', done, 4, 'units', detail='failed 1')) for done in range(5)]\n"
    "with drawn(live=True) as on_event:\n"
    "    on_event(Preview(lambda: np.ones((4, 4, 3))))\n"
)


def _in_terminal(**environment: str) -> str:
    """What the job writes to stderr when that is a terminal."""
    leader, follower = pty.openpty()
    subprocess.run(
        [sys.executable, "-P", "-c", _JOB], stderr=follower, check=True, cwd="/", env={**os.environ, **environment}
    )
    os.close(follower)
    said = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        said += part
    os.close(leader)
    return said.decode()


def test_a_terminal_gets_a_bar_and_pictures() -> None:
    said = _in_terminal(TERM="xterm-256color", COLORTERM="truecolor")
    assert "filters [red]" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
    assert "4/4" in said
    assert "▀" in said


def test_a_dumb_terminal_gets_no_redrawing() -> None:
    assert _in_terminal(TERM="dumb") == ""


def test_no_color_gives_no_colours() -> None:
    said = _in_terminal(TERM="xterm-256color", NO_COLOR="1")
    assert "4/4" in said
    assert not re.search(r"\x1b\[[0-9;]*(3|4)8[;:]", said)
    assert "█" in said


@pytest.mark.parametrize(
    ("surroundings", "is_coloured"),
    [({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False), ({}, False)],
)
def test_lines_of_a_result_are_coloured_on_a_terminal_alone(
    surroundings: dict[str, str], is_coloured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **surroundings}.items():
        monkeypatch.setenv(name, value)
    tables.told("gone [red]", "red", "scipy  ")
    said = capsys.readouterr().out
    assert ("\x1b[31mgone [red]" in said) == ("\x1b" in said) == is_coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", said) == "scipy  gone [red]\n"


def test_shown_pictures_fit_and_without_colours_are_shades(capsys: pytest.CaptureFixture[str]) -> None:
    ramp = np.tile(np.linspace(0, 1, 10), (4, 1))
    console = Console(stderr=True)
    console.print(terminal.drawing(ramp, console))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["  ░░▒▒▓▓██"] * 2


def test_wide_pictures_shrink_to_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(stderr=True)
    console.print(terminal.drawing(np.ones((10, 400, 3)), console, columns=20))
    assert capsys.readouterr().err.splitlines() == ["█" * 20]


def test_units_half_done_are_counted_when_they_are_finished(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with drawn(clock=clock) as on_event:
        for third in range(10):
            clock.now = 31.0 * third
            on_event(Progress("filters", third // 3, 3, "units", ahead=third % 3 / 3))
    lines = [line.split(", ") for line in capsys.readouterr().err.splitlines()]
    assert [first.split()[1] for first, *_ in lines] == ["0/3", "0/3", "1/3", "1/3", "1/3", "2/3", "2/3", "2/3", "3/3"]
    assert lines[0][2] == "0:04:08 left"  # eight more thirds of 31 seconds: parts count for the time
