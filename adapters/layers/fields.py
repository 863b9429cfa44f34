"""Receptive fields by the chain rule of sizes, strides and offsets (Araujo et al. 2019, Distill).

For a window of k (dilated: d (k - 1) + 1) with stride s and padding p on an input of field (r, j, o):

    r' = r + (k - 1) d j        j' = j s        o' = o - p j

Where paths meet, the field is the smallest box that holds them all. A branch that sees the whole picture and
gates another (squeeze and excitation) is left out there: it would make every later field the whole picture.
"""

from __future__ import annotations

from math import ceil

import onnx

from ...engine.graph.layers import ReceptiveField
from ..normalize.draft import Draft, attribute

_WINDOWS = ("Conv", "MaxPool", "AveragePool", "LpPool", "QLinearConv", "ConvInteger")
_GLOBAL = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Flatten", "Gemm", "InstanceNormalization")
_OPAQUE = ("Reshape", "Transpose", "MatMul", "DepthToSpace", "SpaceToDepth", "GridSample", "Squeeze", "Unsqueeze")
Pair = tuple[float, float]


class FieldTracker:
    """Visit the nodes in order; ``fields[tensor]`` is then known for what depends on the image."""

    def __init__(self, draft: Draft, image: str) -> None:
        self.draft = draft
        self.fields: dict[str, ReceptiveField] = {image: ReceptiveField((1, 1), (1.0, 1.0), (0.0, 0.0))}

    def visit(self, node: onnx.NodeProto) -> None:
        sources = [self.fields[n] for n in node.input if n in self.fields]
        if not sources or node.op_type in ("Shape", "Size"):
            return
        field = self._after(node, sources)
        for name in node.output:
            if name:
                self.fields[name] = field

    def _after(self, node: onnx.NodeProto, sources: list[ReceptiveField]) -> ReceptiveField:
        first = sources[0]
        if node.op_type in _GLOBAL or (node.op_type.startswith("Reduce") and self._reduces_space(node)):
            return ReceptiveField(None, first.stride, first.offset)
        if node.op_type in _WINDOWS and first.size is not None:
            return self._window(node, first)
        if node.op_type == "ConvTranspose" and first.size is not None:
            return self._transposed(node, first)
        if node.op_type in ("Resize", "Upsample") and first.size is not None:
            return self._resized(node, first)
        if node.op_type == "Pad" and first.size is not None:
            pads = attribute(node, "pads") or self._constant(node, 1)
            if pads and len(pads) == 8:
                return _shift(first, (-float(pads[2]), -float(pads[3])))
        if node.op_type in _OPAQUE and first.size is not None and not self._keeps_space(node):
            return ReceptiveField(None, first.stride, first.offset)
        return _union(sources)

    def _window(self, node: onnx.NodeProto, field: ReceptiveField) -> ReceptiveField:
        assert field.size is not None
        kernel = attribute(node, "kernel_shape") or list(self.draft.shapes.get(node.input[1], ())[2:])
        if len(kernel) != 2 or any(k is None for k in kernel):
            return ReceptiveField(None, field.stride, field.offset)
        strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
        reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        pads = self._pads(node, [r + 1 for r in reach], strides)
        return ReceptiveField(
            (field.size[0] + int(reach[0] * field.stride[0]), field.size[1] + int(reach[1] * field.stride[1])),
            (field.stride[0] * strides[0], field.stride[1] * strides[1]),
            (field.offset[0] - pads[0] * field.stride[0], field.offset[1] - pads[1] * field.stride[1]),
        )

    def _pads(self, node: onnx.NodeProto, window: list[int], strides: list[int]) -> Pair:
        mode = attribute(node, "auto_pad", "NOTSET")
        if mode in ("NOTSET", ""):
            pads = attribute(node, "pads", [0, 0, 0, 0])
            return float(pads[0]), float(pads[1])
        shape = self.draft.shapes.get(node.input[0], ())[2:]
        if mode == "VALID" or len(shape) != 2 or any(s is None for s in shape):
            return 0.0, 0.0
        begins = []
        for size, width, stride in zip(shape, window, strides, strict=True):
            assert size is not None
            total = max((ceil(size / stride) - 1) * stride + width - size, 0)
            begins.append(float(total // 2 if mode == "SAME_UPPER" else ceil(total / 2)))
        return begins[0], begins[1]

    def _transposed(self, node: onnx.NodeProto, field: ReceptiveField) -> ReceptiveField:
        """Output i is fed by the inputs from ceil((i + p - k + 1) / s): 1 + (k - 1) // s of them."""
        assert field.size is not None
        kernel = attribute(node, "kernel_shape") or list(self.draft.shapes.get(node.input[1], ())[2:])
        if len(kernel) != 2:
            return ReceptiveField(None, field.stride, field.offset)
        strides, pads = attribute(node, "strides", [1, 1]), attribute(node, "pads", [0, 0, 0, 0])
        size, stride, offset = [], [], []
        for a in (0, 1):
            reach = ceil(kernel[a] / strides[a]) - 1
            size.append(field.size[a] + int(reach * field.stride[a]))
            stride.append(field.stride[a] / strides[a])
            offset.append(field.offset[a] + (pads[a] - kernel[a] + 1) / strides[a] * field.stride[a])
        return ReceptiveField((size[0], size[1]), (stride[0], stride[1]), (offset[0], offset[1]))

    def _resized(self, node: onnx.NodeProto, field: ReceptiveField) -> ReceptiveField:
        assert field.size is not None
        before, after = self.draft.shapes.get(node.input[0], ()), self.draft.shapes.get(node.output[0], ())
        if len(before) != 4 or len(after) != 4 or not all((*before[2:], *after[2:])):
            return field
        ratio = (before[2] / after[2], before[3] / after[3])  # type: ignore[operator]
        blend = 0 if attribute(node, "mode", "nearest") == "nearest" else 1
        return ReceptiveField(
            (field.size[0] + int(blend * field.stride[0]), field.size[1] + int(blend * field.stride[1])),
            (field.stride[0] * ratio[0], field.stride[1] * ratio[1]),
            field.offset,
        )

    def _reduces_space(self, node: onnx.NodeProto) -> bool:
        rank = len(self.draft.shapes.get(node.input[0], ()))
        axes = attribute(node, "axes") or self._constant(node, 1)
        return axes is None or any(a % max(rank, 1) >= 2 for a in axes)

    def _keeps_space(self, node: onnx.NodeProto) -> bool:
        """Whether an operator that moves values about leaves rows and columns where they were."""
        before, after = self.draft.shapes.get(node.input[0], ()), self.draft.shapes.get(node.output[0], ())
        if len(before) != len(after) or len(before) != 4:
            return False
        return before[2:] == after[2:] or (node.op_type in ("Transpose", "MatMul"))

    def _constant(self, node: onnx.NodeProto, position: int) -> list[int] | None:
        value = self.draft.constant(node.input[position]) if len(node.input) > position else None
        return None if value is None else [int(v) for v in value.ravel()]


def _shift(field: ReceptiveField, by: Pair) -> ReceptiveField:
    offset = (field.offset[0] + by[0] * field.stride[0], field.offset[1] + by[1] * field.stride[1])
    return ReceptiveField(field.size, field.stride, offset)


def _union(fields: list[ReceptiveField]) -> ReceptiveField:
    local = [f for f in fields if f.size is not None]
    if not local:
        return fields[0]
    stride = (max(f.stride[0] for f in local), max(f.stride[1] for f in local))
    boxes = [(f.offset, f.size) for f in local if f.size is not None]
    low = [min(o[a] for o, _ in boxes) for a in (0, 1)]
    high = [max(o[a] + s[a] for o, s in boxes) for a in (0, 1)]
    size = (int(ceil(high[0] - low[0])), int(ceil(high[1] - low[1])))
    return ReceptiveField(size, stride, (low[0], low[1]))
