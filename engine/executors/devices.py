"""``--device auto|cpu|cuda[:n]`` for both executors."""

from __future__ import annotations

import ctypes
import re
import sys
from functools import cache
from typing import Any

from ...errors import UsageError


def torch_device(device: str) -> Any:
    """The torch.device for a ``--device`` value; raises UsageError where CUDA is asked for and absent."""
    import torch

    check_device(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device '{device}': torch {torch.__version__} sees no CUDA device; use device=cpu")
    return torch.device(device)


def fast_bfloat16(device: Any) -> bool:
    """Whether the device multiplies bfloat16 faster than float32.

    On the CPU only where it has instructions for it: without them, convolutions took thirty times as long.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(check is not None and check() for check in checks)


def session_providers(device: str) -> list[Any]:
    """ONNX Runtime providers for a ``--device`` value.

    The GPU wheel lists the CUDA provider on machines without a GPU too, and asking for it there prints an
    error, so torch is asked whether there is a device at all; not where there is no driver, since importing it takes
    more than most forward passes.
    """
    check_device(device)
    if device == "cpu" or (device == "auto" and not _has_driver()):
        return ["CPUExecutionProvider"]
    chosen = torch_device(device)
    if chosen.type == "cpu":
        return ["CPUExecutionProvider"]
    options = {"device_id": chosen.index or 0, "use_tf32": "0"}  # see `exact`
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


@cache
def _has_driver() -> bool:
    """Whether CUDA's driver is installed; every GPU of a machine is reached through it."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def check_device(device: str) -> None:
    """Raises UsageError for what names no device, whether there is one or not."""
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"device '{device}' is unknown; use auto, cpu, cuda or cuda:N")
