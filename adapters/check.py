"""The parity check: every tensor of the twin against ONNX Runtime's tensor of the same name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from ..engine.executors.session import first_line
from ..engine.graph.graph import Graph
from ..engine.graph.operators import operator
from ..errors import ParityError, RefusedInput, UnsupportedOperator
from .referee import culprit, last_bits, weights_that_are_nan
from .rounding import FLOAT8, HALF_STEP, NOISE, is_quantized, rounding_bound

if TYPE_CHECKING:
    from ..engine.executors.twin import Rule  # torch comes with it

_PIECE = 2**20  # values compared at once
_LONGEST_WALK = 100  # operators that only pass a value on
_OF_RANGE = 1e-3  # of an operator's range: smaller values are no more exact than those of this size
_NOT_IN_NUMPY = {*FLOAT8, TensorProto.INT4, TensorProto.UINT4}  # ONNX Runtime gives out their bits, or nothing
TOLERANCE = 1e-3  # float32 over hundreds of layers stays below 1e-4; a wrong import is far above


@dataclass(frozen=True)
class TensorDifference:
    """max |twin - session| of one tensor, relative to the session's largest absolute value."""

    tensor: str
    rel: float


def check_parity(
    graph: Graph, *, size: tuple[int, int] | None = None, batch: int = 2, seed: int = 0, tolerance: float = TOLERANCE
) -> list[TensorDifference]:
    """Runs both executors on one random image and compares every tensor.

    Args:
        graph: the normalized graph.
        size: (height, width) of the random image; default the graph's image size.
        batch: images at once.
        seed: of the random image.
        tolerance: largest relative difference that passes for any network; one that amplifies the last bit of its
            input may differ further, see `adapters.rounding`.

    Returns:
        One entry per compared tensor, in order of execution; what opaque operators compute is not compared.

    Raises:
        ParityError: the first wrong tensor, by name, with the operator that computes it and who is off by float64.
        RefusedInput: a weight holds NaN.
    """
    refuse_nan_weights(graph)
    x = random_inputs(graph, size or graph.image_size, 1 if graph.opaque else batch, seed)
    differences: list[TensorDifference] = []
    rounding = Rounding(graph, x)
    for difference in compare_executors(graph, x, optimize=False):
        differences.append(difference)
        if not difference.rel <= tolerance and not rounding.explains(difference, tolerance):
            node = graph.index.producer[difference.tensor]
            raise ParityError(
                f"{graph.name}: the twin and ONNX Runtime part at tensor '{difference.tensor[:80]}' ({node.op_type}): "
                f"relative difference {difference.rel:.2g}; "
                f"{culprit(graph, difference.tensor, x, relative_difference)}; please report the model"
            )
    return differences


def refuse_nan_weights(graph: Graph) -> None:
    """Raises RefusedInput where a weight holds what is no number, naming it."""
    names = weights_that_are_nan(graph)
    if names:
        values = graph.index.constant(names[0])
        count = 0 if values is None else int(np.isnan(values).sum())
        more = f", and {len(names) - 1} more weights" if len(names) > 1 else ""
        raise RefusedInput(
            f"{graph.name}: weight '{names[0][:80]}' holds NaN ({count} of its {0 if values is None else values.size} "
            f"values{more}); the training or the file went wrong there"
        )


def compare_executors(graph: Graph, x: dict[str, np.ndarray], *, optimize: bool = True) -> Iterable[TensorDifference]:
    """The relative difference of every tensor, in order of execution.

    Where an operator is opaque the twin goes on with what the session computed there, so that all else is compared.

    Args:
        graph: the model.
        x: model input by name; of one picture where the graph has opaque operators.
        optimize: whether ONNX Runtime rewrites the graph as it does when it is used, which takes time and memory.

    Raises:
        UnsupportedOperator: an opaque operator may run without end, or gives something else each time.
        RefusedInput: an executor cannot run the image (a fixed head refuses another size, say).
    """
    refuse_unbounded(graph)  # before the session: a Loop of 2^40 rounds, say, is never run
    feeds = {k: v for k, v in x.items() if k in {i.name for i in graph.model.graph.input}}
    expected = graph.session(_tensors(graph), device="cpu", optimize=optimize).run(feeds)
    held = {name: expected.pop(name) for name in graph.opaque_outputs}
    names = list(expected)
    feeds.update(held)
    found, failure = _twin_values(graph, names, feeds)
    compared = names[: len(found)]
    for name in compared:
        gap = relative_difference(found.pop(name), expected.pop(name), least_scale(graph, name))
        yield TensorDifference(name, gap)
    if failure is not None:
        where = names[len(compared)][:80]
        raise RefusedInput(
            f"{graph.name}: the twin cannot run this image: {first_line(failure)} (at tensor '{where}')"
        ) from failure


def refuse_unbounded(graph: Graph) -> None:
    """Raises UnsupportedOperator for what can neither be converted nor be left to the session."""
    for first, reason in graph.opaque.items():
        node = graph.index.producer[first]
        if operator(node).chance or loops(node):
            raise UnsupportedOperator(reason)


def loops(node: onnx.NodeProto) -> bool:
    """Whether a node repeats a subgraph, or holds one that does: nothing says how often."""
    inner = [g for a in node.attribute for g in (a.g, *a.graphs) if g.node]
    return bool(inner) and (node.op_type != "If" or any(loops(n) for g in inner for n in g.node))


_TORCH_ERRORS = (RuntimeError, IndexError, ValueError, TypeError)


def _twin_values(
    graph: Graph, names: list[str], feeds: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], Exception | None]:
    """The twin's tensors; where one cannot be computed, all before it (one of those may be wrong) and the error."""
    try:
        return _run_twin(graph, names, feeds), None
    except _TORCH_ERRORS as error:
        failure: Exception = error
    runs, fails = 0, len(names)  # how many tensors are known to run, and are known not to
    while fails - runs > 1:
        middle = (runs + fails) // 2
        try:
            _run_twin(graph, names[:middle], feeds)
            runs = middle
        except _TORCH_ERRORS as error:
            fails, failure = middle, error
    return (_run_twin(graph, names[:runs], feeds) if runs else {}), failure


def _run_twin(
    graph: Graph, names: list[str], feeds: dict[str, np.ndarray], rules: Mapping[str, Rule] | None = None
) -> dict[str, np.ndarray]:
    """Tensors of the twin; ``feeds`` holds what opaque operators gave, beside the image."""
    import torch

    twin = graph.twin(names, list(feeds), fold=False)
    twin.alone = twin.alone and not graph.opaque  # one picture, and what opaque operators gave for it
    with torch.no_grad():
        found = twin({k: torch.from_numpy(v) for k, v in feeds.items()}, rules)
    return {name: value.cpu().numpy() for name, value in found.items()}


class Rounding:
    """How far each tensor moves when only the last bits of the inputs change; measured when first asked for.

    Args:
        graph, x: as for `compare_executors`.
    """

    def __init__(self, graph: Graph, x: dict[str, np.ndarray]) -> None:
        self._graph, self._x = graph, x
        self._is_quantized = is_quantized(graph.model)
        self._moved: dict[str, float] = {}
        self._moved_by_last_bits: dict[str, float] = {}

    def explains(self, found: TensorDifference, tolerance: float) -> bool:
        """Whether the executors lie no further apart at the tensor than that lets expect."""
        if not self._moved:
            self._moved = self._measured()
        if found.rel <= rounding_bound(tolerance, self._moved[found.tensor], self._is_quantized):
            return True
        if not self._moved_by_last_bits:
            self._moved_by_last_bits = self._by_last_bits()
        return found.rel <= rounding_bound(tolerance, self._moved_by_last_bits.get(found.tensor, 0.0))

    def _by_last_bits(self) -> dict[str, float]:
        """How far tensors move with the last bits of bounded operators' ranges (see `adapters.referee`)."""
        rules, feeds = last_bits(self._graph), dict(self._x)
        if not rules:
            return {"": 0.0}
        if held := self._graph.opaque_outputs:
            feeds.update(self._graph.session(held, device="cpu").run(self._x))
        names = [name for name in _tensors(self._graph) if name not in held]
        try:
            plain, moved = (_run_twin(self._graph, names, feeds, by) for by in (None, rules))
        except RuntimeError:  # a twin that does not even run to its end: nothing is excused
            return {"": 0.0}
        return {name: relative_difference(moved.pop(name), plain.pop(name)) for name in names}

    def _measured(self) -> dict[str, float]:
        session = self._graph.session(_tensors(self._graph), device="cpu")
        feeds = {k: v for k, v in self._x.items() if k in session.input_names}
        noise = HALF_STEP if self._is_quantized else NOISE
        plain, moved = session.run(feeds), session.run(noisy(feeds, noise))
        return {name: relative_difference(moved.pop(name), plain.pop(name)) for name in list(plain)}


def noisy(feeds: Mapping[str, np.ndarray], noise: float) -> dict[str, np.ndarray]:
    """Inputs of which each value is changed by normal noise, relative to itself; the same noise every time."""
    rng = np.random.default_rng(0)
    return {k: (v * (1 + noise * rng.normal(size=v.shape))).astype(v.dtype) for k, v in feeds.items()}


def _tensors(graph: Graph) -> list[str]:
    """Every tensor that a node computes, in order of execution, but those of a type that NumPy lacks."""
    foreign = {info.name for info in graph.model.graph.value_info if info.type.tensor_type.elem_type in _NOT_IN_NUMPY}
    return [name for node in graph.model.graph.node for name in node.output if name and name not in foreign]


def least_scale(graph: Graph, tensor: str) -> float:
    """What the values of a tensor are measured by at least: a share of the range where a bounded operator makes them.

    A sigmoid map whose largest value is 1e-6 holds nothing but the last bits of a number between 0 and 1.
    """
    node = graph.index.producer.get(tensor)
    for _ in range(_LONGEST_WALK):
        if node is None:
            break
        row = operator(node)
        if row.range is not None:
            return _OF_RANGE * max(abs(end) for end in row.range)
        if not (row.neutral or row.preserves) or not node.input:
            return 0.0
        node = graph.index.producer.get(node.input[0])
    return 0.0


def relative_difference(found: np.ndarray, expected: np.ndarray, least: float = 0.0) -> float:
    """max |found - expected| / max |expected|; infinite where shapes or the places of NaN differ.

    Args:
        found: of one of them.
        expected: of the other, in the same shape; its largest value is the scale.
        least: the divisor is at least that, see `least_scale`.
    """
    if found.shape != expected.shape:
        return float("inf")
    gap = scale = 0.0
    flat, other = found.reshape(-1), expected.reshape(-1)
    for start in range(0, flat.size, _PIECE):  # in pieces: float64 copies of a whole tensor are many times its size
        a = flat[start : start + _PIECE].astype(np.float64)
        b = other[start : start + _PIECE].astype(np.float64)
        missing = np.isnan(b)
        if not np.array_equal(np.isnan(a), missing):
            return float("inf")
        same = (a == b) | missing
        gap = max(gap, float(np.abs(np.where(same, 0.0, a) - np.where(same, 0.0, b)).max()))
        finite = b[np.isfinite(b)]
        scale = max(scale, float(np.abs(finite).max()) if finite.size else 0.0)
    return gap / max(scale, least, 1e-6)


def random_inputs(graph: Graph, size: tuple[int, int], batch: int, seed: int) -> dict[str, np.ndarray]:
    """Model input for a picture of uniform noise, and small random values for every other input."""
    rng = np.random.default_rng(seed)
    image = rng.random((batch, graph.channels, *size), dtype=np.float32)
    feeds: dict[str, np.ndarray] = {}
    for position, spec in enumerate(graph.inputs):
        if position == 0 and len(spec.shape) in (0, 4):
            value: np.ndarray = graph.preprocessing.normalize(image)
        else:
            shape = tuple(batch if i == 0 else (s or 1) for i, s in enumerate(spec.shape))
            value = rng.random(shape, dtype=np.float32)
        feeds[spec.name] = value.astype(spec.dtype)
    return feeds
