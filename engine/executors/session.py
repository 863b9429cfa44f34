"""The forward-only executor: ONNX Runtime with any set of tensors as outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from ...errors import RefusedInput
from ..graph.index import trains
from .devices import session_providers


def import_runtime() -> Any:
    """ONNX Runtime with its telemetry off, and without its warnings on stderr (one at every session on a GPU).

    Its wheels keep a device number and a log of models in the user's home, and send it, unless this is set
    before the first import.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


class Session:
    """An ONNX Runtime session over a (sub)model, tensors by their ONNX names.

    Args:
        model: the canonical (sub)model; its graph inputs and outputs are what is fed and fetched.
        device: "auto", "cpu" or "cuda[:n]".
        threads: intra-op threads; None leaves the choice to ONNX Runtime.
        optimize: False switches every graph optimization off (for exact comparisons).
        alone: run one picture at a time, where an operator would mix those of a batch.
        held: values of weights that the model declares and does not hold (`cut.extract`, hollow); they are shared.
        batch_axes: tensor -> the axis that counts pictures, where that is not 0.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        device: str = "auto",
        threads: int | None = None,
        optimize: bool = True,
        alone: bool = False,
        held: Mapping[str, np.ndarray] | None = None,
        batch_axes: Mapping[str, int] | None = None,
    ) -> None:
        self.alone, self.batch_axes = alone, dict(batch_axes or {})
        self.held = dict(held or {})  # ONNX Runtime reads them where they lie
        ort = import_runtime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if threads is not None:
            options.intra_op_num_threads = threads
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.add_session_config_entry("session.disable_prepacking", "1")  # a second copy of the weights
        if self.held:
            values = [ort.OrtValue.ortvalue_from_numpy(value) for value in self.held.values()]
            options.add_external_initializers(list(self.held), values)
        spoiled = _spoiled(model)
        self.input_names = tuple(i.name for i in model.graph.input)
        self.output_names = tuple(o.name for o in model.graph.output)
        providers = session_providers(device)
        try:
            self.ort = ort.InferenceSession(
                model.SerializeToString(), options, providers=providers, disabled_optimizers=spoiled
            )
        except Exception as error:  # ONNX Runtime raises many unrelated types
            raise RefusedInput(f"ONNX Runtime refuses the model: {first_line(error)}") from error
        self.provider: str = self.ort.get_providers()[0]

    def run(
        self, x: np.ndarray | Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The asked tensors by name.

        Args:
            x: the input array, or one per input name, in the model's own dtype.
            outputs: a subset of the session's outputs (all of them are computed anyway).

        Raises:
            RefusedInput: ONNX Runtime fails on the input, or the model has more inputs than one array fills.
        """
        if not isinstance(x, Mapping):
            self.check_one_input()
        feeds: Any = dict(x) if isinstance(x, Mapping) else {self.input_names[0]: x}
        names = list(outputs or self.output_names)
        if self.alone and (count := len(feeds[self.input_names[0]])) > 1:
            rows = [self._run(names, row_of_batch(feeds, i, count)) for i in range(count)]
            axes = {name: self.batch_axes.get(name, 0) for name in names}
            return {name: np.concatenate([np.atleast_1d(row[name]) for row in rows], axes[name]) for name in names}
        return self._run(names, feeds)

    def _run(self, names: list[str], feeds: Any) -> dict[str, np.ndarray]:
        try:
            return dict(zip(names, self.ort.run(names, feeds), strict=True))
        except Exception as error:
            raise RefusedInput(f"ONNX Runtime failed on the model: {first_line(error)}") from error

    def check_one_input(self) -> None:
        """Raises RefusedInput where a picture alone is not enough for the model."""
        if len(self.input_names) > 1:
            names = ", ".join(self.input_names)
            raise RefusedInput(
                f"the model has {len(self.input_names)} inputs ({names[:160]}); a picture fills one alone"
            )


def _spoiled(model: onnx.ModelProto) -> list[str]:
    """The rewrites of ONNX Runtime that would change the model's values (seen in 1.31).

    Pad_Fusion takes a Pad with zeros for the padding of a max-pool, which is one with -inf. ConstantSharing makes one
    tensor of equal weights, and a batch-norm in training mode writes its running statistics over them at every run:
    of a fresh one its scale and bias too.
    """
    padded = {node.output[0] for node in model.graph.node if node.op_type == "Pad" and node.output}
    found = []
    if any(node.op_type == "MaxPool" and node.input[0] in padded for node in model.graph.node):
        found.append("Pad_Fusion")
    if any(trains(node) for node in model.graph.node):
        found.append("ConstantSharing")
    return found


def row_of_batch(feeds: Mapping[str, Any], index: int, count: int) -> dict[str, Any]:
    """One picture's part of several tensors; a tensor without a row for each picture is shared."""
    return {
        name: value[index : index + 1] if value.ndim and len(value) == count else value for name, value in feeds.items()
    }


def first_line(error: BaseException, limit: int = 300) -> str:
    """The first non-empty line of an error's text, cut to ``limit`` characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:limit]
