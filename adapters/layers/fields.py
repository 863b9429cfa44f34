"""Receptive fields: which pixels each position of each tensor sees, exactly, operator by operator.

Two descriptions are carried along. The line is the chain rule of sizes, strides and offsets (Araujo et al. 2019,
Distill): for a window of k (dilated: d (k - 1) + 1) with stride s and padding p on an input of field (r, j, o):

    r' = r + (k - 1) d |j|        j' = j s        o' = o - p j

The intervals (`adapters.layers.seen`) say it for every position by itself, also where no line does: resizing, flips,
rolls, slices, swapped and flattened axes. Every operator that moves positions has a rule here, or what follows is
unknown: the whole picture, and `FieldTracker.unknown` names the operator.

Where paths meet, a field is the smallest box that holds them all. What a path takes from the whole picture at once is
left out there: squeeze and excitation, attention over all positions, instance and group normalization. It would make
every later field the whole picture.
"""

from __future__ import annotations

import onnx

from ...engine.graph.layers import ReceptiveField, Tokens
from ...engine.graph.operators import MICROSOFT, Operator, names, operator
from ..normalize.draft import Draft
from .call import Call, Rule, kept, shape_of
from .mix_rules import (
    accumulated,
    arg,
    dense,
    dynamic_quantize,
    einsum,
    global_pool,
    normalized,
    product,
    reduced,
    softmax,
)
from .move_rules import blocks, in_another_shape, joined, picked, repeated, sliced, split, tiled, turned
from .seen import Seen, UnknownPlaces
from .window_rules import center_crop_padded, padded, resized, transposed, window

_MOST_HELD = 2**26  # interval ends in all; a network of 1,000 layers has about a million
_MOST_TABLED = 2**22  # places of all maps together whose intervals are told one by one; a second for a million
# A node whose settings contradict its shapes is refused by the executors, in their words.
_CONTRADICTIONS = (UnknownPlaces, ArithmeticError, LookupError, TypeError, ValueError, MemoryError)


class FieldTracker:
    """Visit the nodes in order; `field` then knows what depends on the image.

    Args:
        draft: with shapes at the image size.
        image: the tensor whose pixels are seen.
        size: (height, width) of the image, for the sides that its own shape leaves open.

    Attributes:
        unknown: operators whose positions are not known; what is behind them counts as seeing everything.
    """

    def __init__(self, draft: Draft, image: str, size: tuple[int, int]) -> None:
        self.draft = draft
        self.unknown: dict[str, None] = {}
        self._seen: dict[str, Seen | None] = {image: None}  # None: it depends on the image, and its shape is unknown
        shape = draft.shapes.get(image, ())
        self.size = (0, 0)
        self._held = self._tabled = 0
        if len(shape) == 4 and shape[1]:
            self.size = (shape[2] or size[0], shape[3] or size[1])
            if max(self.size) > _MOST_TABLED:
                self.unknown["very large pictures"] = None
            else:
                self._seen[image] = Seen.picture((1, shape[1], *self.size))

    def field(self, tensor: str, channel_axis: int | None, grid: Tokens | None = None) -> ReceptiveField | None:
        """What the positions of a tensor see; None where it does not depend on the image.

        Args:
            tensor: its name.
            channel_axis: all axes but this one and the batch's are positions; with two of them there is a place.
            grid: of a signal's or a volume's map, how its positions lie over the picture.
        """
        if tensor not in self._seen:
            return None
        seen = self._seen[tensor]
        if seen is None:
            return ReceptiveField(None, (1.0, 1.0), (0.0, 0.0))
        if grid is not None:
            return seen.laid((grid.rows, grid.columns), self.size)
        axes = [a for a in range(1, len(seen.shape)) if a != channel_axis]
        if len(axes) != 2:
            return seen.field(None, self.size)
        self._tabled += sum(end.shape[axes[0] + 1] * end.shape[axes[1] + 1] for end in seen.ends)
        if self._tabled > _MOST_TABLED:
            self.unknown["very large maps"] = None
            return ReceptiveField(None, seen.line.stride, seen.line.offset)
        return seen.field((axes[0], axes[1]), self.size)

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """A tensor's shape for one picture, None where it is not known."""
        seen = self._seen.get(tensor)
        return seen.shape if seen is not None else None

    def visit(self, node: onnx.NodeProto) -> None:
        """Takes in the next node; nodes come in order of execution."""
        row = operator(node)
        if row.family == "size" or not any(name in self._seen for name in node.input):
            return
        sources: list[Seen | None] = [self._seen.get(name) for name in node.input]
        known = [s for s in sources if s is not None]
        if any(name in self._seen and self._seen[name] is None for name in node.input):
            known = []
        results: list[Seen | None] = [None] * len(node.output)
        if known:
            try:
                results = list(self._results(node, row, sources))
                self._held += sum(end.size for result in results if result is not None for end in result.ends)
            except _CONTRADICTIONS:
                if row.positions != "all":
                    self.unknown[node.op_type] = None
                is_lost = row.family != "attention"
                batch = known[0].shape[0] if known[0].shape else 1  # a number has no batch
                shapes = [shape_of(self.draft, name, batch) for name in node.output]
                results = [known[0].of_all(s, self.size, is_lost) if s is not None else None for s in shapes]
        for name, result in zip(node.output, results, strict=False):
            if name:
                self._seen[name] = result

    def _results(self, node: onnx.NodeProto, row: Operator, sources: list[Seen | None]) -> list[Seen]:
        rule = RULES.get((node.domain, node.op_type), kept if row.positions == "kept" else None)
        if rule is None or self._held > _MOST_HELD:
            raise UnknownPlaces
        found = rule(Call(self.draft, self.size, node, sources))
        return [found] * len(node.output) if isinstance(found, Seen) else found


RULES: dict[tuple[str, str], Rule] = {
    **{("", op): window for op in names(lambda row: row.family == "pool")},
    **{("", op): reduced for op in names(lambda row: row.family == "reduction" and row.numbers)},
    **{("", op): in_another_shape for op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")},
    **{("", op): softmax for op in ("Softmax", "LogSoftmax", "Hardmax", "TopK")},
    **{("", op): normalized for op in ("LayerNormalization", "RMSNormalization", "LpNormalization")},
    **{("", op): normalized for op in ("GroupNormalization", "LRN")},
    **{("", op): kept for op in ("InstanceNormalization", "MeanVarianceNormalization", "Trilu")},
    **{("", op): accumulated for op in ("CumSum", "CumProd")},
    **{("", op): global_pool for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")},
    **{("", op): arg for op in ("ArgMax", "ArgMin")},
    **{("", op): blocks for op in ("DepthToSpace", "SpaceToDepth")},
    **{("", op): resized for op in ("Resize", "Upsample")},
    **{("", op): product for op in ("MatMul", "MatMulInteger")},
    ("", "QLinearMatMul"): lambda call: product(call, 0, 3),
    ("", "Conv"): lambda call: window(call, 1),
    ("", "ConvInteger"): lambda call: window(call, 1),
    ("", "QLinearConv"): lambda call: window(call, 3),
    ("", "ConvTranspose"): transposed,
    ("", "Pad"): padded,
    ("", "CenterCropPad"): center_crop_padded,
    ("", "Slice"): sliced,
    ("", "Gather"): picked,
    ("", "Concat"): joined,
    ("", "Split"): split,
    ("", "Transpose"): turned,
    ("", "Expand"): repeated,
    ("", "Tile"): tiled,
    ("", "Gemm"): dense,
    ("", "Einsum"): einsum,
    ("", "DynamicQuantizeLinear"): dynamic_quantize,
    (MICROSOFT, "QLinearConcat"): lambda call: joined(call, first=2, step=3),
    (MICROSOFT, "QLinearGlobalAveragePool"): global_pool,
}
