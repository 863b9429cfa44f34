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
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ...engine.executors.session import Session, first_line
from ...errors import RefusedInput
from ..normalize import settle_constants, without_double
from ..rounding import NOISE, rounding_bound
from .adaptive import written_adaptive_pools
from .compiler_cache import no_compiler_cache
from .live import as_called, full_precision
from .marks import MARK_DOMAIN, module_marks, remove_marks

OPSET = 17  # the newest whose operators every exporter and runtime of the last years knows
DYNAMO_OPSET = 18  # the oldest that torch.export's exporter writes
_DECIDES = "Converting a tensor to a Python (boolean|float|integer|number|list)"  # as the tracer's warnings begin
_REPEATED = 1e-4  # relative, between two runs of one network: threads may sum in another order, no more
TOLERANCE = 1e-3  # relative to the output's largest value; float32 sums in another order stay below 1e-4


@dataclass(frozen=True, eq=False)
class Export:
    """What an exporter wrote.

    Attributes:
        model: the file.
        names: tensor -> module name.
        aliases: further module name -> tensor.
        exporter: its name.
        decides: "file.py:12" where Python decided by a tensor's value while it was traced, or "".
        notes: what has to be said about it.
    """

    model: onnx.ModelProto
    names: dict[str, str]
    aliases: dict[str, str]
    exporter: str
    decides: str = ""
    notes: tuple[str, ...] = ()


Attempt = tuple[str, Callable[[], Export]]


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
    traced, checked = at_batch(inputs, 2), at_batch(inputs, 1)
    attempts: list[Attempt] = [
        ("tracing exporter", lambda: trace_marked(module, traced, module_marks(module))),
        ("tracing exporter without module marks", lambda: trace(module, traced)),
        ("torch.export exporter", lambda: export_dynamo(module, traced)),
    ]
    if isinstance(module, torch.jit.ScriptModule):  # takes no hooks, and torch.export refuses it
        attempts = attempts[1:2]
    export, failures = first_that_agrees(module, checked, attempts)
    if export.decides and not _agrees_elsewhere(module, export.model, checked):
        said = f"{export.decides} decides by the values of its input; exported is the way that the example takes"
        export = replace(export, notes=(*export.notes, said))
    return export, failures


def first_that_agrees(
    module: nn.Module, inputs: tuple[Tensor, ...], attempts: Sequence[Attempt]
) -> tuple[Export, list[str]]:
    """The first export that computes what the module computes on ``inputs``, and the failures before it.

    Raises:
        RefusedInput: none does, each one's reason is in the message; or the module itself is never the same twice.
    """
    failures: list[str] = []
    with _inference_mode(module), _quiet(), full_precision() as narrowed:
        before = _drawn()
        output = _run(module, inputs)
        expected, keys = flat_outputs(output), _keys(output)
        if _drawn() != before:
            _require_steady(module, inputs, expected)
        for title, attempt in attempts:
            try:
                export = _named_by_keys(attempt(), keys)
                export = replace(export, model=settle_constants(export.model))
                _require_equal(module, export.model, inputs, expected)
                return replace(export, notes=(*export.notes, *narrowed)), failures
            except Exception as error:  # exporters raise whatever the traced code raises
                if not failures:
                    _require_steady(module, inputs, expected)
                failures.append(f"{title}: {first_line(error, 160)}")
    raise RefusedInput("no exporter can write the network as ONNX: " + "; ".join(failures))


def failing(what: str, inputs: Sequence[Tensor], error: Exception) -> RefusedInput:
    """What is said of a network whose own forward pass fails."""
    shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
    return RefusedInput(f"{what} fails on an input of shape {shapes}: {type(error).__name__}: {first_line(error, 200)}")


def fallback_note(failures: Sequence[str]) -> tuple[str, ...]:
    """One note where an exporter had to be passed over."""
    return (f"exported on attempt {len(failures) + 1}; before it, {failures[0]}",) if failures else ()


def export_program(program: Any, module: nn.Module, inputs: tuple[Tensor, ...]) -> Export:
    """A torch.export program as ONNX, checked against its own module on ``inputs``.

    The batch is dynamic where the program's is; a fixed one stays.

    Raises:
        RefusedInput: the exporter fails, or what it wrote computes something else.
    """
    with _quiet():
        try:
            expected = flat_outputs(_run(module, inputs))
            written = torch.onnx.export(program, dynamo=True, opset_version=DYNAMO_OPSET, optimize=False, verbose=False)
            assert written is not None
            _require_equal(module, written.model_proto, inputs, expected)
        except Exception as error:
            raise RefusedInput(f"the exported program cannot be written as ONNX: {first_line(error, 200)}") from error
    return Export(written.model_proto, {}, {}, "torch.export exporter")


def trace_marked(
    module: nn.Module, inputs: tuple[Tensor, ...], marks: contextlib.AbstractContextManager[None]
) -> Export:
    """By the tracing exporter, while ``marks`` has every layer's output pass a mark."""
    with marks:
        traced = trace(module, inputs, {MARK_DOMAIN: 1} if any(module.children()) else None)
    names, aliases = remove_marks(traced.model)
    return replace(traced, names=names, aliases=aliases)


def trace(module: nn.Module, inputs: tuple[Tensor, ...], opsets: dict[str, int] | None = None) -> Export:
    """By the tracing exporter; inputs are called ``input``, ``input_1``, ... and have a dynamic batch."""
    buffer = io.BytesIO()
    names = ["input", *(f"input_{i}" for i in range(1, len(inputs)))]
    with written_adaptive_pools(), as_called(module, len(inputs)), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", _DECIDES, torch.jit.TracerWarning)
        torch.onnx.export(
            module,
            inputs,
            buffer,  # type: ignore[arg-type]  # the tracing exporter also writes to streams
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            dynamic_axes={name: {0: "batch"} for name in names},
            do_constant_folding=False,  # normalization folds, with a bound on the size
            custom_opsets=opsets or {},
        )
    model = onnx.load_model_from_string(buffer.getvalue())
    _free_batch(model)
    _name_outputs(model.graph)
    decides = f"{Path(said[0].filename).name}:{said[0].lineno}" if said else ""
    return Export(model, {}, {}, "tracing exporter", decides)


def export_dynamo(
    module: nn.Module, inputs: tuple[Tensor, ...], dynamic_shapes: Any = None, output_names: Sequence[str] | None = None
) -> Export:
    """By the torch.export exporter; ``dynamic_shapes`` defaults to a dynamic batch of every input."""
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        module,
        inputs,
        dynamo=True,
        opset_version=DYNAMO_OPSET,
        output_names=output_names,
        dynamic_shapes=dynamic_shapes or tuple({0: batch} for _ in inputs),
        optimize=False,  # its optimizer folds batch-norm
        verbose=False,
    )
    if program is None:
        raise RefusedInput("the exporter returned nothing")
    model = program.model_proto
    _free_batch(model)
    return Export(model, {}, {}, "torch.export exporter")


def _name_outputs(graph: onnx.GraphProto) -> None:
    """``output``, ``output_1``, ... in place of the tracer's numbers; one that is given twice is copied."""
    seen: set[str] = set()
    for i, output in enumerate(graph.output):
        if output.name in seen:
            copy = f"output_{i}_of_{output.name}"
            graph.node.append(onnx.helper.make_node("Identity", [output.name], [copy], copy))
            output.name = copy
        seen.add(output.name)
    taken = {n for node in graph.node for n in (*node.input, *node.output)}
    names = [f"output_{i}" if i else "output" for i in range(len(graph.output))]
    _rename(graph, {o.name: n for o, n in zip(graph.output, names, strict=True) if o.name.isdigit() and n not in taken})


def _rename(graph: onnx.GraphProto, new: dict[str, str]) -> None:
    """Calls tensors by other names, in nodes and outputs."""
    for node in graph.node:
        node.input[:] = [new.get(n, n) for n in node.input]
        node.output[:] = [new.get(n, n) for n in node.output]
    for output in graph.output:
        output.name = new.get(output.name, output.name)


def _keys(output: Any, key: str = "") -> list[str]:
    """For each of `flat_outputs` the key of the dictionary that holds it, or ""."""
    if isinstance(output, Tensor):
        return [key]
    items = output.items() if isinstance(output, dict) else [(key, item) for item in output]
    return [
        name for inner, item in items if isinstance(item, (Tensor, tuple, list, dict)) for name in _keys(item, inner)
    ]


def _named_by_keys(export: Export, keys: Sequence[str]) -> Export:
    """The export with outputs called as the module's dictionary calls them, where each key names one tensor."""
    graph = export.model.graph
    made = {name for node in graph.node for name in node.output}
    taken = made | {name for node in graph.node for name in node.input} | {info.name for info in graph.input}
    new = {
        output.name: str(key)
        for output, key in zip(graph.output, keys, strict=False)
        if key and keys.count(key) == 1 and output.name in made and str(key) not in taken
    }
    if not new or any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return export
    _rename(graph, new)
    names = {new.get(tensor, tensor): name for tensor, name in export.names.items()}
    return replace(export, names=names, aliases={n: new.get(tensor, tensor) for n, tensor in export.aliases.items()})


def _free_batch(model: onnx.ModelProto) -> None:
    """Output shapes as the exporter wrote them may state the example's batch; the run decides."""
    for output in model.graph.output:
        shape = output.type.tensor_type.shape
        if len(shape.dim):
            shape.dim[0].ClearField("dim_value")
            shape.dim[0].dim_param = "batch"


def _require_equal(
    module: nn.Module, model: onnx.ModelProto, inputs: tuple[Tensor, ...], expected: Sequence[np.ndarray]
) -> None:
    runnable = without_double(model)
    session = Session(runnable, device="cpu", optimize=False)  # one run does not repay the optimization
    feeds = {n: t.detach().cpu().numpy() for n, t in zip(session.input_names, inputs, strict=False)}
    if runnable is not model:
        feeds = {n: value.astype(np.float32) if value.dtype == np.float64 else value for n, value in feeds.items()}
    results = list(session.run({n: feeds[n] for n in session.input_names}).values())
    if len(results) != len(expected):
        raise RefusedInput(f"the export has {len(results)} outputs, the module {len(expected)}")
    bounds: list[float] = []
    for i, (name, got, want) in enumerate(zip(session.output_names, results, expected, strict=True)):
        if got.shape != want.shape:
            raise RefusedInput(f"output '{name}' has shape {got.shape}, the module's is {want.shape}")
        if not np.isfinite(want).all():
            continue  # random weights may overflow; there is nothing to compare
        error = _relative(got, want)
        if not error <= TOLERANCE:
            if not bounds:
                _require_steady(module, inputs, expected)
                bounds = _bounds(module, inputs, expected)
            if not error <= bounds[i]:
                raise RefusedInput(f"output '{name}' differs from the module's by {error:.1e} (relative)")


def _agrees_elsewhere(module: nn.Module, model: onnx.ModelProto, inputs: tuple[Tensor, ...]) -> bool:
    """Whether the export computes what the module does for other values too: their negatives, none, and wider ones."""
    changes: tuple[Callable[[Tensor], Tensor], ...] = (torch.neg, torch.zeros_like, lambda x: 4 * x - 2)
    with _inference_mode(module), _quiet(), full_precision():
        for change in changes:
            other = tuple(change(x) if x.is_floating_point() else x for x in inputs)
            try:
                _require_equal(module, model, other, flat_outputs(_run(module, other)))
            except Exception:  # the module's own, or the runtime's
                return False
    return True


def _require_steady(module: nn.Module, inputs: tuple[Tensor, ...], expected: Sequence[np.ndarray]) -> None:
    """Raises RefusedInput where a second run on the same inputs gives something else."""
    again = flat_outputs(_run(module, inputs))
    pairs = list(zip(again, expected, strict=False))
    if len(again) != len(expected) or any(a.shape != b.shape for a, b in pairs):
        raise RefusedInput("the network gives outputs of other shapes each time that it runs")
    apart = max((_relative(a, b) for a, b in pairs if np.isfinite(a).all() and np.isfinite(b).all()), default=0.0)
    if apart > _REPEATED:
        raise RefusedInput(
            f"the network gives another answer each time that it runs, {apart:.1e} (relative) apart: it draws random "
            "numbers or remembers; load the part of it that answers the same (a VAE's encoder with its mean, say)"
        )


def _drawn() -> tuple[object, ...]:
    """Where the sources of random numbers stand that networks draw from."""
    return torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())


def _bounds(module: nn.Module, inputs: tuple[Tensor, ...], expected: Sequence[np.ndarray]) -> list[float]:
    """What rounding alone may do to each output: a network that amplifies its input's last bit does so to all."""
    generator = torch.Generator().manual_seed(0)
    moved = (x * (1 + NOISE * torch.randn(x.shape, generator=generator).to(x)) for x in inputs)
    noisy = flat_outputs(_run(module, tuple(moved)))
    return [rounding_bound(TOLERANCE, _relative(a, b)) for a, b in zip(noisy, expected, strict=True)]


def _relative(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max(initial=0)) / max(float(np.abs(want).max(initial=0)), 1e-12)


def _run(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    with torch.no_grad():
        return module(*inputs)


def flat_outputs(output: Any) -> list[np.ndarray]:
    """The tensors in a module's output (tensor, tuple, list, dict), in order."""
    if isinstance(output, Tensor):
        value = output.detach().cpu()
        return [(value.float() if value.dtype == torch.bfloat16 else value).numpy()]  # NumPy has no bfloat16
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        return [array for item in output for array in flat_outputs(item)]
    return []


def at_batch(inputs: tuple[Tensor, ...], batch: int) -> tuple[Tensor, ...]:
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
    """Neither the tracer's warnings nor the exporters' prints nor folders; the result is checked instead."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    # On a failure the tracing exporter prints the whole graph, thousands of lines, from C++ to stdout. And after
    # each of ten passes it proves its graph sound, a sixth of all its time.
    idle = {n: getattr(torch._C, n) for n in ("_jit_onnx_log", "_jit_pass_lint") if hasattr(torch._C, n)}
    for name in idle:
        setattr(torch._C, name, lambda *_: None)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), no_compiler_cache():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, function in idle.items():
            setattr(torch._C, name, function)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
