"""A second device without its hardware: tensors that say they are elsewhere and refuse to meet the processor's.

What a GPU forbids is forbidden here: to compute with tensors of both devices, and to read one as numpy. So code that
works here puts its tensors where a GPU wants them. What a GPU does beside (streams, other kernels, recorded graphs,
its memory) is not tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

FAR = torch.device("meta")  # which every build of torch can differentiate on; here its tensors have values

# A GPU takes these from both devices: indices, and what is copied.
_MIXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::copy_")
_READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select")
_ASKS = ("convscope.engine.ascent.network", "convscope.engine.ascent.fitting", "convscope.engine.attribution.batch")


_crossings: list[str] = []


class FarTensor(Tensor):
    """A tensor on the far device; its values lie in ``near``, for the operators alone."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> FarTensor:
        made: FarTensor = Tensor._make_wrapper_subclass(
            cls, near.shape, near.stride(), near.storage_offset(), dtype=near.dtype, device=FAR
        )
        made.near = near
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _computed(func, args, kwargs or {})


class _Operators(TorchDispatchMode):
    """Every operator, those that make tensors among them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """Python numbers that become tensors, or tensors numbers: torch does both below its operators."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and _is_far(kwargs.get("device")):
            return func(*args, **{k: v for k, v in kwargs.items() if k != "device"}).to(FAR)
        if func is Tensor.tolist:
            if isinstance(args[0], FarTensor):
                _crossings.append("tolist")
            return _near(args[0]).tolist()
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            args = (args[0], tuple(torch.tensor(i) if isinstance(i, list) else i for i in index), *args[2:])
        return func(*args, **kwargs)


def _is_far(device: Any) -> bool:
    return device is not None and torch.device(device) == FAR


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operator on the values, its results on the device where they belong."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    far = any(isinstance(t, FarTensor) for t in tensors)
    if any(t.is_meta and not isinstance(t, FarTensor) for t in tensors):
        raise RuntimeError(f"{func}: a tensor without values; the stand-in does not know how it was made")
    if (far and func.name() in _READS) or (tensors and kwargs.get("device") is not None):
        _crossings.append(func.name())
    if kwargs.get("device") is not None:
        far, kwargs = _is_far(kwargs["device"]), {**kwargs, "device": torch.device("cpu")}
    elif far and func.name().split(".")[0] not in _MIXED:
        strangers = [tuple(t.shape) for t in tensors if not isinstance(t, FarTensor) and t.dim() > 0]
        if strangers:
            raise RuntimeError(f"{func}: tensors {strangers} are on the processor, others on the far device")
    result = func(*tree_map(_near, args), **tree_map(_near, kwargs))
    if func._schema.is_mutable and args and isinstance(args[0], Tensor) and result is _near(args[0]):
        return args[0]
    return tree_map(lambda leaf: FarTensor(leaf) if far and isinstance(leaf, Tensor) else leaf, result)


def _near(leaf: Any) -> Any:
    return leaf.near if isinstance(leaf, FarTensor) else leaf


@contextmanager
def second_device() -> Iterator[list[str]]:
    """``device="cuda"`` means the far device, for gradients; ONNX Runtime stays on the processor.

    Yields:
        The operators that brought values from one device to the other: a GPU waits for these, and records none.
    """

    def torch_device(device: str) -> torch.device:
        return FAR if device in ("cuda", str(FAR)) else torch.device("cpu")

    with pytest.MonkeyPatch.context() as patch, _Literals(), _Operators():
        for module in (*_ASKS, "convscope.adapters.twin.build", "convscope.engine.executors.devices"):
            patch.setattr(f"{module}.torch_device", torch_device)
        patch.setattr("convscope.engine.executors.session.session_providers", lambda device: ["CPUExecutionProvider"])
        _crossings.clear()
        yield _crossings
