"""Live networks as people hold them: wrapped, compiled, in half precision, on a GPU, or as a torch.export program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.autocast_mode import autocast
from torch.optim.swa_utils import AveragedModel

from ...engine.executors.session import first_line
from ...errors import RefusedInput
from ..onnx.metadata import class_names

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_LARGEST = 4096  # pixels of a side
_HALF = {torch.float16: "float16", torch.bfloat16: "bfloat16"}


def unwrapped(source: Any) -> Any:
    """What a wrapper holds: DataParallel, DistributedDataParallel, torch.compile, averaged weights; else itself."""
    while (inner := _wrapped(source)) is not None:
        source = inner
    return source


def plain(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The network that can be exported, and what was done to get it.

    Wrappers are taken off; one in half precision is copied in float32, which holds its weights exactly.

    Raises:
        RefusedInput: it has no weights (torch's meta device), or cannot be copied.
    """
    module = unwrapped(module)
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    missing = next((name for name, tensor in tensors.items() if tensor.is_meta), None)
    if missing is not None:
        raise RefusedInput(f"{type(module).__name__} has no weights: '{missing}' is on torch's meta device; load them")
    half = sorted({_HALF[tensor.dtype] for tensor in tensors.values() if tensor.dtype in _HALF})
    if not half:
        return module, ()
    try:
        copied = deepcopy(module).float()
    except Exception as error:  # a module may hold anything
        raise RefusedInput(
            f"{type(module).__name__} in {half[0]} cannot be copied ({first_line(error, 120)}); give it as "
            "module.float()"
        ) from error
    return copied, (f"the module's {' and '.join(half)} weights are computed in float32",)


def _wrapped(module: Any) -> Any:
    if isinstance(module, _WRAPPERS):
        return module.module
    return getattr(module, "_orig_mod", None) if type(module).__name__ == "OptimizedModule" else None


def placed(inputs: tuple[Tensor, ...], module: nn.Module) -> tuple[Tensor, ...]:
    """The inputs where the module's weights are, floating ones as double where these are."""
    weight = next((p for p in module.parameters() if p.is_floating_point()), None)
    if weight is None:
        return inputs
    kind = torch.float64 if weight.dtype == torch.float64 else torch.float32
    return tuple(x.to(weight.device, kind if x.is_floating_point() else x.dtype) for x in inputs)


@contextlib.contextmanager
def as_called(module: nn.Module, count: int) -> Iterator[None]:
    """While it is open, the module takes so many inputs and nothing else, and no part of it runs compiled.

    The tracing exporter makes inputs of ``forward``'s further arguments, with their defaults.
    """
    parts = {part: impl for part in module.modules() if (impl := getattr(part, "_compiled_call_impl", None))}
    forward = module.forward
    try:
        for part in parts:
            part._compiled_call_impl = None
        if _has_options(forward, count) and not isinstance(module, torch.jit.ScriptModule):
            module.forward = lambda *inputs: forward(*inputs)
        yield
    finally:
        for part, impl in parts.items():
            part._compiled_call_impl = impl
        if module.__dict__.get("forward") not in (None, forward):
            del module.forward
            if module.forward != forward:  # it was an attribute of the instance before
                module.forward = forward


def _has_options(forward: Callable[..., Any], count: int) -> bool:
    """Whether a function takes more than so many positional arguments."""
    try:
        given = list(signature(forward).parameters.values())
    except (TypeError, ValueError):
        return False
    return len(given) > count and all(p.kind is not Parameter.VAR_POSITIONAL for p in given)


@contextlib.contextmanager
def full_precision() -> Iterator[list[str]]:
    """While it is open, ``torch.autocast`` does nothing; gives the list that says so once a module has asked for it."""
    used: list[str] = []
    enter, leave = autocast.__enter__, autocast.__exit__

    def begin(manager: Any) -> Any:
        used[:] = ["torch.autocast in the module is left out: everything is computed in float32"]
        return manager

    autocast.__enter__, autocast.__exit__ = begin, lambda *_: None  # type: ignore[method-assign]
    try:
        yield used
    finally:
        autocast.__enter__, autocast.__exit__ = enter, leave  # type: ignore[method-assign]


def stated_labels(module: nn.Module) -> tuple[str, ...] | None:
    """Class names that a network carries, or None: ultralytics' ``names``, Hugging Face's ``config.id2label``."""
    own, given = getattr(module, "names", None), getattr(getattr(module, "config", None), "id2label", None)
    return class_names(list(own) if isinstance(own, tuple) else own) or class_names(given)


def stated_size(module: nn.Module) -> tuple[int, int] | None:
    """(height, width) that a network is made for: timm's ``pretrained_cfg``, Hugging Face's ``config.image_size``."""
    timm, sides = getattr(module, "pretrained_cfg", None), getattr(getattr(module, "config", None), "image_size", None)
    if isinstance(timm, Mapping) and isinstance(timm.get("input_size"), (list, tuple)):
        sides = timm["input_size"][1:]
    if isinstance(sides, Mapping):
        sides = sides.get("height"), sides.get("width")
    pair = sides if isinstance(sides, (list, tuple)) else (sides, sides)
    if len(pair) != 2 or not all(isinstance(side, int) and 0 < side <= _LARGEST for side in pair):
        return None
    return pair[0], pair[1]


def is_packed(module: nn.Module) -> str | None:
    """The name of the first layer that torch's own quantization has packed for its kernels, or None."""
    packed = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
    return next((name for name, part in module.named_modules() if type(part).__module__.startswith(packed)), None)
