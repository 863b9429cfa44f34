"""A process that stays clean: it has imported what imports need, computes nothing, and forks for every request.

For parents that cannot be forked themselves, because torch or ONNX Runtime may have started threads in them.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
from contextlib import suppress

from .worker import Request, supervise

LENGTH = struct.Struct("<Q?")  # bytes of the request, and whether Keras will be needed
_IDLE = 300.0  # seconds without a request


def main(descriptor: int) -> None:
    """Serves until the other end is closed, or nothing has come for a while."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the supervisors
    _warm()
    with socket.socket(fileno=descriptor) as channel:
        channel.settimeout(_IDLE)
        while _serve(channel):
            pass


def _serve(channel: socket.socket) -> bool:
    try:
        head, descriptors, _, _ = socket.recv_fds(channel, LENGTH.size, 2)
    except TimeoutError:
        return False
    if len(head) < LENGTH.size or len(descriptors) != 2:
        return False
    result, status = (socket.socket(fileno=one) for one in descriptors)
    with result, status:
        length, is_keras = LENGTH.unpack(head)
        data = bytearray()
        while len(data) < length:
            part = channel.recv(min(length - len(data), 2**20))
            if not part:
                return False
            data += part
        request = pickle.loads(data)  # from the process that started this one
        assert isinstance(request, Request)
        if is_keras:
            _import_keras()
        if os.fork() == 0:
            try:
                channel.close()
                supervise(request, result, status)
            finally:
                os._exit(0)
    return True


def _warm() -> None:
    """Imports what every import of a file needs, so that no worker has to."""
    from ...engine.executors.session import import_runtime
    from .. import load  # noqa: F401
    from ..twin import build  # noqa: F401

    import_runtime()


def _import_keras() -> None:
    from ...errors import ConvscopeError
    from ..keras.load import import_keras

    with suppress(ConvscopeError):  # the worker says it
        import_keras(alone=True)
