"""``--device auto|cpu|cuda[:n]`` for both executors."""

from __future__ import annotations

import re
from typing import Any

from ..errors import UsageError


def torch_device(device: str) -> Any:
    """The torch.device for a ``--device`` value; raises UsageError where CUDA is asked for and absent."""
    import torch

    _check(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device '{device}': torch {torch.__version__} sees no CUDA device; use --device cpu")
    return torch.device(device)


def session_providers(device: str) -> list[Any]:
    """ONNX Runtime providers for a ``--device`` value.

    The GPU wheel lists the CUDA provider on machines without a GPU too, and asking for it there prints an
    error, so torch is asked whether there is a device at all.
    """
    chosen = torch_device(device)
    if chosen.type == "cpu":
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": chosen.index or 0}), "CPUExecutionProvider"]


def _check(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"device '{device}' is unknown; use auto, cpu, cuda or cuda:N")
