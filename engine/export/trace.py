"""What the backward pass has to know about the tensors of a model: rank, data type, constant values.

Ranks and which axes are broadcast are read off one run on an example. The sizes themselves are never used, except
where the model fixes them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..executors.session import Session


class Trace:
    """Shapes of one example run, data types, and constants.

    Args:
        model: nodes, weights and types.
        feeds: the example, one array per input.
        is_fixed: whether every image has the example's size.
    """

    def __init__(self, model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], *, is_fixed: bool = False) -> None:
        self.is_fixed = is_fixed
        self._weights = {t.name: t for t in model.graph.initializer}
        self._arrays: dict[str, np.ndarray] = {}
        infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
        self._kinds = {i.name: i.type.tensor_type.elem_type for i in infos if i.type.tensor_type.elem_type}
        self._shapes = _shapes(model, feeds)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape in the example run."""
        if name in self._weights:
            return tuple(self._weights[name].dims)
        return self._shapes[name]

    def kind(self, name: str) -> np.dtype:
        """The data type."""
        number = self._weights[name].data_type if name in self._weights else self._kinds.get(name, TensorProto.FLOAT)
        return np.dtype(helper.tensor_dtype_to_np_dtype(number))

    def constant(self, name: str) -> np.ndarray | None:
        """A weight's value, or None for what is computed."""
        if name not in self._weights:
            return None
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self._weights[name])
        return self._arrays[name]


def _shapes(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Of every computed tensor, by a run that gives shapes alone, so that no tensor is kept for it."""
    names = [name for node in model.graph.node for name in node.output if name]
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    del measured.graph.output[:]
    for index, name in enumerate(names):
        measured.graph.node.append(helper.make_node("Shape", [name], [f"shape:{index}"], f"shape:{index}"))
        measured.graph.output.append(helper.make_tensor_value_info(f"shape:{index}", TensorProto.INT64, None))
    found = Session(measured, device="cpu").run(dict(feeds))
    shapes = {name: tuple(int(n) for n in found[f"shape:{index}"]) for index, name in enumerate(names)}
    return {**{name: value.shape for name, value in feeds.items()}, **shapes}
