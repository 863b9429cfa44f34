"""Torch models: live modules, torch.export archives, and weights with the code that builds their network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...engine.executors.session import first_line
from ...engine.graph.preprocessing import Preprocessing, preprocessing_of
from ...errors import ConvscopeError, RefusedInput, UnsafeFile, UsageError
from ..derived import side_for
from ..exported import Exported
from ..formats import format_of
from ..preprocessing import companion, from_config
from .arch import build, is_timm
from .examples import other_example, spectrum_example
from .export import Export, export_module, export_program, failing, fallback_note, flat_outputs
from .files import find_state, fit, head_classes, other_classes, read_state, read_trusted
from .live import is_packed, placed, plain, stated_labels, stated_size
from .pt2 import example_of, export_archive

# sides to try where neither the caller nor the network names one: ImageNet's first, then those of the classic
# data sets (CIFAR, MNIST, STL), then what older heads need
_SIDES = (224, 32, 28, 299, 227, 64, 96, 128, 256, 384, 112, 331, 512)
_USUAL_CHANNELS = (3, 1)


def export_torch(module: Any, example_input: Any, size: tuple[int, int] | None = None) -> Exported:
    """A live module as ONNX, checked against the module itself.

    Args:
        module: a `torch.nn.Module`, left as it was (mode, hooks, weights), also wrapped, compiled or in half precision
            (see `live.plain`); or a `torch.export.ExportedProgram`, which has its example inputs' shapes.
        example_input: a float tensor or NumPy array (N, C, H, W), or a tuple of them for several inputs; None tries
            out random ones.
        size: (height, width) of the example that is made where none is given.

    Raises:
        RefusedInput: no exporter can write it, or the module fails on the example.
    """
    if isinstance(module, torch.export.ExportedProgram):
        return _exported(export_program(module, module.module(), example_of(module, "the program")), [], None)
    if not isinstance(module, nn.Module):
        raise UsageError(f"cannot load a {type(module).__name__}; give a torch.nn.Module or a torch.export program")
    module, said = plain(module)
    made = example_for(module, size) if example_input is None else example_input
    inputs = tuple(_as_tensor(x) for x in (made if isinstance(made, tuple) else (made,)))
    if not all(isinstance(x, Tensor) for x in inputs):
        raise UsageError(f"example_input is a {type(example_input).__name__}, not a torch tensor or a tuple of them")
    inputs = placed(inputs, module)
    try:
        export, failures = export_module(module, inputs)
    except ConvscopeError as error:
        if (layer := is_packed(module)) is not None:
            raise RefusedInput(
                f"layer '{layer}' was quantized by torch, for torch's own kernels; load the network before that, or a "
                "quantized ONNX file of it (QuantizeLinear)"
            ) from error
        raise
    except Exception as error:  # the module's own forward pass raises whatever it likes
        raise failing(type(module).__name__, inputs, error) from error
    exported = _exported(export, failures, getattr(module, "pretrained_cfg", None))
    exported = replace(exported, notes=(*said, *exported.notes), labels=stated_labels(module))
    if example_input is None and size is None:
        shape = tuple(inputs[0].shape)
        why = "its own size" if shape[2:] == stated_size(module) else "the first that the network took"
        note = f"exported with an input of shape {shape}, {why}"
        return replace(exported, notes=(note, *exported.notes))
    return exported


def _as_tensor(x: Any) -> Any:
    """A NumPy array as the float tensor that it stands for; NumPy's own default is double, which no network takes."""
    if not isinstance(x, np.ndarray):
        return x
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32 if x.dtype == np.float64 else x.dtype))


def load_torch_file(
    path: Path,
    *,
    arch: str | None = None,
    trust: bool = False,
    example_input: Tensor | None = None,
    size: tuple[int, int] | None = None,
) -> Exported:
    """A Torch file as ONNX.

    Args:
        path: a ``.pt2`` archive, a state dict or a safetensors file (both with ``arch``); with ``trust`` also
            a pickled module or TorchScript.
        arch: what builds the network, see `adapters.torch.arch.build`.
        trust: allow unpickling and TorchScript, which run code from the file.
        example_input: float tensor (N, C, H, W); default found from the network.
        size: (height, width) of the default example.

    Raises:
        UsageError: ``arch`` is missing or wrong. UnsafeFile: loading would run code.
        RefusedInput: damaged, or the weights do not fit the network.
    """
    path = Path(path)
    kind = format_of(path).name
    if kind == "pt2":
        return _exported(export_archive(path), [], None)
    if kind == "torchscript":
        return _from_torchscript(path, trust, example_input, size)
    module, used, notes = _module_in(path, kind, arch, trust)
    return _from_module(module, path, used, example_input, size, notes)


def run_torch_file(
    path: Path, feeds: Mapping[str, np.ndarray], *, arch: str | None = None, trust: bool = False
) -> list[np.ndarray]:
    """What the network itself makes of one picture.

    Args:
        path: of a file that `load_torch_file` has read with this ``arch`` and ``trust``.
        feeds: the picture, under any name.
        arch: as there.
        trust: as there.

    Raises:
        RefusedInput: it takes more than the picture, or fails.
    """
    kind = format_of(path).name
    if len(feeds) != 1:
        raise RefusedInput(f"{path} takes inputs beside the picture")
    module = _scripted(path) if kind == "torchscript" and trust else _module_in(path, kind, arch, trust)[0]
    x = torch.tensor(next(iter(feeds.values())))
    first = next((weight for weight in module.parameters() if weight.is_floating_point()), None)
    try:
        with torch.no_grad():
            return flat_outputs(module.eval()(x if first is None or not x.is_floating_point() else x.to(first.dtype)))
    except Exception as error:  # the module's own forward pass raises whatever it likes
        raise RefusedInput(f"{path}: its network fails on {tuple(x.shape)}: {first_line(error, 200)}") from error


def _module_in(path: Path, kind: str, arch: str | None, trust: bool) -> tuple[nn.Module, str | None, list[str]]:
    """(the network of a pickle or of weights, the ``arch`` that built it, notes)."""
    content: Any = read_trusted(path) if trust and kind != "safetensors" else None
    if isinstance(content, nn.Module):
        return content.float(), None, ["unpickled, as trust=True allows"]
    state, notes = find_state(content, path) if content is not None else read_state(path, kind)
    if arch is None:
        raise UsageError(
            f"{path} holds weights alone ({len(state)} tensors, first '{next(iter(state), '')[:60]}'); name the code "
            "that builds the network: arch=package.module:callable, or a timm model name"
        )
    module = build(arch)
    if not isinstance(module, nn.Module):
        raise UsageError(f"arch={arch} returns a {type(module).__name__}, not a torch.nn.Module")
    classifier = getattr(module, "pretrained_cfg", {}).get("classifier")
    if is_timm(arch) and isinstance(classifier, str):
        classes = head_classes(state, module, classifier)
        module = build(arch, num_classes=classes) if classes else module
    elif (classes := other_classes(state, module)) is not None:
        with suppress(UsageError):  # what it names takes no other number of classes
            module = build(arch, num_classes=classes)
    notes += fit(module, state, path, arch)
    return module, arch, notes


def _from_torchscript(path: Path, trust: bool, example_input: Tensor | None, size: tuple[int, int] | None) -> Exported:
    if not trust:
        raise UnsafeFile(
            f"{path} is a TorchScript archive, and loading one runs code from the file; export the model to ONNX, "
            "or pass trust=True if you made the file yourself"
        )
    module = _scripted(path)
    notes = ["TorchScript, as trust=True allows"]
    return _from_module(module, path, None, example_input, size, notes)


def _scripted(path: Path) -> Any:
    try:
        return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise RefusedInput(f"{path} cannot be loaded as TorchScript: {first_line(error)}") from error


def _from_module(
    module: nn.Module,
    path: Path,
    arch: str | None,
    example_input: Tensor | None,
    size: tuple[int, int] | None,
    notes: list[str],
) -> Exported:
    example = example_input if example_input is not None else example_for(module, size)
    exported = export_torch(module, example)
    known = companion(path) or exported.preprocessing or _family(arch)
    is_stated = stated_size(module) is not None or (known is not None and known.size is not None)
    if example_input is None and size is None and example.ndim == 4 and not is_stated:
        height, width = example.shape[2:]
        notes.append(
            f"the file states no size of the picture: it is exported at {height}x{width}, the first usual size that "
            "the network took. Another: load(size=(HEIGHT, WIDTH))"
        )
    return replace(exported, preprocessing=known, notes=(*notes, *exported.notes), arch=arch)


def example_for(module: nn.Module, size: tuple[int, int] | None = None) -> Tensor:
    """A random input of batch 1 that the module takes: its first convolution's channels, the size tried out.

    Raises:
        RefusedInput: nothing in it says what it reads, or it refuses every size.
    """
    modes = [(sub, sub.training) for sub in module.modules()]
    try:
        module.eval()
        candidates = _channels(module)
        if not candidates:
            return other_example(module, size)
        reasons: list[str] = []
        for channels in candidates:
            example, reason = _example_of(module, channels, size)
            if example is not None:
                return example
            reasons.append(reason)
        if (spectrum := spectrum_example(module, size)) is not None:
            return spectrum
    finally:
        for sub, mode in modes:
            sub.training = mode
    channels = candidates[0]
    tried = f"({channels}, {size[0]}, {size[1]})" if size else f"{channels} channels at the sizes {_SIDES}"
    raise RefusedInput(
        f"the network takes no input of {tried}: {reasons[0]}; give example_input or load(size=(HEIGHT, WIDTH))"
    )


def _example_of(module: nn.Module, channels: int, size: tuple[int, int] | None) -> tuple[Tensor | None, str]:
    """A random picture of so many channels that the module takes, or None and why it refuses the first."""
    generator = torch.Generator().manual_seed(0)
    reason = ""
    is_double = any(weight.dtype == torch.float64 for weight in module.parameters())
    precision = torch.float64 if is_double else torch.float32
    for height, width in _sizes(module, size):
        example = torch.rand((1, channels, height, width), generator=generator).to(precision)
        try:
            with torch.no_grad():
                module(example)
            return example, ""
        except Exception as error:  # whatever a forward pass raises at a wrong size
            reason = reason or first_line(error, 200)
    side = _side_of_dense(module, channels) if size is None else None
    return (None, reason) if side is None else (torch.rand((1, channels, side, side), generator=generator), "")


class _Taken(Exception):
    """How many values arrive at a dense layer that takes another number."""

    def __init__(self, layer: nn.Linear, arrived: int) -> None:
        super().__init__()
        self.layer, self.arrived = layer, arrived


def _side_of_dense(module: nn.Module, channels: int) -> int | None:
    """The side at which the first dense layer that refuses all others gets what it takes, or None."""

    def stop(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(layer, nn.Linear) and inputs[0].shape[-1] != layer.in_features:
            raise _Taken(layer, int(inputs[0].shape[-1]))

    def arrived(side: int) -> _Taken | None:
        """What stops at a dense layer; none where the picture is too small, or where all is right."""
        try:
            with torch.no_grad():
                module(torch.zeros((1, channels, side, side)))
        except _Taken as taken:
            return taken
        except Exception:
            return None
        return None

    hooks = [part.register_forward_pre_hook(stop) for part in module.modules() if isinstance(part, nn.Linear)]
    try:
        first = arrived(_SIDES[0])
        if first is None:
            return None
        wanted = first.layer.in_features

        def values(side: int) -> int | None:
            taken = arrived(side)
            return taken.arrived if taken is not None else wanted if _runs(module, channels, side) else None

        side = side_for(values, wanted)
        return side if side is not None and _runs(module, channels, side) else None
    finally:
        for hook in hooks:
            hook.remove()


def _runs(module: nn.Module, channels: int, side: int) -> bool:
    try:
        with torch.no_grad():
            module(torch.zeros((1, channels, side, side)))
    except Exception:
        return False
    return True


class _Reached(Exception):
    """A convolution is called."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels


def _first_called(module: nn.Module, declared: int) -> int:
    """The channels of the convolution that a forward pass calls first, whichever is declared first."""

    def stop(layer: nn.Module, _: tuple[Any, ...]) -> None:
        raise _Reached(int(layer.in_channels))  # type: ignore[arg-type]

    hooks = [part.register_forward_pre_hook(stop) for part in module.modules() if isinstance(part, nn.Conv2d)]
    try:
        with torch.no_grad():
            module(torch.zeros((1, declared, _SIDES[0], _SIDES[0])))
    except _Reached as reached:
        return reached.channels
    except Exception:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return declared


def _channels(module: nn.Module) -> list[int]:
    """How many channels a picture may have: the first convolution's that is called, then colour and gray.

    Not every network hands its input to a convolution as it is: it may take a cosine transform first. None where there
    is no two-dimensional convolution.
    """
    declared = [part.in_channels for part in module.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    declared += [t.shape[1] for n, t in module.named_parameters() if t.ndim == 4 and n.rpartition(".")[2] == "weight"]
    if not declared:
        return []
    return list(dict.fromkeys((_first_called(module, declared[0]), *_USUAL_CHANNELS)))


def _sizes(module: nn.Module, size: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
    if size is not None:
        yield size
        return
    if (stated := stated_size(module)) is not None:
        yield stated
    for side in _SIDES:
        yield side, side


def _family(arch: str | None) -> Preprocessing | None:
    """torchvision's classification networks are all trained with the ImageNet mean and deviation."""
    if arch is not None and arch.startswith("torchvision.models"):
        return replace(preprocessing_of("torch"), found="family")
    return None


def _exported(export: Export, failures: list[str], config: Any) -> Exported:
    known = from_config(config) if isinstance(config, dict) and config else None
    return Exported(
        model=export.model,
        names=export.names,
        aliases=export.aliases,
        preprocessing=replace(known, found="family") if known else None,
        producer=f"torch {torch.__version__} ({export.exporter})",
        notes=(*fallback_note(failures), *export.notes),
    )
