"""Ray as one more way to run blocks: actors that hold the model and write the pictures themselves.

The extra ``[ray]``. Ray runs code of whoever reaches it, so it listens on this machine alone unless an address of a
running cluster is given. The driver only counts: losing it loses nothing.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import PartlyDone, UsageError
from ..graph.graph import Graph
from .files import Files
from .plan import Plan, Wishes
from .rendering import Block, forget_failure, note_failure
from .workers import answer_to, renderer_of

_RETRIES = 3


def run_on_ray(
    files: Files,
    graph: Graph,
    plan: Plan,
    wishes: Wishes,
    device: str,
    count: int,
    work: Sequence[Block],
    is_late: Callable[[], bool],
    advance: Callable[[int], None],
    owner: str,
    *,
    address: str | None = None,
) -> dict[str, str]:
    """Makes blocks by ``count`` actors; result as for `rendering.run_here`.

    Args:
        files: the atlas's folder.
        graph: the model.
        plan: what the atlas holds.
        wishes: what the plan was made from.
        device: "auto", "cpu" or "cuda[:n]", for every actor.
        count: of actors.
        work: blocks that are still to be made.
        is_late: whether no further block may begin.
        advance: called with the number of units that came to an end.
        owner: of the run's leases.
        address: of a running Ray; None starts one that only this machine reaches, and ends it.

    Raises:
        UsageError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise UsageError("executor=ray needs Ray: pip install 'convscope[ray]'") from None
    started = not ray.is_initialized()
    if started:
        _start(ray, count, address)
    try:
        return _run(ray, files, graph, plan, wishes, device, count, work, is_late, advance, owner)
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any, count: int, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if address is not None:
        ray.init(address=address, **quiet)
    else:
        ray.init(num_cpus=count, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)


def _run(
    ray: Any,
    files: Files,
    graph: Graph,
    plan: Plan,
    wishes: Wishes,
    device: str,
    count: int,
    work: Sequence[Block],
    is_late: Callable[[], bool],
    advance: Callable[[int], None],
    owner: str,
) -> dict[str, str]:
    gpus = 1 if plan.device == "cuda" else 0
    actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=_RETRIES, max_task_retries=_RETRIES)(_Maker)
    payload = ray.put(pickle.dumps((files.place, graph, plan, wishes, owner), protocol=pickle.HIGHEST_PROTOCOL))
    makers = [actor.remote(payload, device) for _ in range(min(count, max(len(work), 1)))]
    left, failed = list(reversed(work)), dict[str, str]()
    running = {maker.make.remote(block.to_json()): (maker, block) for maker in makers if left for block in [left.pop()]}
    while running:
        done, _ = ray.wait(list(running), num_returns=1)
        maker, block = running.pop(done[0])
        try:
            answer = ray.get(done[0])
        except ray.exceptions.RayError as exc:
            answer = {"error": f"its process ended: {type(exc).__name__}"}
        if "full" in answer:
            raise PartlyDone(answer["full"])
        if "bug" in answer:
            raise RuntimeError(answer["bug"])
        if "error" in answer:
            failed[block.name] = note_failure(files, plan, block, answer["error"])
        else:
            forget_failure(files, block)
        advance(len(block.units) - int(answer.get("others", 0)))
        if left and not is_late():
            following = left.pop()
            running[maker.make.remote(following.to_json())] = (maker, following)
    return failed


class _Maker:
    """An actor: the model, and the studio of the last layer."""

    def __init__(self, payload: bytes, device: str) -> None:
        self._renderer = renderer_of(payload, device)

    def make(self, block: dict[str, Any]) -> dict[str, Any]:
        """Makes a block; see `answer_to`."""
        return answer_to(self._renderer, Block.of(block))
