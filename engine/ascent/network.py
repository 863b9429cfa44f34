"""The network as ascent uses it: cut at the tap, frozen, channels last, with a ReLU that can wake the dead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import RefusedInput, UnsupportedOperator, UsageError
from ..executors.devices import fast_bfloat16, torch_device
from ..executors.memory import out_of_memory
from ..executors.recording import Recorder
from ..executors.twin import Rule, Twin
from ..executors.winograd import Winograd
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..graph.operators import names, operator
from ..graph.slopes import stopper
from .recipe.algebra import Place

# Multiply-adds per operator. EfficientNet-Lite0 has 2.4 million at 224 pixels, where a batch of 2 took 0.95 of the time
# per picture, 0.6 million at 112 (0.85) and 0.2 million at 64 (0.7).
_BUSY = 0.5e6
# Weights that stay in the caches, and multiply-adds that reading one of the others costs as much as. VGG16's fifteen
# million, in bfloat16, took 3.6 times as long per picture alone as in a batch of 16 at 48 pixels (50 multiply-adds for
# each), 1.7 times at 128 (400) and 1.25 times at 224 (1,200).
_CACHED, _READING = 5e6, 1000


def _advice(graph: Graph) -> str:
    """What can be done where no gradient leads from a layer to the picture."""
    image = [graph.inputs[0].name]
    trained = [layer for layer in graph.layers if layer.parameters]
    if any(stopper(graph.index, image, [layer.tensor]) is None for layer in trained):
        return "gradient ascent needs one on all of the way: choose a layer below this operator"
    return (
        "no layer with weights has a gradient to the input, as where a network reads tokens or bytes, so there is "
        "nothing to ascend; activations, top, stats, weights and explain with rise or occlusion run forward and work"
    )


class Network:
    """Pictures in, tapped tensors out; differentiable.

    Args:
        graph: the model.
        tensors: names of the tensors to tap; the network is cut behind the last of them.
        device: "auto", "cpu" or "cuda[:n]".
        reduced: where a gradient is asked for and the device has instructions for it, compute in bfloat16.
    """

    def __init__(self, graph: Graph, tensors: Sequence[str], device: str = "auto", reduced: bool = False) -> None:
        self.graph, self.tensors = graph, tuple(dict.fromkeys(tensors))
        self.device = torch_device(device)
        try:
            graph.require_gradient(self.tensors)
            self.twin: Twin = graph.twin(self.tensors, device=str(self.device), channels_last=True)
        except UnsupportedOperator as error:
            raise UnsupportedOperator(f"{error}; {_advice(graph)}") from error
        self.channels = graph.channels
        self.reduced = reduced and fast_bfloat16(self.device)
        self._filtering = Winograd().rules() if self.device.type == "cpu" else {}
        self._run = Recorder(self._pass) if self.device.type == "cuda" else self._pass

    def __call__(self, pictures: Tensor, redirect: bool = False) -> dict[str, Tensor]:
        """The tapped tensors for pictures (N, C, H, W) in [0, 1], the axis that counts pictures first.

        Args:
            pictures: may leave [0, 1] while pixels are optimized.
            redirect: let gradients through gates that would hold all of a picture's gradient back.

        Raises:
            UsageError: the network does not take pictures of that size.
        """
        x = self.graph.preprocessing.normalize(pictures).contiguous(memory_format=torch.channels_last)
        try:
            values = self._pass(x, redirect=True) if redirect else self._run(x)
            return dict(zip(self.tensors, values, strict=True))
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            if self.reduced and "BFloat16" in str(error):  # an operator without such a kernel
                self.reduced = False
                return self(pictures, redirect)
            height, width = pictures.shape[-2:]
            raise UsageError(
                f"{self.graph.name} cannot compute '{self.tensors[-1]}' from a {height}x{width} picture "
                f"({str(error).splitlines()[0][:160]}); try another size= (the model's own is {self.own_size})"
            ) from error

    def _pass(self, x: Tensor, redirect: bool = False) -> tuple[Tensor, ...]:
        """The tapped tensors, in their order, for model input."""
        with self._precision():
            tapped = self.twin(x, self._rules(len(x), redirect))
        axes = self.graph.batch_axes
        return tuple(tapped[name].float().movedim(axes.get(name, 0), 0) for name in self.tensors)

    def is_busy_with(self, size: tuple[int, int], views: int = 1) -> bool:
        """Whether a processor gains nothing from a second picture in the batch; False on a GPU, which always does.

        Args:
            size: (height, width) of the pictures.
            views: of each picture, as large as the picture.
        """
        height, width = self.graph.image_size
        share = views * size[0] * size[1] / max(height * width, 1)
        work, calls = self._work
        return self.device.type == "cpu" and work * share >= calls

    @cached_property
    def _work(self) -> tuple[float, float]:
        """Multiply-adds for a picture of the model's own size, and those that the calls themselves cost as much as."""
        nodes = self.graph.index.between([i.name for i in self.graph.inputs], self.tensors)
        made = {name for node in nodes for name in node.output}
        layers = [layer for layer in self.graph.layers if layer.tensor in made]
        work, weights = sum(layer.macs for layer in layers), sum(layer.parameters for layer in layers)
        return work, max(_BUSY * len(nodes), _READING * (weights - _CACHED))

    @property
    def own_size(self) -> str:
        """The model's own input size, in words."""
        height, width = self.graph.image_size
        return f"{height}x{width}"

    def origin(self) -> np.ndarray:
        """The picture value, 0..255, of each channel that becomes a model input of zero."""
        zero = np.zeros((1, self.channels, 1, 1))
        return self.graph.preprocessing.denormalize(zero).reshape(-1) * 255

    def _rules(self, batch: int, redirect: bool) -> dict[str, Rule]:
        """How operators are computed here; minimal filtering is for the many float32 passes that want a gradient."""
        filtering = {} if self.reduced or not torch.is_grad_enabled() else self._filtering
        alone = _alone(batch) if self.device.type == "cpu" else {}
        narrow = _NARROW if self.reduced and self.device.type == "cpu" else {}
        return {**alone, **filtering, **narrow, **(_REDIRECTED if redirect else {})}

    def _precision(self) -> AbstractContextManager[Any]:
        """bfloat16 for gradients; what is measured without one is measured in float32.

        Without autocast's cache: frozen weights never enter it, and a recording on a GPU forbids it.
        """
        reduced = self.reduced and torch.is_grad_enabled()
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False) if reduced else nullcontext()


def before_activation(graph: Graph, layer: Layer) -> str | None:
    """The tensor that the layer's gate (ReLU, Clip) reads, or None where no gate makes the layer."""
    node = graph.index.producer.get(layer.tensor)
    return node.input[0] if node is not None and operator(node).gate else None


def is_signed(graph: Graph, layer: Layer) -> bool:
    """Whether the layer's maps are values before an activation, whose mean says little (`objectives.excitation`)."""
    node = graph.index.producer.get(layer.tensor)
    return layer.is_spatial and node is not None and operator(node).signed is True


def feeds_gate(graph: Graph, layer: Layer) -> bool:
    """Whether gates (ReLU, Clip) are all that reads the layer: what they hold back has no effect."""
    readers = graph.index.readers.get(layer.tensor, ())
    return bool(readers) and all(operator(reader).gate for reader in readers)


def unit_layer(graph: Graph, layer: Place) -> Layer:
    """The layer, if it has units.

    Raises:
        UsageError: no such layer, or it has no channels.
    """
    found = layer if isinstance(layer, Layer) else graph.layer(layer)
    if found.channels is None:
        shape = "x".join("?" if s is None else str(s) for s in found.shape)
        raise UsageError(
            f"layer '{found.name}' of {graph.name} has no channels ({found.op}, shape {shape}), so no units "
            "to look at; choose a convolution or a dense layer: convscope info"
        )
    return found


def check_finite(values: Tensor, graph: Graph, place: str) -> None:
    """Refuses a model whose values are not numbers.

    Raises:
        RefusedInput: NaN or infinity at ``place``.
    """
    if not bool(torch.isfinite(values).all()):
        raise RefusedInput(
            f"{graph.name} gives NaN or infinity at {place} for an ordinary picture; its weights are broken or its "
            "preprocessing is wrong: convscope verify finds the first such tensor"
        )


class _Redirect(torch.autograd.Function):
    """A gate whose gradient, for a picture that would get none at all, comes from the units that may still move.

    Lucid's redirected ReLU (Olah et al. 2017, lucid misc/redirected_relu_grad.py): if the whole gradient of a
    picture would be zero, it passes wherever it does not push a value further out of the gate's range.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gated: Tensor) -> Tensor:
        ctx.save_for_backward(x < gated, x > gated)
        return gated.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0]
        below, above = ctx.saved_tensors
        plain = gradient.masked_fill(below | above, 0.0)
        alive = (plain != 0).flatten(1).any(1)
        if bool(alive.all()):
            return plain, None
        helpful = gradient.masked_fill((below & (gradient < 0)) | (above & (gradient > 0)), 0.0)
        return torch.where(alive.reshape(-1, *([1] * (gradient.dim() - 1))), plain, helpful), None


def _redirected(module: torch.nn.Module, x: Tensor, *rest: Tensor) -> Tensor:
    with torch.no_grad():
        gated = module(x, *rest)
    return _Redirect.apply(x, gated)


# On the CPU the bits of these depend on an element's place in the batch (see `parameterizations.picturewise`), or, for
# matrix products, on the number of rows.
_ROUNDED_BY_PLACE = names(lambda row: row.exact is not True and row.batch == "separate")
_BY_ROWS = ("Softmax", "LogSoftmax", "Gemm", "MatMul")


def _alone(batch: int) -> dict[str, Rule]:
    """Rules that compute these operators picture by picture."""

    def split(module: torch.nn.Module, *arguments: Tensor | None) -> Tensor:
        rows = [
            a.split(1) if a is not None and a.dim() > (i and 2) and a.shape[0] == batch else [a] * batch
            for i, a in enumerate(arguments)
        ]
        if not isinstance(rows[0], tuple) or batch == 1:
            return module(*arguments)
        return torch.cat([module(*row) for row in zip(*rows, strict=True)])

    return dict.fromkeys((*_ROUNDED_BY_PLACE, *_BY_ROWS), split)


def _in_full_where_narrow(module: torch.nn.Module, x: Tensor, *rest: Tensor | None) -> Tensor:
    """A convolution, in float32 where its result is one column wide.

    oneDNN's bfloat16 kernels read beside such a map where the stride is more than one (torch 2.13 on a Xeon: a
    convolution of 40 x 2 by 3 x 3 with stride 2 gave values of 1e37).
    """
    if x.dim() != 4 or _columns(module, x) > 1:
        return module(x, *rest)
    with torch.autocast(x.device.type, enabled=False):
        return module(x.float(), *(None if part is None else part.float() for part in rest))


def _columns(module: Any, x: Tensor) -> int:
    """Columns of a convolution's result (N, C, h, w) where a stride is more than one; 2 where none is."""
    window = getattr(module, "window", None)
    if window is None:  # its weights are computed
        return int(x.shape[3])
    if max(window.strides) == 1:
        return 2
    begins, ends = window.pads(x.shape[2:])
    reach = window.dilations[1] * (module.weight.shape[3] - 1) + 1
    return int((x.shape[3] + begins[1] + ends[1] - reach) // window.strides[1] + 1)


_NARROW: Mapping[str, Rule] = {"Conv": _in_full_where_narrow}
_REDIRECTED: Mapping[str, Rule] = dict.fromkeys(names(lambda row: row.gate), _redirected)
