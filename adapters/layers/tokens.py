"""Which axis of each tensor holds tokens, and where the picture's own grid lies among them.

A feature map whose rows and columns become one axis makes tokens of its positions; class and register tokens are joined
to them, and what only moves, splits or picks values takes them along. In attention the result has the queries' tokens.
Of a signal or a volume that is seen as a picture (`normalize.inputs`) the places of its convolutions are a grid too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import onnx

from ...engine.graph.index import attributes
from ...engine.graph.layers import Tokens
from ...engine.graph.operators import operator
from ..normalize.draft import Draft, node_axes
from ..normalize.inputs import depth_axis
from .channels import ChannelAxes
from .seen import UnknownPlaces, axis_groups

_LAID = frozenset(
    {"Conv", "ConvTranspose", "QLinearConv", "MaxPool", "AveragePool", "LpPool", "Resize", "Upsample", "Pad"}
)
_KEEP = frozenset({"LayerNormalization", "RMSNormalization", "BatchNormalization", "InstanceNormalization", "Softmax"})


@dataclass(frozen=True)
class _Found:
    axis: int
    tokens: Tokens


class TokenTracker:
    """Visit the nodes in order, each after ``axes`` has; `tokens` then knows every tensor that depends on the image.

    Args:
        draft: with shapes at the default image size.
        axes: of the channels.
    """

    def __init__(self, draft: Draft, axes: ChannelAxes) -> None:
        self._draft, self._axes = draft, axes
        self._found: dict[str, _Found] = {}

    def tokens(self, tensor: str) -> Tokens | None:
        """Of a tensor of tokens and channels, (N, T, C) or (N, C, T), or of a volume's maps; None for all others."""
        found, channels = self._found.get(tensor), self._axes.axis(tensor)
        if found is not None and self._rank(tensor) == 5:
            shape, grid = self._draft.shapes[tensor], found.tokens
            fits = list(shape[2:]) == [grid.slices, grid.rows // grid.slices, grid.columns]
            return grid if channels == 1 and fits else None
        if found is None or self._rank(tensor) != 3 or channels not in (1, 2) or found.axis != 3 - channels:
            return None
        length = self._draft.shapes[tensor][found.axis]
        return found.tokens if length == found.tokens.count else None

    def visit(self, node: onnx.NodeProto) -> None:
        """Takes in the next node; nodes come in order of execution."""
        for name in node.output:
            if name and (found := self._of(node, name)) is not None:
                self._found[name] = found

    def _rank(self, name: str) -> int:
        return len(self._draft.shapes.get(name, ()))

    def _laid(self, node: onnx.NodeProto, result: str) -> _Found | None:
        """The places of a map (N, C, T) of a signal, or (N, C, d, h, w) of a volume, as the picture has them."""
        own, picture = self._draft.own_input, self._draft.shapes.get(self._draft.inputs[0].name, ())
        shape = self._draft.shapes.get(result, ())
        if own is None or node.op_type not in _LAID or None in shape[2:]:
            return None
        count = prod(side or 1 for side in shape[2:])
        if len(shape) == 3 and len(own[1]) < 4:
            is_row = len(picture) == 4 and picture[2] == 1  # else a spectrum, whose rows are moments
            return _Found(2, Tokens(1, count, 0, count) if is_row else Tokens(count, 1, 0, count))
        if len(shape) == 5 and len(own[1]) == 5:
            slices, height, width = (side or 1 for side in shape[2:])
            return _Found(2, Tokens(slices * height, width, 0, count, slices, own[1][depth_axis(own[1])] or 1))
        return None

    def _of(self, node: onnx.NodeProto, result: str) -> _Found | None:
        if (laid := self._laid(node, result)) is not None:
            return laid
        sources = [name for name in node.input if name in self._found]
        sources = [name for name in sources if self._found[name].tokens.count > 1] or sources  # a gate has one place
        if node.op_type in ("Reshape", "Flatten") and not sources:
            return self._first(node.input[0], result)
        if not sources:
            return None
        found, rank = self._found[sources[0]], self._rank(result)
        before, options = self._rank(sources[0]), attributes(node)
        if node.op_type == "MatMul":
            return self._product(node, rank)
        if node.op_type == "Concat":
            return self._joined(node, found, int(options.get("axis", 0)) % max(rank, 1))
        if node.op_type == "Transpose":
            order = [int(p) for p in options.get("perm", range(rank - 1, -1, -1))]
            return replace(found, axis=order.index(found.axis))
        if node.op_type in ("Squeeze", "Unsqueeze", "Reshape", "Flatten"):
            return self._moved(sources[0], result, found)
        if node.op_type in ("Gather", "Slice"):
            return self._picked(node, found, before, rank)
        if node.op_type == "Split":
            return None if int(options.get("axis", 0)) % before == found.axis else found
        kept = operator(node).elementwise or node.op_type in _KEEP
        same = all(self._found[n] == found for n in sources if self._rank(n) == rank)
        return found if kept and before == rank and same else None

    def _first(self, source: str, result: str) -> _Found | None:
        """Tokens of a feature map (N, C, h, w) or (N, h, w, C) whose two axes of positions become one."""
        channels = self._axes.axis(source)
        before, after = self._axes.exact(source), self._axes.exact(result)
        if channels is None or before is None or after is None or len(before) != 4 or len(after) != 3:
            return None
        places = [a for a in (1, 2, 3) if a != channels]
        if min(before[a] for a in places) < 2:
            return None
        for old, new in self._groups(before, after):
            if old == places and len(new) == 1:
                return (
                    None
                    if self._axes.axis(result) is None
                    else _Found(
                        new[0], Tokens(before[places[0]], before[places[1]], 0, prod(before[a] for a in places))
                    )
                )
        return None

    def _groups(self, before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
        try:
            return axis_groups(before, after)
        except UnknownPlaces:
            return []

    def _product(self, node: onnx.NodeProto, rank: int) -> _Found | None:
        """A dense layer on each token; of two tensors of tokens what the left one's are."""
        left, right = (self._found.get(name) for name in node.input[:2])
        if left is not None and left.axis < self._rank(node.input[0]) - 1 and self._rank(node.input[0]) == rank:
            return left
        return None if left is not None or right is None or right.axis != rank - 1 else right

    def _joined(self, node: onnx.NodeProto, found: _Found, axis: int) -> _Found | None:
        """The tokens with those that are joined to them, before and behind."""
        grids = [name for name in node.input if name in self._found]
        if axis != found.axis:
            return found if all(self._found.get(name) == found for name in node.input) else None
        lengths = [self._length(name, axis) for name in node.input]
        if len(grids) > 1 or None in lengths:
            return None
        known = [length or 0 for length in lengths]
        prefix = found.tokens.prefix + sum(known[: list(node.input).index(grids[0])])
        return _Found(axis, replace(found.tokens, prefix=prefix, count=sum(known)))

    def _length(self, name: str, axis: int) -> int | None:
        shape = self._draft.shapes.get(name, ())
        if axis < len(shape):
            return shape[axis]
        constant = self._draft.constant(name)
        return constant.shape[axis] if constant is not None and axis < constant.ndim else None

    def _moved(self, source: str, result: str, found: _Found) -> _Found | None:
        """Where the axis of tokens is after a change of shape that leaves it whole."""
        before, after = self._draft.shapes.get(source, ()), self._draft.shapes.get(result, ())
        count = found.tokens.count
        exact = self._axes.exact(source), self._axes.exact(result)
        if exact[0] is not None and exact[1] is not None:
            for old, new in self._groups(exact[0], exact[1]):
                if [a for a in old if exact[0][a] > 1] == [found.axis]:
                    kept = [a for a in new if exact[1][a] > 1]
                    return replace(found, axis=kept[0]) if len(kept) == 1 else None
            return None
        places = [axis for axis, length in enumerate(after) if length == count]
        alone = sum(length == count for length in before) == 1
        return replace(found, axis=places[0]) if len(places) == 1 and alone else None

    def _picked(self, node: onnx.NodeProto, found: _Found, before: int, rank: int) -> _Found | None:
        """Other axes lose positions; of the tokens the whole grid stays, or there are none any more."""
        if node.op_type == "Gather":
            axis = int(attributes(node).get("axis", 0)) % before
            if axis == found.axis or rank < before - 1:
                return None
            return replace(found, axis=found.axis + (rank - before if axis < found.axis else 0))
        try:
            starts, ends, axes, steps = (
                node_axes(self._draft, node, place, name)
                for place, name in enumerate(("starts", "ends", "axes", "steps"), 1)
            )
        except KeyError:
            return None
        if starts is None or ends is None:
            return None
        axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
        tokens = found.tokens
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            if int(axis) % before == found.axis:
                first, last, _ = slice(start, end).indices(tokens.count)
                if step != 1 or first > tokens.prefix or last < tokens.end:
                    return None
                tokens = replace(tokens, prefix=tokens.prefix - first, count=last - first)
        return replace(found, tokens=tokens)
