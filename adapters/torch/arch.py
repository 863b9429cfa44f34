"""``--arch``: the code that builds a network whose file holds weights alone. Only ever what the user names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...errors import UsageError

_WITHOUT_OPERATORS = "operator torchvision::nms does not exist"
_declared: list[torch.library.Library] = []  # a library withdraws its operators when it is collected
_FORM = "give arch=package.module:callable, file.py:callable or a timm model name"


def build(arch: str, **wanted: Any) -> Any:
    """Calls what ``arch`` names, asking for untrained weights.

    Args:
        arch: ``package.module:callable``, ``file.py:callable``, ``timm:name`` or a bare timm name.
        wanted: keyword arguments, passed on where the callable takes them.

    Raises:
        UsageError: it cannot be imported, is not callable, or fails.
    """
    factory = _factory(arch)
    try:
        return _beside_torch(lambda: factory(**_arguments(factory, wanted)))
    except Exception as error:
        raise UsageError(f"arch={arch}: calling it failed: {type(error).__name__}: {_line(error)}") from error


def is_timm(arch: str) -> bool:
    """Whether ``arch`` names a timm architecture."""
    return arch.startswith("timm:") or ":" not in arch


def _factory(arch: str) -> Callable[..., Any]:
    if is_timm(arch):
        return _timm_factory(arch.removeprefix("timm:"))
    module_name, _, attribute = arch.rpartition(":")
    if not module_name or not attribute:
        raise UsageError(f"arch={arch!r} does not name a callable; {_FORM}")
    target: Any = _module(module_name, arch)
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise UsageError(f"arch={arch}: '{module_name}' has no '{part}'")
        target = getattr(target, part)
    if not callable(target):
        raise UsageError(f"arch={arch}: '{attribute}' is not callable but a {type(target).__name__}")
    return target


def _module(name: str, arch: str) -> Any:
    try:
        if name.endswith(".py"):
            return _beside_torch(lambda: _module_from_file(Path(name), arch))
        with _current_folder():
            return _beside_torch(lambda: importlib.import_module(name))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"arch={arch}: importing '{name}' failed: {_line(error)}; {_FORM}") from error


def _module_from_file(path: Path, arch: str) -> Any:
    if not path.is_file():
        raise UsageError(f"arch={arch}: there is no file '{path}'")
    spec = importlib.util.spec_from_file_location(f"_convscope_arch_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"arch={arch}: '{path}' is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _timm_factory(name: str) -> Callable[..., Any]:
    try:
        timm = _beside_torch(lambda: importlib.import_module("timm"))
    except Exception as error:  # timm imports torchvision, which fails in more ways than ImportError
        raise UsageError(f"arch={name}: timm cannot be imported ({_line(error)}); {_FORM}") from error
    if not timm.is_model(name.split(".")[0]):
        close = ", ".join(timm.list_models(f"*{name}*")[:3])
        raise UsageError(
            f"arch={name}: timm {timm.__version__} has no such model"
            + (f"; closest: {close}" if close else "; list them with timm.list_models()")
        )

    def create(num_classes: int | None = None) -> Any:
        extra: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
        return timm.create_model(name, pretrained=False, exportable=True, **extra)

    return create


def _beside_torch(imports: Callable[[], Any]) -> Any:
    """What a call gives that imports torchvision, also where its compiled part does not load beside this torch.

    Then the import fails for want of the schemas of two operators, which no network calls when it is built or run.
    They are declared only after it has failed: a compiled part that loads declares them itself, and could not a second
    time.
    """
    try:
        return imports()
    except RuntimeError as error:
        if _WITHOUT_OPERATORS not in str(error) or _declared:
            raise
    for name in [n for n in sys.modules if n.partition(".")[0] in ("torchvision", "timm")]:  # half imported
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return imports()


def _arguments(factory: Callable[..., Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What to pass: the wanted arguments it takes, and no download of trained weights."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    arguments = {k: v for k, v in wanted.items() if (takes_all or k in parameters) and v is not None}
    for name, untrained in (("weights", None), ("pretrained", False), ("weights_backbone", None)):
        if name in parameters and parameters[name].default not in (None, False, inspect.Parameter.empty):
            arguments.setdefault(name, untrained)
    return arguments


@contextmanager
def _current_folder() -> Iterator[None]:
    """The current folder at the end of the import path: it can add modules but hide none."""
    folder = os.getcwd()
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
