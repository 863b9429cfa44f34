"""Are these the same network? If not, where do they part, why, and what corresponds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from ...errors import ConvscopeError, UsageError
from ..graph.graph import Graph
from .agreement import left_out, measure
from .align import Pair, align
from .cause import Cause, causes
from .difference import Bench, Pictures, relative_differences
from .ends import Ends, differs, ending, ends
from .operations import CommonForm, Operation
from .order import swapped_layers
from .permutation import Shapes, moved, recover
from .pictures import Paths, as_pictures, reference
from .repair import proven
from .result import (
    DIFFERENT,
    IDENTICAL,
    PERMUTED,
    PREPROCESSED,
    REORDERED,
    UNSEEN,
    Comparison,
    FirstDifference,
)
from .shuffle import flattened_channels, shuffled
from .silent import weight_difference
from .stem import Stem, stems

MAX_REL = 1e-4  # float32 through a hundred layers; a wrong setting is far above it


def compare(
    a: Graph,
    b: Graph,
    *,
    pictures: Pictures | Paths = reference,
    max_rel: float = MAX_REL,
    layers: str | Sequence[str] | None = None,
    similarity: bool = False,
    device: str = "cpu",
    progress: Callable[[str], Any] | None = None,
) -> Comparison:
    """Whether two models compute the same, where and why they part, and which units correspond.

    Args:
        a: from `convscope.load`, of any format and size.
        b: what it is compared with, of any format and size.
        pictures: what both look at: image files or folders, or a function that gives the same pictures for
            either model, (N, C, H, W) in [0, 1] for a size; default the 16 shipped ones.
        max_rel: largest difference, relative to a layer's largest value, that counts as equal.
        layers: of A by names and globs; the table and the first difference are confined to these.
        similarity: also SVCCA, PWCCA, Procrustes and the matrix of CKA between all layers.
        device: "cpu", "auto" or "cuda[:n]".
        progress: called with the name of each stage.

    Raises:
        UsageError: no layer of one stands for a layer of the other; an unknown layer or file.
        RefusedInput: none of the pictures can be read.

    Example:
        >>> convscope.compare(convscope.load("model.keras"), convscope.load("model.onnx")).verdict
        'identical'
    """
    if not (isinstance(max_rel, Real) and 0 <= max_rel < math.inf):
        raise UsageError(f"max_rel={max_rel!r} is not a number, 0 or more")
    told = progress or (lambda stage: None)
    told("aligning layers")
    pairs = whole = align(net_a := CommonForm(a), net_b := CommonForm(b))
    if layers is not None:
        wanted = {layer.tensor for layer in a.match(layers)}
        pairs = tuple(p for p in pairs if p.a.tensor in wanted or not wanted.isdisjoint(p.a.inner))
        if whole and not pairs:
            raise UsageError(
                f"none of the layers asked for has a counterpart in {b.name}, or they only move values; the layers in "
                f"pairs are {', '.join(p.a.name for p in whole[:6])}{', ...' * (len(whole) > 6)}"
            )
    if not pairs:
        raise UsageError(f"no layer of {a.name} has a counterpart in {b.name}: nothing can be compared")
    bench = Bench(net_a, net_b, as_pictures(pictures), device)
    x_a, x_b = bench.inputs()
    judge = _Judge(bench, pairs, max_rel, whole if layers is not None else None)
    told("running the pictures through both")
    own = judge.differences(x_a, x_b)
    verdict, first, orders = judge.decide(own, x_a, x_b, told)
    told("matching units")
    agreement, matrix, hindered = measure(bench, pairs, x_a, x_b, full=similarity)
    unseen = judge.unseen(first) if verdict in (IDENTICAL, UNSEEN) else ""
    return Comparison(
        verdict=verdict,
        max_rel=max_rel,
        first_difference=first,
        pairs=pairs,
        rel=tuple(own[: len(pairs)]),
        cause=tuple(tuple(judge.static(i)) for i in range(len(pairs))),
        agreement=agreement,
        cka_matrix=matrix,
        permutations={p.a.name: order for p in pairs if (order := moved(orders, p.b)) is not None},
        only_a=_unpaired(net_a, {id(p.a) for p in pairs}) if layers is None else (),
        only_b=_unpaired(net_b, {id(p.b) for p in pairs}) if layers is None else (),
        notes=(
            *(note for note in (bench.note, unseen, *judge.ends.notes) if note),
            *left_out(pairs, agreement, hindered, len(x_a), full=similarity),
        ),
        images=len(x_a),
    )


def _unpaired(network: CommonForm, paired: set[int]) -> tuple[str, ...]:
    return tuple(operation.name for operation in network.operations if id(operation) not in paired)


class _Judge:
    """The hypotheses in turn: identical, also in what is not seen, other preprocessing, permuted, different."""

    def __init__(self, bench: Bench, pairs: tuple[Pair, ...], max_rel: float, whole: tuple[Pair, ...] | None) -> None:
        """``whole``: all pairs, where ``pairs`` are confined to some layers."""
        self.bench, self.pairs, self.max_rel = bench, pairs, max_rel
        self.confined, self.whole = whole is not None, whole or pairs
        self.networks = bench.a, bench.b
        self.ends = Ends() if self.confined else ends(self.networks, pairs)
        self._static: dict[int, list[Cause]] = {}

    def differences(
        self, x_a: np.ndarray, x_b: np.ndarray, start: str | None = None, order: dict[str, np.ndarray] | None = None
    ) -> list[float]:
        """Relative differences of all pairs, then of the outputs; ``start`` is the tensor of B that ``x_b`` is."""
        bench = self.bench
        pairs = (*self.pairs, *self.ends.behind)
        left = bench.run(bench.a, x_a, [p.a.tensor for p in pairs])
        right = bench.run(bench.b, x_b, [p.b.tensor for p in pairs], start)
        return relative_differences(pairs, left, right, (bench.a, bench.b), order)

    def decide(
        self, own: list[float], x_a: np.ndarray, x_b: np.ndarray, told: Callable[[str], Any]
    ) -> tuple[str, FirstDifference | None, dict[str, np.ndarray]]:
        """(verdict, first difference, orders of B's channels)."""
        gone = None if self.confined else ending(self.networks, self.pairs)
        if gone is not None:
            return DIFFERENT, gone if self._equal(own) else self._first(own, x_a), {}
        if self._equal(own):
            if self.ends.exchanged is not None:
                return DIFFERENT, self.ends.exchanged, {}
            hidden = self._hidden(own)
            return IDENTICAL if hidden is None else UNSEEN, hidden, {}
        told("looking for the cause")
        prepared: Stem | None = None
        for stem in stems(self.bench, self.pairs, x_a, x_b):
            fed = self._fed(x_a, stem)
            if fed is not None and self._equal(fed):
                return PREPROCESSED, self._input(stem, own), {}
            if stem.causes and prepared is None and fed is not None and self._explains(stem, fed, x_a):
                prepared, own = stem, fed
        known = (*self.whole, *self.ends.behind)
        orders = recover(self.bench.a, self.bench.b, known, self._shapes(x_a, x_b)) or {}
        if orders and self._equal(self._fed_in_order(x_a, x_b, prepared, orders, own)):
            first = self._first(own, x_a)
            classes = self._class_order(orders, own)
            if classes is not None and first is not None:
                return REORDERED, replace(first, causes=(*first.causes, classes)), orders
            return PERMUTED, first, orders
        first = self._first(own, x_a)
        if prepared is not None and first is not None:
            first = FirstDifference(first.layer_a, first.layer_b, first.rel, (*first.causes, *prepared.causes))
        return DIFFERENT, first, {}

    def static(self, i: int) -> list[Cause]:
        """What differs in a pair's settings and weights, computed once."""
        if i not in self._static:
            skipped = {k: self._skipped(k) for k in (i, i + 1) if k < len(self.pairs)}
            swapped = swapped_layers(self.pairs, i, (self.bench.a, self.bench.b), skipped)
            pair = self.pairs[i]
            flattened = flattened_channels(self.bench.a, pair.a)
            self._static[i] = swapped or causes(pair, *skipped[i], flattened) or shuffled(self.bench, pair)
        return self._static[i]

    def unseen(self, named: FirstDifference | None) -> str:
        """One line on settings and weights that differ although all results agree, or ""; ``named`` is said already."""
        differing = [i for i in range(len(self.pairs)) if self.static(i)]
        if named is not None:
            differing = [i for i in differing if self.pairs[i].a.name != named.layer_a]
        if not differing:
            return ""
        first, more = differing[0], len(differing) - 1
        others = f"; {more} more differ" if more else ""
        where, cause = self.pairs[first].a.name, self.static(first)[0].text
        return f"within the bound on these pictures, but at {where}: {cause}{others}"

    def _hidden(self, rel: Sequence[float]) -> FirstDifference | None:
        """The first pair whose weights are further apart than the bound, where all results agree."""
        for i, pair in enumerate(self.pairs):
            apart = weight_difference(pair, (self.bench.a, self.bench.b))
            if apart is not None and not apart <= self.max_rel:
                found = self.static(i) or [Cause("weights", f"the weights differ, up to {apart:.2g} of the largest")]
                return FirstDifference(pair.a.name, pair.b.name, rel[i], tuple(found))
        return None

    def _class_order(self, orders: dict[str, np.ndarray], own: Sequence[float]) -> Cause | None:
        """What is said where the channels of an output are in another order."""
        behind = {p.b.tensor: rel for p, rel in zip(self.ends.behind, own[len(self.pairs) :], strict=True)}
        for output in self.bench.b.graph.outputs:
            if behind.get(output.name, np.inf) <= self.max_rel:  # put back into A's order behind the last layer
                continue
            last = self.bench.b.maker(output.name)
            order = moved(orders, last) if last is not None else None
            if order is not None:
                other = [i for i, j in enumerate(order) if i != j]
                listed = ", ".join(f"{i}->{order[i]}" for i in other[:6]) + (", ..." if len(other) > 6 else "")
                return Cause("class order", f"{len(other)} of {len(order)} classes are in another place ({listed})")
        return None

    def _equal(self, rel: Sequence[float]) -> bool:
        return all(r <= self.max_rel for r in rel)

    def _explains(self, stem: Stem, fed: Sequence[float], x_a: np.ndarray) -> bool:
        """Whether a way to feed B that does not mend everything says something true about the pictures.

        A hypothesis on the first convolution's weights must mend at least that layer: a batch-norm with another
        variance is no other range.
        """
        first = next(i for i, p in enumerate(self.pairs) if p.a.is_anchor)
        return (stem.seen or fed[first] <= self.max_rel) and not np.array_equal(stem.x[:, ::-1], x_a)

    def _fed(self, x_a: np.ndarray, stem: Stem) -> list[float] | None:
        try:
            return self.differences(x_a, stem.x, stem.tensor)
        except ConvscopeError:  # another way leads past the first convolution
            return None

    def _fed_in_order(
        self,
        x_a: np.ndarray,
        x_b: np.ndarray,
        stem: Stem | None,
        orders: dict[str, np.ndarray],
        own: Sequence[float],
    ) -> list[float]:
        """Relative differences with B's channels in A's order; of an output the lesser of that and of it as it is."""
        x, start = (x_b, None) if stem is None else (stem.x, stem.tensor)
        found, count = self.differences(x_a, x, start, orders), len(self.pairs)
        return [*found[:count], *map(min, found[count:], own[count:])]

    def _input(self, stem: Stem, own: Sequence[float]) -> FirstDifference:
        bench = self.bench
        first = next(p for p in self.pairs if p.a.is_anchor)
        names = bench.a.layer_name(first.a.inputs[0]), bench.b.layer_name(first.b.inputs[0])
        rel = next((r for r in own if r > self.max_rel), 0.0)
        found = [c if c.confirmed is not None else Cause(c.kind, c.text, True) for c in stem.causes]
        return FirstDifference(names[0], names[1], rel, tuple(found))

    def _first(self, rel: Sequence[float], x_a: np.ndarray) -> FirstDifference | None:
        """The first pair that parts, or an earlier one whose small difference has a cause and grew."""
        parted = next((i for i, r in enumerate(rel) if r > self.max_rel), None)
        if parted is None:
            return None
        if parted >= len(self.pairs):
            end = self.ends.behind[parted - len(self.pairs)]
            return FirstDifference(end.a.name, end.b.name, rel[parted], (differs(end),))
        blamed = parted
        if not self.static(parted):
            blamed = next((i for i in range(parted) if self.static(i) and rel[i] > 0), parted)
        pair = self.pairs[blamed]
        found = proven(self.bench, pair, self.static(blamed), x_a[:1], self.max_rel)
        return FirstDifference(pair.a.name, pair.b.name, rel[blamed], tuple(found))

    def _skipped(self, i: int) -> tuple[list[Operation], list[Operation]]:
        """Steps without a partner that lead into the pair."""
        paired = {id(s) for p in self.pairs for s in (p.a, p.b)}
        found: tuple[list[Operation], list[Operation]] = ([], [])
        if self.confined:
            return found
        for k, (network, operation) in enumerate(((self.bench.a, self.pairs[i].a), (self.bench.b, self.pairs[i].b))):
            at = network.operations.index(operation) - 1
            while at >= 0 and id(network.operations[at]) not in paired:
                found[k].insert(0, network.operations[at])
                at -= 1
        return found

    def _shapes(self, x_a: np.ndarray, x_b: np.ndarray) -> tuple[Shapes, Shapes]:
        found: tuple[Shapes, Shapes] = ({}, {})
        for k, (network, x) in enumerate(((self.bench.a, x_a), (self.bench.b, x_b))):
            wanted = [
                name
                for node in network.graph.model.graph.node
                if node.op_type in ("Reshape", "Flatten", "Squeeze")
                for name in (node.input[0], node.output[0])
                if name not in network.weights
            ]
            if wanted:
                values = next(self.bench.run(network, x[:1], wanted))
                found[k].update({name: value.shape for name, value in values.items()})
        return found
