"""Runs command lines, each in a fork of a process that has computed nothing: the argument is a list of them as JSON.

Forks share what takes long to import and is known to write nothing. Every command imports by its own ways what does
write: one that is the first to come upon ONNX Runtime, Keras or an exporter has to keep it from the home.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

WRITERS = {"onnxruntime", "keras", "torch._inductor", "matplotlib"}


def main() -> None:
    """Reads the list; prints the exit code and the line of each."""
    import torch  # noqa: F401

    from convscope.adapters.wall import parent

    import_rooms("cli", "engine.runs", "engine.pages")
    parent._THREADED.discard("torch")  # it has computed nothing here, so that the wall may fork as well
    assert not WRITERS & sys.modules.keys()
    gc.freeze()
    for line in json.loads(Path(sys.argv[1]).read_text()):
        child = os.fork()
        if child == 0:
            command(line.split())
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), line, flush=True)


def import_rooms(*rooms: str) -> None:
    """Imports every module of these rooms, so that no fork has to."""
    for room in rooms:
        for module in pkgutil.iter_modules(import_module(f"convscope.{room}").__path__):
            import_module(f"convscope.{room}.{module.name}")


def command(words: Sequence[str]) -> None:
    """The console script, without taking torch down at its end."""
    from convscope.cli.main import main as convscope

    sys.argv = ["convscope", *words]
    try:
        convscope()
    except SystemExit as ending:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(int(ending.code or 0))


if __name__ == "__main__":
    main()
