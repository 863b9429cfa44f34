"""Which axis of each tensor holds the channels.

Operators say it (a convolution's result has them on axis 1, a dense layer's on the last), and what only moves values
takes them along. An attention splits them into heads and their channels, and joins them again: in between there is no
one axis of channels, and the weights of attention (N, heads, tokens, tokens) have none at all. Attention in windows
puts the windows beside the pictures, on the axis of the batch: until they are put together again, no row is a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import prod

import onnx

from ...engine.graph.index import attributes
from ...engine.graph.operators import operator
from ..normalize.draft import Draft
from .seen import UnknownPlaces, axis_groups

Pieces = tuple[int, ...]


class ChannelAxes:
    """Visit the nodes in order; `axis` then knows every tensor that depends on the image.

    Args:
        draft: with shapes at the default image size.
        image: has its channels on axis 1.
        shape: a tensor's shape for one picture, None where it is not known.
    """

    def __init__(self, draft: Draft, image: str, shape: Callable[[str], Sequence[int] | None]) -> None:
        self._draft, self._shape = draft, shape
        self._pieces: dict[str, Pieces] = {image: (1,)}
        self._rows: dict[str, Fraction] = {}  # of the batch axis per picture, where not one

    def axis(self, tensor: str) -> int | None:
        """The one axis that holds the channels; None where there is none."""
        pieces = self._pieces.get(tensor, ())
        if tensor in self._rows and self._rank(tensor) > 2:  # windows, not pictures
            return None
        return pieces[0] if len(pieces) == 1 else None

    def exact(self, tensor: str) -> Sequence[int] | None:
        """A tensor's shape for one picture, the rows that a picture makes of the batch axis included; None if unknown.

        Attention as torch's exporters write it, (N x heads, tokens, channels), leaves the batch axis open.
        """
        found, rows = self._shape(tensor), self._rows.get(tensor, Fraction(1))
        if found is None or self._draft.shapes.get(tensor, ())[:1] != (None,) or rows.denominator != 1:
            return found
        return [int(rows), *found[1:]]

    def visit(self, node: onnx.NodeProto) -> None:
        """Takes in the next node; nodes come in order of execution."""
        if not any(name in self._pieces for name in node.input) or operator(node).family == "size":
            return  # what follows from sizes alone, as the mask of shifted windows, holds nothing of the picture
        for name in node.output:
            if name:
                self._count_rows(node, name)
                rank = self._rank(name)
                self._pieces[name] = (1,) if rank == 2 else self._of(node, name, rank) if rank > 2 else ()

    def _count_rows(self, node: onnx.NodeProto, result: str) -> None:
        """How many rows of the result are one picture's, by what a reshape moves between the batch and the rest."""
        reshapes = node.op_type in ("Reshape", "Flatten")  # LeViT's batch-norm takes every token as a row
        inputs = node.input[:1] if reshapes else node.input  # its shape is no picture
        source = max(inputs, key=lambda n: n in self._rows)
        rows = self._rows.get(source, Fraction(1))
        before, after = self._draft.shapes.get(source, ()), self._draft.shapes.get(result, ())
        if reshapes and before[:1] == after[:1] == (None,) and None not in (*before[1:], *after[1:]):
            rows *= Fraction(prod(s or 1 for s in before[1:]), prod(s or 1 for s in after[1:]) or 1)
        if rows != 1 and len(after) > 1:
            self._rows[result] = rows

    def _rank(self, name: str) -> int:
        return len(self._draft.shapes.get(name, ()))

    def _of(self, node: onnx.NodeProto, result: str, rank: int) -> Pieces:
        row = operator(node)
        source = next(n for n in node.input if n in self._pieces)
        pieces, before = self._pieces[source], self._rank(source)
        options = attributes(node)
        if node.op_type == "MatMul":
            return self._product(node, rank)
        if row.channels == "first":
            return (1,)
        if row.channels == "last":
            return (rank - 1,)
        if node.op_type == "Transpose":
            order = [int(p) for p in options.get("perm", range(rank - 1, -1, -1))]
            return tuple(sorted(order.index(p) for p in pieces))
        if node.op_type == "Squeeze" and (gone := self._axes(node, before)):
            return tuple(p - sum(a < p for a in gone) for p in pieces if p not in gone)
        if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            return self._regrouped(source, result)
        if node.op_type == "Gather":
            axis = int(options.get("axis", 0)) % max(before, 1)
            more = rank - before  # axes that the indices bring, less the one that goes
            kept = [p for p in pieces if p != axis or more >= 0]
            return tuple(p + more if p > axis else p for p in kept)
        if before == rank:
            return max((self._pieces[n] for n in node.input if self._rank(n) == rank and n in self._pieces), key=bool)
        if row.family == "reduction":
            return self._without(node, pieces, before)
        return tuple(p + rank - before for p in pieces) if row.elementwise or node.op_type == "Expand" else ()

    def _product(self, node: onnx.NodeProto, rank: int) -> Pieces:
        left, right = (self._pieces.get(n) for n in node.input[:2])
        if left is None:  # a constant mixes positions
            return right or ()
        if right is None:
            mixes = self._rank(node.input[0]) - 1 not in left and left
            return left if mixes else (rank - 1,)
        if self._rank(node.input[1]) - 1 in right:  # weights of attention times values
            return right
        return ()

    def _regrouped(self, source: str, result: str) -> Pieces:
        """Axes made of channels alone; else those that channels are part of."""
        before, after = self.exact(source), self.exact(result)
        pieces = self._pieces[source]
        if before is None or after is None:
            return self._guessed(source, result)
        if len(before) == 2 and len(after) == 4:
            return (1,)  # a vector becomes a feature map
        try:
            groups = axis_groups(before, after)
        except UnknownPlaces:  # the batch went into another axis, or came out of it
            return self._guessed(source, result)
        pure: list[int] = []
        mixed: list[int] = []
        for old, new in groups:
            sources = [a for a in old if before[a] > 1]
            targets = [a for a in new if after[a] > 1]
            if sources and set(sources) <= set(pieces):
                pure += targets
            elif set(sources) & set(pieces):
                mixed += targets
            elif not sources and set(old) & set(pieces):  # a single channel
                pure += new[:1]
        return tuple(pure or (mixed if len(mixed) == 1 else ()))

    def _guessed(self, source: str, result: str) -> Pieces:
        pieces, last = self._pieces[source], self._draft.shapes.get(source, ())[-1:]
        kept = last and last[0] is not None and last == self._draft.shapes.get(result, ())[-1:]
        if kept and pieces == (self._rank(source) - 1,):
            return (self._rank(result) - 1,)
        return self._pieces[source] if self._rank(source) == self._rank(result) else (1,)

    def _without(self, node: onnx.NodeProto, pieces: Pieces, rank: int) -> Pieces:
        gone = self._axes(node, rank) or list(range(rank))
        return tuple(p - sum(a < p for a in gone) for p in pieces if p not in gone)

    def _axes(self, node: onnx.NodeProto, rank: int) -> list[int]:
        """The axes that a node names, in its attribute or as a constant; none where it names none."""
        value = attributes(node).get("axes")
        if value is None and len(node.input) > 1:
            constant = self._draft.constant(node.input[1])
            value = None if constant is None else constant.ravel().tolist()
        return [int(a) % rank for a in value or ()]
