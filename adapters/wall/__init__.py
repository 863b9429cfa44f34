"""The wall around files from strangers: they are imported in a process of their own, whose appetite is bounded.

`parent.load_behind` is the parent's side. What comes back through a socket is the canonical ONNX and the layer table
as JSON, never a pickle.
"""

from __future__ import annotations

import os
import sys


def stands(arch: str | None) -> bool:
    """Whether files are imported in a process of their own here: on Linux, unless the caller's own code is needed.

    Args:
        arch: as for `adapters.load.load`; code of ``__main__`` is in this process alone.
    """
    return sys.platform == "linux" and _has_handles() and not (arch or "").startswith("__main__:")


def _has_handles() -> bool:
    """Whether a process can be waited for by a descriptor (Linux 5.3), whatever it has left running."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True
