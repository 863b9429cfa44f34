"""The batch axis becomes dynamic, and height and width too: a truncated graph runs at any size."""

from __future__ import annotations

import numpy as np

from .draft import Draft
from .shapes import image_shape


def free_batch(draft: Draft) -> bool:
    """Reshape targets that spell out the exported batch copy it from their input instead (0).

    Returns:
        Whether something changed: shapes are then to be inferred anew, and more targets may follow.
    """
    changed = False
    batch = (image_shape(draft.inputs[0]) or (None,))[0]
    static = {s[0] for s in (image_shape(i) for i in draft.inputs) if s}
    for node in draft.nodes:
        if node.op_type != "Reshape" or node.domain:
            continue
        target = draft.constant(node.input[1])
        if target is None or target.size == 0 or batch is None or len(static) != 1:
            continue
        source = draft.shapes.get(node.input[0])
        keeps_batch = source is not None and len(source) > 0 and source[0] is None
        if keeps_batch and target[0] == batch and _same_rest(source[1:], target[1:]):  # type: ignore[index]
            name = draft.fresh(f"{node.output[0]}/shape")
            draft.set_constant(name, np.array([0, *target[1:]], dtype=np.int64))
            node.input[1] = name
            changed = True
    return changed


def free_input(draft: Draft) -> None:
    """Clears the batch, height and width of the image input's declared shape, and of every output's."""
    for position, info in enumerate(draft.inputs):
        dims = info.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            if axis == 0 or (position == 0 and len(dims) == 4 and axis > 1):
                dim.Clear()
                dim.dim_param = ("N", "C", "H", "W")[axis] if position == 0 and len(dims) == 4 else "N"
    for info in draft.outputs:
        if info.type.tensor_type.HasField("shape"):
            info.type.tensor_type.ClearField("shape")


def _same_rest(source: tuple[int | None, ...], target: np.ndarray) -> bool:
    """Whether the axes after the batch hold the same number of values before and after."""
    if -1 in target.tolist():
        return True
    if any(s is None for s in source):
        return False
    wanted = [s if t == 0 and i < len(source) else int(t) for i, (s, t) in enumerate(_pairs(source, target))]
    return int(np.prod([w or 1 for w in wanted])) == int(np.prod([s or 1 for s in source]))


def _pairs(source: tuple[int | None, ...], target: np.ndarray) -> list[tuple[int | None, int]]:
    padded = list(source) + [None] * max(0, len(target) - len(source))
    return [(padded[i], int(t)) for i, t in enumerate(target)]
