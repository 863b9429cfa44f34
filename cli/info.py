"""``convscope info``: the model summary, as `model.summary()` and with what a microscope needs to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .loading import describe, loading_options, open_model
from .options import JsonOption, ModelArgument, QuietOption
from .output import clean, emit_json

if TYPE_CHECKING:
    from ..engine.graph.graph import Graph
    from ..engine.graph.layers import Layer, ReceptiveField, TensorSpec

_LONGEST = 200  # characters of a name in the table


@loading_options
def command(model: ModelArgument, as_json: JsonOption = False, quiet: QuietOption = False, **options: Any) -> None:
    """Show a model's layers, inputs, outputs, preprocessing and origin.

    Every layer can be named elsewhere by its number or its name.
    """
    graph = open_model(model, quiet=quiet, **options)
    if as_json:
        from ..engine.graph.summary import summary

        emit_json(summary(graph))
    else:
        _show(graph)


def _show(graph: Graph) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe has no width: nothing is cut off for it
        console = Console(highlight=False, width=_width(graph))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("layer", overflow="fold")
    table.add_column("op", no_wrap=True)
    table.add_column("output shape", no_wrap=True)
    for heading in ("sees", "stride", "parameters", "multiply-adds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in graph.layers:
        table.add_row(*(Text(cell) for cell in _row(layer)))
    console.print(table)
    console.print()
    for label, value in _facts(graph):
        console.print(Text(f"{label:<14}", style="bold") + Text(clean(value)), soft_wrap=True)


def _row(layer: Layer) -> tuple[str, ...]:
    sees, stride = _sees(layer.receptive_field)
    counts = (f"{layer.parameters:,}" if layer.parameters else "", _si(layer.macs) if layer.macs else "")
    return (str(layer.index), _cut(layer.name), clean(layer.op), _shape(layer.shape), sees, stride, *counts)


def _cut(name: str) -> str:
    """A name as a terminal takes it; the longest column sets the width of every line. ``--json`` has it whole."""
    text = clean(name[: 2 * _LONGEST])
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _sees(field: ReceptiveField | None) -> tuple[str, str]:
    """Receptive field and stride in input pixels; one number where both directions agree."""
    if field is None:
        return "", ""
    stride = "x".join(f"{s:g}" for s in _once(field.stride))
    return ("all" if field.size is None else "x".join(str(s) for s in _once(field.size))), stride


def _once(pair: tuple[Any, Any]) -> tuple[Any, ...]:
    return pair[:1] if pair[0] == pair[1] else pair


def _shape(shape: tuple[int | None, ...]) -> str:
    return "x".join("N" if axis == 0 else "?" if size is None else str(size) for axis, size in enumerate(shape))


def _facts(graph: Graph) -> list[tuple[str, str]]:
    from ..engine.graph.summary import free_axes

    source = graph.source
    height, width = graph.image_size
    parameters, macs = (sum(getattr(la, name) for la in graph.layers) for name in ("parameters", "macs"))
    facts = [
        ("inputs", "; ".join(_spec(spec) for spec in graph.inputs)),
        ("outputs", "; ".join(_spec(spec) for spec in graph.outputs)),
        ("preprocessing", describe(graph.preprocessing)),
        ("size", f"{len(graph.layers)} layers, {parameters:,} parameters, {_si(macs)} multiply-adds"),
        ("source", f"{source.path or 'live object'}: {source.format} by {source.producer}, opset {source.opset}"),
        ("sha256", f"{source.sha256} (graph {graph.sha256[:16]})"),
    ]
    if free := free_axes(graph):
        facts.insert(1, ("free", f"{' and '.join(free)}; the shapes above are those at {height} x {width}"))
    if graph.labels is not None:
        facts.insert(-3, ("classes", f"{len(graph.labels)}: {', '.join(graph.labels[:3])}, ..."))
    return facts


def _spec(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype} {_shape(spec.shape)}"


def _si(value: float) -> str:
    """12,345,678 as ``12.3 M``."""
    for unit in ("", " k", " M", " G", " T"):
        if value < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} P"


def _width(graph: Graph) -> int:
    return 90 + max((len(_cut(layer.name)) + len(_shape(layer.shape)) for layer in graph.layers), default=0)
