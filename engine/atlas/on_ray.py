"""Ray as one more way to run blocks: actors that hold the model and write the pictures themselves.

The extra ``[ray]``. Ray runs code of whoever reaches it, so it listens on this machine alone unless an address of a
running cluster is given. The driver only counts: losing it loses nothing.
"""

from __future__ import annotations

from typing import Any

from ...errors import UsageError
from .rendering import Block
from .workers import Work, answer_to, renderer_of

_RETRIES = 3


def run_on_ray(work: Work, *, address: str | None = None) -> dict[str, str]:
    """Makes blocks by actors; result as for `rendering.run_here`.

    Args:
        work: the blocks.
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
        _start(ray, work.count, address)
    try:
        return _run(ray, work)
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any, count: int, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if address is not None:
        ray.init(address=address, **quiet)
    else:
        ray.init(num_cpus=count, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)


def _run(ray: Any, work: Work) -> dict[str, str]:
    gpus = 1 if work.plan.device == "cuda" else 0
    actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=_RETRIES, max_task_retries=_RETRIES)(_Maker)
    payload = ray.put(work.payload())
    makers = [actor.remote(payload, work.device) for _ in range(min(work.count, max(len(work.blocks), 1)))]
    left = list(reversed(work.blocks))
    running = {maker.make.remote(block.to_json()): (maker, block) for maker in makers if left for block in [left.pop()]}
    while running:
        done, _ = ray.wait(list(running), num_returns=1)
        maker, block = running.pop(done[0])
        try:
            answer = ray.get(done[0])
        except ray.exceptions.RayError as exc:
            answer = {"error": f"its process ended: {type(exc).__name__}"}
        work.heard(block, answer)
        if left and not work.is_late():
            following = left.pop()
            running[maker.make.remote(following.to_json())] = (maker, following)
    return work.failed


class _Maker:
    """An actor: the model, and the studio of the last layer."""

    def __init__(self, payload: bytes, device: str) -> None:
        self._renderer = renderer_of(payload, device)

    def make(self, block: dict[str, Any]) -> dict[str, Any]:
        """Makes a block; see `answer_to`."""
        return answer_to(self._renderer, Block.of(block))
