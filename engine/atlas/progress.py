"""How far the runs on an atlas are, told while they work: to ``convscope atlas status`` and to the open page."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from typing import Any

from ...errors import ConvscopeError
from ..kept import Either, fits
from ..render.artifacts import to_json
from .files import Files
from .leases import is_gone, is_over, row_of, this_process

FOLDER = "store/runs"
SCRIPT = "d/status.js"  # read again and again by the page; in no list, since it changes
EVERY = 10.0  # seconds between two words
_TOLD = {"stage": str, "unit": str, "done": float, "total": float, "rate": float, "seconds_left": Either(None, float)}


class Pulse:
    """Tells every few seconds how far a run is, for as long as it is open.

    Args:
        files: the atlas.
        owner: of the run.
    """

    def __init__(self, files: Files, owner: str) -> None:
        self.files, self._name = files, f"{FOLDER}/{owner}.json"
        self._ended = threading.Event()
        self.thread = threading.Thread(target=self._tell, daemon=True)
        self._stage: dict[str, Any] = {}
        self._began, self._first = 0.0, 0

    def __enter__(self) -> Pulse:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        with suppress(ConvscopeError):
            self.files.remove(self._name)
            rest(self.files)

    def stage(self, title: str, unit: str, done: int, total: int) -> None:
        """How far a stage is; one of another title begins."""
        if self._stage.get("stage") != title:
            self._began, self._first = time.monotonic(), done
        self._stage = {"stage": title, "unit": unit, "done": done, "total": total}

    def _tell(self) -> None:
        while not self._ended.wait(EVERY):
            if not self._stage:  # before the first there is nothing to say
                continue
            row = self._row()
            with suppress(ConvscopeError):  # a full disk is said by the work itself
                self.files.write(self._name, to_json({**this_process(), **row}, indent=None).encode())
                if self.files.has("index.html"):
                    self.files.write(SCRIPT, _script({"running": True, **row}))
            if self._ended.is_set():  # it ended meanwhile, and nothing of it must stay
                self.__exit__()

    def _row(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._began
        made = self._stage.get("done", 0) - self._first
        rate = made / seconds if seconds > 0 else 0.0
        left = (self._stage.get("total", 0) - self._stage.get("done", 0)) / rate if rate > 0 else None
        return {
            **self._stage,
            "rate": float(f"{rate:.3g}"),
            "seconds_left": None if left is None else round(left),
            "at": round(time.time()),
        }


def rest(files: Files) -> None:
    """The page's script says that nobody is at work, where there is a page."""
    script = _script({"running": False})
    try:
        if files.has("index.html") and (not files.has(SCRIPT) or files.read(SCRIPT) != script):
            files.write(SCRIPT, script)
    except FileNotFoundError:
        pass


def running(files: Files) -> list[dict[str, Any]]:
    """What the runs that are at work told last, a row each: stage, done, total, rate, seconds_left, at."""
    found, now = [], None
    for file in sorted(files.names(FOLDER)):
        try:
            row, written = row_of(files.read(file)), files.written(file)
        except FileNotFoundError:
            continue
        now = files.now() if now is None else now
        if fits(row, _TOLD) and not is_gone(row) and (written is None or not is_over(written, now)):
            found.append({key: row.get(key) for key in (*_TOLD, "at")})
    return found


def tidy(files: Files) -> None:
    """Removes what killed runs told last."""
    for file in files.names(FOLDER):
        with suppress(FileNotFoundError):
            written = files.written(file)
            if is_gone(row_of(files.read(file))) or (written is not None and is_over(written, files.now())):
                files.remove(file)


def _script(content: dict[str, Any]) -> bytes:
    return f"ATLAS_STATUS({json.dumps(content)});\n".encode("ascii")
