"""Telling a failure for want of memory from others."""

from __future__ import annotations

import torch


def out_of_memory(error: BaseException) -> bool:
    """Whether a failure means that the batch was too large."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)
