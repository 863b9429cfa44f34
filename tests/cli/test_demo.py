"""``make demo``: every step in turn, one page at the end, and the first failure ends it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope import demo
from convscope.cli import main
from convscope.engine.render.artifacts import save_png, write_json


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Command lines that were run, in a folder of their own, by a runner that draws one picture for each."""
    lines: list[list[str]] = []

    def run(arguments: Sequence[str]) -> int:
        lines.append(list(arguments))
        folder = Path(arguments[-1])
        for name in ("grid.png", "dream.png", "cat.overlay.png", "s/best-000.webp"):
            save_png(folder / name, np.zeros((4, 4, 3)))
        units = [{"file": f"unit-{u:04d}.png"} for u in range(8)]
        for unit in units:
            save_png(folder / unit["file"], np.zeros((8, 8, 3)))
        write_json(folder / "result.json", {"units": units})
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "run", run)
    return lines


def test_every_step_is_on_one_page_and_the_atlas_is_printed(
    ran: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main() == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()) == Path("demo/atlas/index.html").resolve()
    page = Path("demo/index.html").resolve()
    assert f"all of it is on {page};" in err
    html = page.read_text(encoding="utf-8")
    for number, step in enumerate(demo.STEPS, 1):
        assert ran[number - 1] == [*step.arguments, "-o", str(step.out)]
        assert step.title in html.replace("\\u0027", "'")
        assert f"[{number}/{len(demo.STEPS)}] {step.title}: convscope" in err
        assert re.search(
            rf"\[{number}/{len(demo.STEPS)}\] {re.escape(step.title)}: \d+ s, of processor time \d+ s\n", err
        )
    with Image.open("demo/montage.jpg") as montage:
        assert montage.size == (960, 455 + 6 + 150)  # two rows of four, and three such walls in a row


def test_the_first_failure_ends_it_with_its_code(ran: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "run", lambda arguments: 3)
    assert demo.main() == 3
    assert not Path("demo/index.html").exists()


def test_the_photograph_is_shipped() -> None:
    assert demo.CAT.is_file()
    assert demo.CAT.parent.name == "photos"
