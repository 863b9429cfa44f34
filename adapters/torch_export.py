"""A live torch module as ONNX, with the names of its modules and a proof that the export is right.

Two exporters, because neither takes every network. The older one (tracing) goes first: it is several times
faster, and a marker operator behind every module tells exactly which tensor is whose output, and keeps
batch-norm from being folded into the convolution before it. Where it fails, or what it wrote computes
something else, the tracing exporter without markers and then the newer one (torch.export) have their turn.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ..engine.session import Session, first_line
from ..errors import RefusedInput

MARK_DOMAIN = "convscope"
OPSET = 17  # the newest whose operators every exporter and runtime of the last years knows
DYNAMO_OPSET = 18  # the oldest that torch.export's exporter writes
TOLERANCE = 1e-3  # relative to the output's largest value; float32 sums in another order stay below 1e-4


@dataclass(frozen=True, eq=False)
class Export:
    """What an exporter wrote: model, tensor -> module name, further module name -> tensor, exporter's name."""

    model: onnx.ModelProto
    names: dict[str, str]
    aliases: dict[str, str]
    exporter: str


def export_module(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Export, list[str]]:
    """The module as ONNX with dynamic batch, by the first exporter whose result computes the same.

    Args:
        module: in any mode; exported in inference mode and left as it was.
        inputs: example inputs, batch first.

    Returns:
        The export, and one line per exporter that failed before it.

    Raises:
        RefusedInput: no exporter succeeded; each one's reason is in the message.
    """
    traced = _at_batch(inputs, 2)
    checked = _at_batch(inputs, 1)
    failures: list[str] = []
    attempts: tuple[tuple[str, Callable[..., Export]], ...] = (
        ("tracing exporter", _export_marked),
        ("tracing exporter without module marks", _export_plain),
        ("torch.export exporter", _export_dynamo),
    )
    with _inference_mode(module), _quiet():
        expected = _flatten(_run(module, checked))
        for title, attempt in attempts:
            try:
                export = attempt(module, traced)
                _require_equal(export.model, checked, expected)
                return export, failures
            except Exception as error:  # exporters raise whatever the traced code raises
                failures.append(f"{title}: {first_line(error, 160)}")
    raise RefusedInput(f"{type(module).__name__} cannot be exported to ONNX: " + "; ".join(failures))


def export_program(program: Any, module: nn.Module, inputs: tuple[Tensor, ...]) -> Export:
    """A torch.export program as ONNX, checked against its own module on ``inputs``.

    The batch is dynamic where the program's is; a fixed one stays.

    Raises:
        RefusedInput: the exporter fails, or what it wrote computes something else.
    """
    with _quiet():
        try:
            expected = _flatten(_run(module, inputs))
            written = torch.onnx.export(program, dynamo=True, opset_version=DYNAMO_OPSET, optimize=False, verbose=False)
            assert written is not None
            _require_equal(written.model_proto, inputs, expected)
        except Exception as error:
            raise RefusedInput(f"the exported program cannot be written as ONNX: {first_line(error, 200)}") from error
    return Export(written.model_proto, {}, {}, "torch.export exporter")


class _Mark(torch.autograd.Function):
    """Copies its input; exported as ``convscope::Mark`` carrying the module's name."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str) -> Tensor:  # noqa: ARG004
        return x.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, name: str) -> Any:
        return g.op(f"{MARK_DOMAIN}::Mark", x, name_s=name).setType(x.type())


def _export_marked(module: nn.Module, inputs: tuple[Tensor, ...]) -> Export:
    with _marks(module):
        model = _trace(module, inputs, {MARK_DOMAIN: 1})
    names, aliases = _remove_marks(model)
    return Export(model, names, aliases, "tracing exporter")


def _export_plain(module: nn.Module, inputs: tuple[Tensor, ...]) -> Export:
    return Export(_trace(module, inputs, {}), {}, {}, "tracing exporter")


def _trace(module: nn.Module, inputs: tuple[Tensor, ...], opsets: dict[str, int]) -> onnx.ModelProto:
    buffer = io.BytesIO()
    names = ["input", *(f"input_{i}" for i in range(1, len(inputs)))]
    torch.onnx.export(
        module,
        inputs,
        buffer,  # type: ignore[arg-type]  # the tracing exporter also writes to streams
        dynamo=False,
        opset_version=OPSET,
        input_names=names,
        dynamic_axes={name: {0: "batch"} for name in names},
        do_constant_folding=False,  # normalization folds, with a bound on the size
        custom_opsets=opsets,
    )
    model = onnx.load_model_from_string(buffer.getvalue())
    _free_batch(model)
    return model


def _export_dynamo(module: nn.Module, inputs: tuple[Tensor, ...]) -> Export:
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        module,
        inputs,
        dynamo=True,
        opset_version=DYNAMO_OPSET,
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        optimize=False,  # its optimizer folds batch-norm
        verbose=False,
    )
    if program is None:
        raise RefusedInput("the exporter returned nothing")
    model = program.model_proto
    _free_batch(model)
    return Export(model, {}, {}, "torch.export exporter")


@contextlib.contextmanager
def _marks(module: nn.Module) -> Iterator[None]:
    """While it is open, every submodule's output passes a mark that names the submodule and its call."""
    calls: Counter[str] = Counter()

    def hook_for(name: str) -> Callable[..., Any]:
        def hook(_module: nn.Module, _arguments: Any, output: Any) -> Any:
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return None
            count = calls[name]
            calls[name] += 1
            return _Mark.apply(output, f"{name}_{count}" if count else name)

        return hook

    handles = [
        sub.register_forward_hook(hook_for(name))
        for name, sub in module.named_modules()
        if name and not isinstance(sub, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _remove_marks(model: onnx.ModelProto) -> tuple[dict[str, str], dict[str, str]]:
    """Takes the marks out of the graph; the innermost module names its tensor, the outer ones are aliases."""
    graph = model.graph
    source: dict[str, str] = {}
    named: dict[str, str] = {}
    aliases: dict[str, str] = {}
    given = {i.name for i in graph.input}
    for node in graph.node:
        if node.domain != MARK_DOMAIN:
            continue
        tensor = source.get(node.input[0], node.input[0])
        source[node.output[0]] = tensor
        name = next(a.s.decode() for a in node.attribute if a.name == "name")
        if tensor in given:
            continue
        if tensor in named:
            aliases[name] = tensor
        else:
            named[tensor] = name
    kept = [node for node in graph.node if node.domain != MARK_DOMAIN]
    renamed = _keep_output_names(graph, source)
    for node in kept:
        node.input[:] = [renamed.get(source.get(n, n), source.get(n, n)) for n in node.input]
        node.output[:] = [renamed.get(n, n) for n in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    graph.ClearField("value_info")  # it still speaks of the marks' tensors
    for entry in [e for e in model.opset_import if e.domain == MARK_DOMAIN]:
        model.opset_import.remove(entry)
    names = {renamed.get(t, t): name for t, name in named.items()}
    return names, {name: renamed.get(t, t) for name, t in aliases.items()}


def _keep_output_names(graph: onnx.GraphProto, source: dict[str, str]) -> dict[str, str]:
    """Graph outputs that a mark wrote: old tensor -> output name, so that the outputs keep their names."""
    given = {i.name for i in graph.input}
    renamed: dict[str, str] = {}
    for output in graph.output:
        tensor = source.get(output.name)
        if tensor is None:
            continue
        if tensor in given or tensor in renamed:  # an input or a second output: it needs a tensor of its own
            raise RefusedInput(f"output '{output.name}' repeats another tensor")
        renamed[tensor] = output.name
    return renamed


def _free_batch(model: onnx.ModelProto) -> None:
    """Output shapes as the exporter wrote them may state the example's batch; the run decides."""
    for output in model.graph.output:
        shape = output.type.tensor_type.shape
        if len(shape.dim):
            shape.dim[0].ClearField("dim_value")
            shape.dim[0].dim_param = "batch"


def _require_equal(model: onnx.ModelProto, inputs: tuple[Tensor, ...], expected: Sequence[np.ndarray]) -> None:
    session = Session(model, device="cpu")
    feeds = {n: t.detach().cpu().numpy() for n, t in zip(session.input_names, inputs, strict=False)}
    results = list(session.run({n: feeds[n] for n in session.input_names}).values())
    if len(results) != len(expected):
        raise RefusedInput(f"the export has {len(results)} outputs, the module {len(expected)}")
    for name, got, want in zip(session.output_names, results, expected, strict=True):
        if got.shape != want.shape:
            raise RefusedInput(f"output '{name}' has shape {got.shape}, the module's is {want.shape}")
        if not np.isfinite(want).all():
            continue  # random weights may overflow; there is nothing to compare
        error = np.abs(got - want).max(initial=0) / max(float(np.abs(want).max(initial=0)), 1e-12)
        if not error <= TOLERANCE:
            raise RefusedInput(f"output '{name}' differs from the module's by {error:.1e} (relative)")


def _run(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    with torch.no_grad():
        return module(*inputs)


def _flatten(output: Any) -> list[np.ndarray]:
    """The tensors in a module's output (tensor, tuple, list, dict), in order."""
    if isinstance(output, Tensor):
        return [output.detach().cpu().numpy()]
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        return [array for item in output for array in _flatten(item)]
    return []


def _at_batch(inputs: tuple[Tensor, ...], batch: int) -> tuple[Tensor, ...]:
    """The inputs repeated or cut to a batch size; as they are where they do not share a batch axis.

    A trace at batch 2 cannot mistake the batch for an axis of size 1, and a check at batch 1 shows whether
    the trace has frozen the 2.
    """
    sizes = {t.shape[0] if t.ndim else 0 for t in inputs}
    if len(sizes) != 1 or 0 in sizes:
        return inputs
    return tuple(t.detach().repeat(batch, *[1] * (t.ndim - 1))[:batch] for t in inputs)


@contextlib.contextmanager
def _inference_mode(module: nn.Module) -> Iterator[None]:
    """Inference mode for every submodule, each restored to its own mode afterwards."""
    modes = [(sub, sub.training) for sub in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for sub, mode in modes:
            sub.training = mode


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither the tracer's warnings nor the exporters' prints; the result is checked instead."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
