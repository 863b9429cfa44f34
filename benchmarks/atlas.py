"""What an atlas costs, and what it survives.

    python -m benchmarks.atlas cost MODEL [UNITS [STAGE]]  processor time of UNITS random units of every layer, and what
                                                           all units of the model would take, by that
    python -m benchmarks.atlas kills [TIMES [SEED]]        kill -9 at random moments, driver and workers in turn
    python -m benchmarks.atlas deaths [TIMES [SEED]]       kill -9 of one of two workers, whose driver goes on
    python -m benchmarks.atlas same                        serial, two processes, two drivers, shards in one folder, and
                                                           Ray where it is installed
    python -m benchmarks.atlas full                        a disk of 128 kB, made larger step by step (Linux, as root)
    python -m benchmarks.atlas workers [ROUNDS]            one worker and two in turn: processor time by the clock
    python -m benchmarks.atlas page [UNITS]                the page of so many units in two browsers: opening, 40 jumps

Of the others all but ``cost`` make the atlas of the tests' small network, again and again.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cli.driver import Chromium, Firefox

ROOT = Path(__file__).parents[1]
STEPS, SIZE = 160, 32  # of a picture: long enough to be killed in

DRIVER = """
import sys, json
from pathlib import Path
from convscope.engine.atlas import units
from convscope.engine.atlas.build import Manner
from tests.engine.atlas.places import made, network
folder, words = Path(sys.argv[2]), json.loads(sys.argv[3])
plain = units.put
def put(*arguments):
    with open(str(folder) + ".made", "a") as file:
        file.write("one\\n")
    plain(*arguments)
units.put = put
words["manner"] = Manner(**{k: tuple(v) if k == "shard" else v for k, v in words.pop("manner", {}).items()})
made(network(), Path(sys.argv[1]), folder, **words)
"""


def main() -> None:
    """Runs one of them."""
    what, *rest = sys.argv[1:] or ["same"]
    modes: dict[str, Callable[..., None]] = {
        "cost": cost,
        "kills": kills,
        "deaths": deaths,
        "same": same,
        "workers": workers,
        "page": page,
        "full": full,
    }
    modes[what](*rest)


def cost(model: str, count: str = "4", stage: str = "coarse") -> None:
    """Prints a row a layer: units, seconds of processor time for one, and for all of them."""
    import torch

    import convscope
    from convscope.engine.atlas.plan import Wishes, stage_settings, studio
    from convscope.engine.atlas.stations import Stations

    torch.set_num_threads(1)
    graph = convscope.load(model)
    total, work, units = 0.0, 0.0, 0
    by_layer = [layer.macs for layer in graph.layers]
    print(
        f"{'layer':<28}{'units':>6}{'recipe':>11}{'size':>6}{'steps':>7}{'s a unit':>10}{'s in all':>10}{'silent':>8}"
    )
    for layer in Stations(graph).chosen(None):
        channels = layer.channels or 0
        chosen = stage_settings(graph, layer, stage, Wishes("convscope"))
        made = studio(graph, layer, chosen, "cpu")
        drawn = sorted(random.Random(layer.index).sample(range(channels), min(int(count), channels)))
        began = time.process_time()
        found = list(made.make(drawn))
        each = (time.process_time() - began) / len(drawn)
        macs = sum(by_layer[: layer.index + 1])
        share = made.chosen.size[0] * made.chosen.size[1] / (graph.image_size[0] * graph.image_size[1])
        work += 4 * macs * share * made.chosen.steps * channels  # two a multiply-add, forward and back to the picture
        total += each * channels
        units += channels
        silent = sum(one.status != "ok" or one.rescue != "" for one in found)
        cells = (channels, made.chosen.preset.name, made.chosen.size[0], made.chosen.steps)
        row = (*cells, f"{each:.3f}", f"{each * channels:.0f}", f"{silent}/{len(drawn)}")
        print(f"{layer.name[:27]:<28}" + "".join(f"{cell:>11}" for cell in row), flush=True)
    print(f"{units} units: {total / 3600:.2f} hours of one core by these samples, {work / 1e15:.2f} PFLOP")


def kills(times: str = "10", seed: str = "0") -> None:
    """Kills a driver alone, a driver of two workers, and one of its workers, in turn; the last run is left alone."""
    drawn = random.Random(int(seed))
    with tempfile.TemporaryDirectory() as root:
        photos, whole = _photographs(Path(root)), Path(root) / "whole"
        seconds = _run(photos, whole)
        print(f"uninterrupted: {seconds:.1f} s, {_made(whole)} pictures", flush=True)
        for workers in (1, 2):
            folder, lost = Path(root) / f"killed{workers}", 0
            for number in range(int(times)):
                process = _start(photos, folder, {"manner": {"workers": workers}})
                before = _kept(folder)
                while process.poll() is None and not list((folder / "store" / "leases").rglob("*.json")):
                    time.sleep(0.02)
                while number % 3 and process.poll() is None and _kept(folder) == before:
                    time.sleep(0.02)  # two of three are killed when they have made something
                time.sleep(drawn.uniform(0, 2))
                target = process.pid
                if workers > 1 and number % 2 and (children := _children(process.pid)):
                    target = drawn.choice(children)
                alive = process.poll() is None
                if alive:
                    os.kill(target, signal.SIGKILL)
                    lost += 1
                process.wait(600)
                whom = "driver" if target == process.pid else "worker"
                ended = "" if alive else ": it had ended"
                print(f"  {workers} workers, {whom}, {_kept(folder)} pictures kept{ended}", flush=True)
            _run(photos, folder, {"manner": {"workers": workers}})
            left = [p for p in folder.rglob("*") if p.name.endswith(".part")]
            leases = list((folder / "store" / "leases").rglob("*.json"))
            more = f", {_made(folder)} pictures made" if workers == 1 else ""
            equal = _equal(folder, whole)
            print(
                f"{workers} workers, {lost} kills: {equal}, {len(left)} parts, {len(leases)} leases left{more}",
                flush=True,
            )


def deaths(times: str = "4", seed: str = "0") -> None:
    """Kills one of two workers at a random moment, each time in a new folder; the driver must end well by itself."""
    drawn = random.Random(int(seed))
    with tempfile.TemporaryDirectory() as root:
        photos, whole = _photographs(Path(root)), Path(root) / "whole"
        _run(photos, whole)
        for number in range(int(times)):
            folder = Path(root) / f"died{number}"
            process = _start(photos, folder, {"manner": {"workers": 2}})
            while process.poll() is None and not (_children(process.pid) and _kept(folder)):
                time.sleep(0.02)
            time.sleep(drawn.uniform(0, 1))
            kept, workers = _kept(folder), _children(process.pid)
            if workers:
                os.kill(drawn.choice(workers), signal.SIGKILL)
            ended = process.wait(600)
            leases = list((folder / "store" / "leases").rglob("*.json"))
            equal = _equal(folder, whole)
            killed = f"one of {len(workers)} workers killed" if workers else "it had ended"
            print(
                f"{killed} with {kept} pictures kept: exit code {ended}, {equal}, {len(leases)} leases left", flush=True
            )


def same() -> None:
    """Prints for every way of running whether the list of files is that of one process."""
    with tempfile.TemporaryDirectory() as root:
        photos, whole = _photographs(Path(root)), Path(root) / "whole"
        _run(photos, whole)
        units = _made(whole)

        def say(name: str, folder: Path) -> None:
            equal = _equal(folder, whole)
            print(f"{name:<46}{equal}, {_made(folder)} pictures made here for {units}", flush=True)

        folder = Path(root) / "two"
        _run(photos, folder, {"manner": {"workers": 2}})
        say("two processes (they count elsewhere)", folder)
        folder = Path(root) / "drivers"
        both = [_start(photos, folder) for _ in range(2)]
        assert [process.wait(900) for process in both] == [0, 0]
        say("two drivers at once in one folder", folder)
        folder = Path(root) / "shards"
        for part in (2, 3, 1, 2):
            _run(photos, folder, {"manner": {"shard": [part, 3]}})
        _run(photos, folder, {"stages": ["relations"]})
        say("shards 2, 3, 1, 2 of 3 in one folder", folder)
        try:
            import ray  # noqa: F401
        except ImportError:
            print("Ray is not installed")
            return
        folder = Path(root) / "ray"
        _run(photos, folder, {"manner": {"workers": 2, "executor": "ray"}})
        say("two workers of Ray (they count elsewhere)", folder)


def full() -> None:
    """Makes an atlas on a disk that is too small, and goes on when it is larger."""
    with tempfile.TemporaryDirectory() as root:
        photos, whole, disk = _photographs(Path(root)), Path(root) / "whole", Path(root) / "disk"
        _run(photos, whole)
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], check=True)
        try:
            for size in ("256k", "512k", "16m"):
                process = _start(photos, disk / "atlas", stderr=subprocess.PIPE)
                said = (process.communicate()[1] or b"").decode().strip().splitlines()
                print(f"{process.returncode}: {said[-1][-120:] if said else 'done'}", flush=True)
                subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            _run(photos, disk / "atlas")
            parts = [p for p in (disk / "atlas").rglob("*") if p.name.endswith(".part")]
            equal = _equal(disk / "atlas", whole)
            print(f"{equal}, {len(parts)} parts left")
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def workers(rounds: str = "2") -> None:
    """Prints seconds by the clock and of the processors, in turn for one worker and two."""
    with tempfile.TemporaryDirectory() as root:
        photos = _photographs(Path(root))
        first = Path(root) / "first"
        _run(photos, first, {"stages": ["numbers"], "steps": 4 * STEPS, "size": 2 * SIZE})
        for number in range(int(rounds)):
            for count in (1, 2):
                folder = Path(root) / f"{number}-{count}"
                words = {"stages": ["numbers"], "steps": 4 * STEPS, "size": 2 * SIZE}
                _run(photos, folder, words)
                before = _processor()
                # two workers are processes beside their driver; one worker is the driver itself
                seconds = _run(photos, folder, {**words, "stages": ["fine"], "manner": {"workers": count}})
                used = _processor() - before
                print(
                    f"{count} workers: {seconds:.1f} s by the clock, {used:.1f} s of processors, "
                    f"{used / seconds:.2f} processors busy; {os.getloadavg()[0]:.1f} waited for one",
                    flush=True,
                )


def page(units: str = "100000") -> None:
    """Prints what the browsers that are installed make of the page of so many units of one layer."""
    from tests.cli.driver import CHROMIUM, FIREFOX, Chromium, Firefox
    from tests.cli.large_atlas import write_atlas

    with tempfile.TemporaryDirectory() as root:
        write_atlas(Path(root) / "atlas", int(units))
        address = (Path(root) / "atlas" / "index.html").as_uri() + "#/L0000"
        for kind in (*([Chromium] if CHROMIUM else []), *([Firefox] if FIREFOX else [])):
            browser = kind(Path(root))
            print(f"{kind.__name__}, {units} units; {os.getloadavg()[0]:.1f} processes waited", flush=True)
            _browsed(browser, address)
            browser.close()


def _browsed(browser: Chromium | Firefox, address: str) -> None:
    """Prints nodes, requests, and how long opening and jumping takes: by the clock, and of Chromium's own thread."""
    from tests.cli.driver import Chromium

    chromium = browser if isinstance(browser, Chromium) else None
    if chromium:
        chromium._ask("Performance.enable", {"timeDomain": "threadTicks"})

    def worked() -> float:
        if chromium is None:
            return 0.0
        metrics = chromium._ask("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    count, opened = "return document.querySelectorAll('*').length", []
    for _ in range(5):
        began = time.monotonic()
        browser.open(address)
        opened.append(time.monotonic() - began)
    requests = f", {len(chromium.requests)} requests" if chromium else ""
    nodes, jumps = browser.run(count), []
    for number in range(40):
        before = worked()
        worst = browser.run(
            f"scrollTo(0, document.documentElement.scrollHeight * {(number * 17) % 40} / 39);"
            "let last = performance.now(), worst = 0;"
            "for (let i = 0; i < 3; i++) { const now = await new Promise(requestAnimationFrame);"
            "  worst = Math.max(worst, performance.now() - last); last = performance.now(); } return worst;"
        )
        jumps.append((worst, 1000 * (worked() - before)))
    print(f"  {nodes} nodes, {browser.run(count)} after 40 jumps{requests}")
    print(f"  opening: {sorted(opened)[2]:.3f} s by the clock (median of 5)")
    clock, thread = (sorted(column)[20] for column in zip(*jumps, strict=True))
    own = f", {thread:.0f} ms of the page's thread" if chromium else ""
    print(f"  a jump: worst frame {clock:.0f} ms by the clock{own} (medians of 40)", flush=True)


def _photographs(root: Path) -> Path:
    from tests.engine.atlas.places import photographs

    return photographs(root / "photos", 4)


def _start(
    photos: Path, folder: Path, words: dict[str, Any] | None = None, stderr: int | None = None
) -> subprocess.Popen[bytes]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    text = json.dumps({"steps": STEPS, "size": SIZE, **(words or {})})
    command = [sys.executable, "-c", DRIVER, str(photos), str(folder), text]
    return subprocess.Popen(command, env=env, cwd=ROOT, stderr=stderr)


def _run(photos: Path, folder: Path, words: dict[str, Any] | None = None) -> float:
    """Seconds of a run that must end well."""
    began = time.monotonic()
    process = _start(photos, folder, words)
    if process.wait(900):
        sys.exit(f"a run ended with {process.returncode}")
    return time.monotonic() - began


def _made(folder: Path) -> int:
    file = Path(f"{folder}.made")
    return len(file.read_text().splitlines()) if file.exists() else 0


def _equal(folder: Path, whole: Path) -> str:
    """Whether two atlases list the same files with the same sums, in words."""
    return "same hash" if _fingerprint(folder) == _fingerprint(whole) else "ANOTHER HASH"


def _fingerprint(folder: Path) -> str:
    from tests.engine.atlas.places import fingerprint

    return fingerprint(folder)


def _children(process: int) -> list[int]:
    """Its processes: the fourth word of ``stat``, behind a name in brackets, is the parent."""
    found: list[int] = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(file.read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found


def _kept(folder: Path) -> int:
    return sum(1 for _ in (folder / "store" / "units").rglob("*.png"))


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
