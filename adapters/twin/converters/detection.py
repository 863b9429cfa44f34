"""Detectors' operators: choosing boxes (forward alone), and features of regions, differentiable in the features."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

from .base import Converted, Converter, Function, Node


def _non_max_suppression(node: Node) -> Converted:
    """(number of boxes chosen, 3) int64: picture, class, box; of each class the surest first. It has no gradient."""
    is_centred = bool(node.get("center_point_box", 0))

    def run(
        boxes: Tensor,
        scores: Tensor,
        most: Tensor | None = None,
        overlap: Tensor | None = None,
        least: Tensor | None = None,
    ) -> Tensor:
        limit = int(most.reshape(-1)[0]) if most is not None and most.numel() else 0
        bound = float(overlap.reshape(-1)[0]) if overlap is not None and overlap.numel() else 0.0
        found: list[tuple[int, int, int]] = []
        for picture, corners in enumerate(_corners(boxes.detach(), is_centred)):
            for of_class, row in enumerate(scores[picture].detach()):
                order = torch.argsort(row, descending=True, stable=True)
                if least is not None and least.numel():
                    order = order[row[order] > least.reshape(-1)[0]]
                found += [(picture, of_class, box) for box in _chosen(corners, order, limit, bound)]
        return torch.tensor(found, dtype=torch.int64, device=boxes.device).reshape(-1, 3)

    return Converted(Function(run), node.inputs)


def _corners(boxes: Tensor, is_centred: bool) -> Tensor:
    """(N, B, 4): left, top, right, bottom (the axes' names do not matter)."""
    if is_centred:
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        return torch.cat([centre - half, centre + half], dim=-1)
    a, b = boxes[..., :2], boxes[..., 2:]
    return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], dim=-1)


def _chosen(corners: Tensor, order: Tensor, limit: int, bound: float) -> list[int]:
    """The boxes that none before them overlaps by more than ``bound``, at most ``limit``."""
    areas = (corners[:, 2:] - corners[:, :2]).prod(dim=-1)
    found: list[int] = []
    while order.numel() and len(found) < limit:
        first, order = order[0], order[1:]
        found.append(int(first))
        sides = torch.minimum(corners[first, 2:], corners[order, 2:]) - torch.maximum(
            corners[first, :2], corners[order, :2]
        )
        shared = sides.clamp(min=0).prod(dim=-1)
        union = areas[first] + areas[order] - shared
        is_box = (areas[first] > 0) & (areas[order] > 0) & (union > 0)
        order = order[~(is_box & (shared / union > bound))]
    return found


class _RoiAlign(nn.Module):
    """Features averaged, or their maximum, at points of a grid in each part of each region.

    He et al. 2017, "Mask R-CNN", arXiv:1703.06870. Points between pixels are interpolated linearly; the maximum is
    that of the four weighted neighbours, not of their sums, as ONNX defines it.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.is_max = str(node.get("mode", "avg")) == "max"
        self.size = int(node.get("output_height", 1)), int(node.get("output_width", 1))
        self.points = int(node.get("sampling_ratio", 0))
        self.scale = float(node.get("spatial_scale", 1.0))
        transform = str(node.get("coordinate_transformation_mode", "half_pixel"))
        self.is_aligned = node.opset >= 16 and transform == "half_pixel"

    def forward(self, x: Tensor, regions: Tensor, pictures: Tensor) -> Tensor:
        parts = [self._region(x[int(i)], region) for region, i in zip(regions, pictures, strict=True)]
        return torch.stack(parts) if parts else x.new_zeros((0, x.shape[1], *self.size))

    def _region(self, features: Tensor, region: Tensor) -> Tensor:
        """(C, height, width) of one region: left, top, right, bottom."""
        shift = 0.5 if self.is_aligned else 0.0
        start, end = region[:2] * self.scale - shift, region[2:] * self.scale - shift
        extent = end - start if self.is_aligned else (end - start).clamp(min=1.0)
        reads = []
        for axis, count, limit in ((1, self.size[0], features.shape[1]), (0, self.size[1], features.shape[2])):
            points = self.points or ceil(float(extent[axis].detach()) / count)
            if points <= 0:
                return features.new_zeros((features.shape[0], *self.size))
            steps = (torch.arange(count * points, device=features.device, dtype=features.dtype) + 0.5) / points
            reads.append((points, *_neighbours(start[axis] + steps * (extent[axis] / count), limit)))
        (down, top, bottom, near_top, near_bottom), (along, left, right, near_left, near_right) = reads
        corners = [
            features[:, rows][:, :, columns] * (weight[:, None] * other)
            for rows, weight in ((top, near_top), (bottom, near_bottom))
            for columns, other in ((left, near_left), (right, near_right))
        ]
        height, width = self.size
        if self.is_max:
            values = torch.stack(corners).amax(dim=0)
            return values.reshape(-1, height, down, width, along).amax(dim=(2, 4))
        values = corners[0] + corners[1] + corners[2] + corners[3]
        return values.reshape(-1, height, down, width, along).mean(dim=(2, 4))


def _neighbours(places: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(lower, upper, weight of the lower, weight of the upper); more than a pixel outside both weights are 0."""
    inside = (places >= -1) & (places <= limit)
    clamped = places.clamp(min=0)
    lower = clamped.detach().floor().to(torch.int64).clamp(max=limit - 1)
    upper = (lower + 1).clamp(max=limit - 1)
    share = torch.where(lower >= limit - 1, torch.zeros_like(clamped), clamped - lower)
    return lower, upper, torch.where(inside, 1 - share, 0.0), torch.where(inside, share, 0.0)


def _roi_align(node: Node) -> Converted:
    return Converted(_RoiAlign(node), node.inputs)


def _max_roi_pool(node: Node) -> Converted:
    """Maxima of the parts of regions (picture, left, top, right, bottom) in whole pixels, ends included."""
    height, width = (int(s) for s in node.get("pooled_shape"))
    scale = float(node.get("spatial_scale", 1.0))

    def run(x: Tensor, regions: Tensor) -> Tensor:
        found = []
        for region in regions.detach():
            features = x[int(region[0])]
            ends = region[1:] * scale
            rounded = ends.sign() * (ends.abs() + 0.5).floor()  # a half goes away from zero
            left, top, right, bottom = rounded.to(torch.int64).tolist()
            rows = _parts(top, bottom, height, features.shape[1])
            columns = _parts(left, right, width, features.shape[2])
            cells = [
                features[:, a:b, c:d].amax(dim=(1, 2)) if b > a and d > c else features.new_zeros(len(features))
                for a, b in rows
                for c, d in columns
            ]
            found.append(torch.stack(cells, dim=1).reshape(-1, height, width))
        return torch.stack(found) if found else x.new_zeros((0, x.shape[1], height, width))

    return Converted(Function(run), node.inputs)


def _parts(start: int, end: int, count: int, limit: int) -> list[tuple[int, int]]:
    """(begin, end) of each part of an axis, cut at the picture's ends."""
    step = max(end - start + 1, 1) / count
    ends = [(int(i * step) + start, ceil((i + 1) * step) + start) for i in range(count)]
    return [(min(max(a, 0), limit), min(max(b, 0), limit)) for a, b in ends]


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "NonMaxSuppression"): _non_max_suppression,
    ("", "RoiAlign"): _roi_align,
    ("", "MaxRoiPool"): _max_roi_pool,
}
