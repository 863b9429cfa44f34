"""The algebra of objectives, and how layers that are only named, and Python callables, become objectives.

Objectives add, subtract, negate and scale. A layer is named as `Graph.layer` takes it, by a submodule of the loaded
network too; a name is looked up when the objective meets its graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ....errors import ConvscopeError, UsageError
from ...graph.graph import Graph
from ...graph.layers import Layer
from ...whole import is_whole

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Tensors = Mapping[str, Tensor]
Place = Layer | str | int | torch.nn.Module  # what names a layer


@dataclass(frozen=True, eq=False)
class Objective:
    """A function of tapped tensors.

    Attributes:
        tensors: names of the tensors that it reads; empty while its layers are only named.
        function: the tensors by name -> (N,) values to maximize.
        label: in words.
        named: where layers are named and not yet looked up: the graph -> the objective on it.
    """

    tensors: tuple[str, ...]
    function: Callable[[Tensors], Tensor]
    label: str
    named: Callable[[Graph], Objective] | None = None

    def on(self, graph: Graph) -> Objective:
        """The objective with its layers looked up in ``graph``.

        Raises:
            UsageError: a layer that the graph does not have.
        """
        return self if self.named is None else self.named(graph)

    def __call__(self, values: Tensors) -> Tensor:
        """(N,) values to maximize."""
        return self.function(values)

    def __add__(self, other: Objective | float) -> Objective:
        return _joined(self, _term(other), 1)

    def __radd__(self, other: float) -> Objective:
        return self if _is_number(other) and other == 0 else _joined(_term(other), self, 1)  # sum() begins with 0

    def __sub__(self, other: Objective | float) -> Objective:
        return _joined(self, _term(other), -1)

    def __rsub__(self, other: float) -> Objective:
        return _joined(_term(other), self, -1)

    def __mul__(self, weight: float) -> Objective:
        return _scaled(self, _number(weight))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        if not _number(divisor):
            raise UsageError(f"the objective {self.label} is divided by zero")
        return _scaled(self, 1 / divisor)

    def __rtruediv__(self, other: object) -> Objective:
        raise UsageError(f"nothing can be divided by the objective {self.label}; scale it by a number")

    def __neg__(self) -> Objective:
        return _scaled(self, -1.0)


class Taps(Mapping[str, Tensor]):
    """The tapped tensors as a Python callable sees them: layer -> (N, C, ...), channels first.

    Args:
        graph: where layers are looked up.
        read: the value of a tensor by its name.
    """

    def __init__(self, graph: Graph, read: Callable[[str], Tensor]) -> None:
        self._graph, self._read = graph, read

    def __getitem__(self, key: Place) -> Tensor:
        found = place(self._graph, key)
        return found.maps(self._read(found.tensor))

    def __iter__(self) -> Iterator[str]:
        return iter(layer.name for layer in self._graph.layers)

    def __len__(self) -> int:
        return len(self._graph.layers)


def objective(graph: Graph, wanted: Objective | Callable[[Taps], Tensor]) -> Objective:
    """What is to be maximized, ready for ``graph``.

    Args:
        graph: the network.
        wanted: an objective of this module, or a Python callable of the tapped tensors (`Taps`) that gives a value
            for each picture: ``lambda taps: taps["conv4"][:, 3].mean((1, 2))``. One value for the whole batch is
            taken for its mean.

    Raises:
        UsageError: neither, or it fails, reads no layer, or gives something else than a number per picture.
    """
    if isinstance(wanted, Objective):
        found = wanted.on(graph)
    elif callable(wanted) and not isinstance(wanted, type):
        found = _from_callable(graph, wanted)
    else:
        raise UsageError(
            f"{_shortened(wanted)} is no objective; make one with convscope.objectives, or give a function of the taps"
        )
    if not found.tensors:
        raise UsageError(f"the objective {found.label} reads no layer: it is the same for every picture")
    return found


def is_objective(value: object) -> TypeIs[Objective | Callable[[Taps], Tensor]]:
    """Whether ``value`` says by itself what is maximized: an `Objective`, or a function of the taps."""
    return isinstance(value, Objective) or (callable(value) and not isinstance(value, torch.nn.Module | Layer))


def place(graph: Graph, key: Place) -> Layer:
    """The layer that ``key`` names in ``graph``.

    Raises:
        UsageError: none.
    """
    return key if isinstance(key, Layer) else graph.layer(key)


def _from_callable(graph: Graph, function: Callable[[Taps], Tensor]) -> Objective:
    """One dry run on a gray picture tells which tensors it reads, and whether its value can be maximized."""
    read: dict[str, Tensor] = {}
    gray = torch.from_numpy(graph.preprocessing.normalize(np.full((2, graph.channels, *graph.image_size), 0.5)))

    def probe(tensor: str) -> Tensor:
        if tensor not in read:
            with torch.no_grad():
                read[tensor] = graph.twin([tensor])(gray.float())[tensor]
        return read[tensor]

    label = getattr(function, "__name__", type(function).__name__)
    made = Objective((), lambda values: _called(function, Taps(graph, values.__getitem__), label), label)
    _called(function, Taps(graph, probe), label)
    return Objective(tuple(read), made.function, label)


def _called(function: Callable[[Taps], Tensor], taps: Taps, label: str) -> Tensor:
    seen: list[int] = []

    def counted(tensor: str) -> Tensor:
        value = taps._read(tensor)
        seen.append(len(value))
        return value

    try:
        value = function(Taps(taps._graph, counted))
    except ConvscopeError:
        raise
    except Exception as error:
        raise UsageError(f"the objective {label} failed: {type(error).__name__}: {error}") from error
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() > 1:
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UsageError(f"the objective {label} gives {what}; it must give one number per picture, shape (N,)")
    if seen and value.dim() == 1 and len(value) != seen[0]:
        raise UsageError(f"the objective {label} gives {len(value)} numbers for {seen[0]} pictures; give one for each")
    return value.expand(seen[0]) if value.dim() == 0 and seen else value


def _term(value: object) -> Objective:
    if isinstance(value, Objective):
        return value
    number = _number(value)
    return Objective((), lambda _: torch.tensor(number), f"{number:g}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _number(value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        what = "another objective" if isinstance(value, Objective) else _shortened(value)
        raise UsageError(f"an objective is scaled by, and added to, finite numbers; not by {what}")
    return float(value)


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _joined(one: Objective, other: Objective, sign: int) -> Objective:
    label = f"{one.label} {'+' if sign > 0 else '-'} {other.label}"
    if one.named or other.named:
        return named(lambda graph: _joined(one.on(graph), other.on(graph), sign), label)
    tensors = tuple(dict.fromkeys((*one.tensors, *other.tensors)))
    return Objective(tensors, lambda v: one(v) + sign * other(v), label)


def _scaled(one: Objective, weight: float) -> Objective:
    label = f"-({one.label})" if weight == -1 else f"{weight:g} * ({one.label})"
    if one.named:
        return named(lambda graph: _scaled(one.on(graph), weight), label)
    return Objective(one.tensors, lambda v: one(v) * weight, label)


def named(make: Callable[[Graph], Objective], label: str) -> Objective:
    """An objective whose layers are only named: ``make`` gives it its graph, and until then it cannot be computed."""

    def early(_: Tensors) -> Tensor:
        raise UsageError(f"the layers of the objective {label} are only named; look them up with .on(graph)")

    return Objective((), early, label, make)


def on_layer(where: Place, label: str, make: Callable[[Layer], Objective]) -> Objective:
    """``make`` of the layer at once where it is known, else as soon as the graph is."""
    if isinstance(where, Layer):
        return make(where)
    if is_whole(where):
        where = int(where)
    if isinstance(where, (str, int, torch.nn.Module)) and not isinstance(where, bool):
        return named(lambda graph: make(place(graph, where)), label)
    raise UsageError(f"{_shortened(where)} names no layer; give a name, an index, a Layer or a submodule")


def place_name(where: Place) -> str:
    """What a place is called in a label: the name of a layer, the class of a module, or what was written."""
    if isinstance(where, Layer):
        return where.name
    return type(where).__name__ if isinstance(where, torch.nn.Module) else str(where)
