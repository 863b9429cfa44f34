"""Local processes that make pictures.

Each is a fresh interpreter: a fork would inherit torch's threads. It gets the model over its standard input, as a
pickle that this process made, then a line of JSON for each block, and answers with a line. It writes the pictures
itself. One that dies is replaced, and its block given to another; after three deaths the block is left out.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from ...errors import ConvscopeError, PartlyDone
from ..graph.graph import Graph
from .files import Files
from .leases import Leases
from .plan import Plan, Wishes
from .rendering import Block, Renderer, forget_failure, note_failure

_DEATHS = 3  # of processes over one block, before it is left out


@dataclass(eq=False)
class Work:
    """Blocks that others make, processes or actors, and what is heard of them.

    Attributes:
        files: the atlas's folder.
        graph: the model.
        plan: what the atlas holds.
        wishes: what the plan was made from.
        device: "auto", "cpu" or "cuda[:n]".
        count: of processes or actors.
        blocks: that are still to be made.
        is_late: whether no further block may begin.
        advance: called with the number of units that came to an end.
        owner: of the run's leases.
        failed: block -> why it could not be made.
    """

    files: Files
    graph: Graph
    plan: Plan
    wishes: Wishes
    device: str
    count: int
    blocks: Sequence[Block]
    is_late: Callable[[], bool]
    advance: Callable[[int], None]
    owner: str
    failed: dict[str, str] = field(default_factory=dict)

    def payload(self) -> bytes:
        """What `renderer_of` reads."""
        parts = (self.files.place, self.graph, self.plan, self.wishes, self.owner)
        return pickle.dumps(parts, protocol=pickle.HIGHEST_PROTOCOL)

    def heard(self, block: Block, answer: Mapping[str, Any]) -> None:
        """Takes in what came of a block, see `answer_to`.

        Raises:
            PartlyDone: the disk is full. RuntimeError: a bug of ours.
        """
        if "bug" in answer:
            raise RuntimeError(answer["bug"])
        if "full" in answer:
            raise PartlyDone(answer["full"])
        if "error" in answer:
            self.failed[block.name] = note_failure(self.files, self.plan, block, str(answer["error"]))
        else:
            forget_failure(self.files, block)
        self.advance(len(block.units) - int(answer.get("others", 0)))


def run_in_processes(work: Work) -> dict[str, str]:
    """Makes blocks in processes, one thread each; result as for `rendering.run_here`."""
    crew = _Crew(work)
    devices = _devices(work.device, work.count)[: max(len(work.blocks), 1)]
    threads = [threading.Thread(target=crew.lead, args=(d,), daemon=True) for d in devices]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        crew.stop()
        raise
    if crew.broken:
        raise crew.broken[0]
    return work.failed


def _devices(device: str, count: int) -> list[str]:
    """A device for each process: on GPUs one after the other."""
    import torch

    from ..executors.devices import torch_device

    chosen = torch_device(device)
    if chosen.type != "cuda" or chosen.index is not None:
        return [device] * count
    return [f"cuda:{i % torch.cuda.device_count()}" for i in range(count)]


class _Crew:
    """The processes' leaders: threads that hand out blocks and hear of their end."""

    def __init__(self, work: Work) -> None:
        self.work, self._payload = work, work.payload()
        self._waiting: queue.SimpleQueue[tuple[Block, int]] = queue.SimpleQueue()
        for block in work.blocks:
            self._waiting.put((block, 0))
        self.broken: list[BaseException] = []
        self._stopped = False
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def lead(self, device: str) -> None:
        """Hands blocks to one process after the other until none is left."""
        process: subprocess.Popen[bytes] | None = None
        try:
            while not (self._stopped or self.broken or self.work.is_late()):
                try:
                    block, deaths = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if process is None:
                    process = self._start(device)
                answer = _asked(process, block)
                if answer is None and not self._stopped:
                    self._end(process)
                    process = None
                    self._again(block, deaths + 1)
                    continue
                with self._lock:
                    self.work.heard(block, answer or {})
        except BaseException as exc:  # the main thread must hear of it
            self.broken.append(exc)
        finally:
            if process is not None:
                self._end(process)

    def stop(self) -> None:
        """Ends all processes; what they finished is kept."""
        self._stopped = True
        for process in list(self._processes):
            process.terminate()

    def _again(self, block: Block, deaths: int) -> None:
        if deaths < _DEATHS:
            self._waiting.put((block, deaths))
            return
        reason = f"{deaths} processes ended while making them; is there enough memory?"
        with self._lock:
            self.work.heard(block, {"error": reason})

    def _start(self, device: str) -> subprocess.Popen[bytes]:
        # the module path of this process, so that the child finds the same convscope
        path = os.pathsep.join(entry for entry in sys.path if entry)
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        process = subprocess.Popen(
            _command(device),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, **threads},
            start_new_session=True,  # Ctrl-C is for the leader alone
        )
        self._processes.add(process)
        assert process.stdin is not None
        try:
            process.stdin.write(len(self._payload).to_bytes(8, "little") + self._payload)
            process.stdin.flush()
        except OSError:
            pass  # it died; the first question finds out
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._processes.discard(process)


def _command(device: str) -> list[str]:
    return [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()", device]


def _asked(process: subprocess.Popen[bytes], block: Block) -> dict[str, Any] | None:
    """A process's answer to a block, or None where it died."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(block.to_json()).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except OSError:
        return None
    return dict(json.loads(line)) if line.endswith(b"\n") else None


def serve() -> None:
    """What a process does: reads the model, then makes the blocks that it is asked for until its input ends."""
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not be taken for an answer
    _watch_parent()
    renderer = renderer_of(_exactly(source, int.from_bytes(_exactly(source, 8), "little")), sys.argv[1])
    for line in source:
        answers.write(json.dumps(answer_to(renderer, Block.of(json.loads(line)))).encode() + b"\n")
        answers.flush()
    os._exit(0)  # all is written, and taking the interpreter down takes half a second


def renderer_of(payload: bytes, device: str) -> Renderer:
    """The renderer of a pickled (place, graph, plan, wishes, owner), as this program's own other process made it."""
    from .files import opened

    place, graph, plan, wishes, owner = pickle.loads(payload)
    files = opened(place)
    return Renderer(files, graph, plan, wishes, device, Leases(files, owner))


def answer_to(renderer: Renderer, block: Block) -> dict[str, Any]:
    """Makes a block; how many of its units "others" are at, or what went wrong.

    "full" is the disk, "error" the user's to read, "bug" ours.
    """
    try:
        return {"others": renderer.render(block)}
    except PartlyDone as error:
        return {"full": str(error)}
    except ConvscopeError as error:
        return {"error": str(error)}
    except Exception as error:  # the leader must say it
        return {"bug": f"{type(error).__name__}: {error}"}


def _watch_parent() -> None:
    """Ends the process when the one that started it is gone, even killed: nobody would read its answers."""
    parent = os.getppid()

    def watch() -> None:
        import time

        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _exactly(source: IO[bytes], count: int) -> bytes:
    data = source.read(count)
    if len(data) != count:
        sys.exit(1)
    return data


def fitting_count(device: str) -> int:
    """As many processes as this machine serves well: one for each GPU, or for each core, at most eight."""
    from ..executors.devices import torch_device

    chosen = torch_device(device)
    if chosen.type == "cuda":
        import torch

        return 1 if chosen.index is not None else torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)
