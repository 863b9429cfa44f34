"""float32 means float32 on a GPU too: torch and ONNX Runtime convolve in TF32 there unless they are told otherwise.

TF32 keeps ten bits of a factor: a map is then off by some 1e-3 of its maximum, where a processor's is off by 1e-6, and
what two machines say of one model no longer agrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def float32_exactly() -> Iterator[None]:
    """Convolutions, recurrences and matrix products of a GPU in float32; the caller's own choice comes back."""
    import torch

    if not torch.backends.cuda.is_built():  # no GPU to tell
        yield
        return
    cudnn: Any = torch.backends.cudnn
    places: tuple[Any, ...] = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, choice in zip(places, before, strict=True):
            place.fp32_precision = choice


def grad(
    outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], *arguments: Any, **options: Any
) -> tuple[Tensor, ...]:
    """`torch.autograd.grad`, in float32 exactly: a backward pass asks for the precision anew."""
    import torch

    with float32_exactly():
        found: tuple[Tensor, ...] = torch.autograd.grad(outputs, inputs, *arguments, **options)
    return found
