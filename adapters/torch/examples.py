"""Inputs to export with for networks that take no pictures: signals, volumes, and lines of features.

What such a network reads stands in its first layer alone: channels, or features of a step. Lengths are tried out.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ...engine.executors.session import first_line
from ...errors import RefusedInput

Shape = tuple[int, ...]

_LENGTHS = (512, 1024, 4096, 16000, 32000, 48000, 100)  # of a signal
_STEPS = (100, 160, 32)  # of a line of features
_MOST_STEPS = 2**14  # of a spectrum: minutes of sound
_VOLUMES = ((16, 64, 64), (32, 32, 32), (16, 112, 112), (64, 64, 64), (96, 96, 96))


def other_example(module: nn.Module, size: tuple[int, int] | None) -> Tensor:
    """A random input of batch 1 that a network without two-dimensional convolutions takes.

    Args:
        module: in evaluation mode.
        size: (height, width) where the user names one: steps and features, or one row of samples.

    Raises:
        RefusedInput: its first layer says nothing, or it refuses every length.
    """
    generator = torch.Generator().manual_seed(0)
    kind = next(iter(module.parameters())).dtype if list(module.parameters()) else torch.float32
    tried: list[Shape] = []
    reason = ""
    for shape in _shapes(module, size):
        tried.append(shape)
        example = torch.rand(shape, generator=generator).to(kind)
        try:
            with torch.no_grad():
                module(example)
            return example
        except Exception as error:  # whatever a forward pass raises at a wrong size
            reason = reason or first_line(error, 200)
    name = type(module).__name__
    if not tried:
        raise RefusedInput(
            f"{name} has no two-dimensional convolution, so its input is unknown; give load(example_input=) in Python, "
            "or export it to ONNX"
        )
    shapes = ", ".join("x".join(map(str, shape)) for shape in tried[:4])
    raise RefusedInput(
        f"{name} takes no input of the shapes tried ({shapes}): {reason}; give load(size=(HEIGHT, WIDTH)), or export "
        "it to ONNX"
    )


def spectrum_example(module: nn.Module, size: tuple[int, int] | None) -> Tensor | None:
    """A random spectrum (1, steps, bands) as Hugging Face's config states it (AST), None where that is not taken.

    Args:
        module: in evaluation mode, one whose two-dimensional convolutions make a picture of the spectrum inside.
        size: (steps, bands) where the user names them.
    """
    config = getattr(module, "config", None)
    sides = size or (getattr(config, "max_length", None), getattr(config, "num_mel_bins", None))
    if not hasattr(config, "num_mel_bins") or not all(type(s) is int and 0 < s <= _MOST_STEPS for s in sides):
        return None
    example = torch.rand((1, *sides), generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            module(example)
    except Exception:  # whatever a forward pass raises at a wrong size
        return None
    return example


def _shapes(module: nn.Module, size: tuple[int, int] | None) -> Iterator[Shape]:
    """Shapes to try, by the first layer that says what it reads."""
    for part in module.modules():
        if isinstance(part, nn.Conv1d):
            for length in (size[1],) if size else _LENGTHS:
                yield 1, part.in_channels, length
                if part.in_channels == 1:
                    yield 1, length
            return
        if isinstance(part, nn.Conv3d):
            for depth, height, width in _VOLUMES:
                yield 1, part.in_channels, depth, *(size or (height, width))
            return
        if isinstance(part, nn.RNNBase):
            if part.batch_first:  # else steps come first, and which axis is the picture's nobody can say
                yield from ((1, steps, part.input_size) for steps in ((size[0],) if size else _STEPS))
            return
