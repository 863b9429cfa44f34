"""Whether every node has the inputs, outputs and attributes that its operator is declared with.

What normalizes and converts reads them as declared; a node that lacks one, or has it of another type, would end in an
error that says nothing about the file. ONNX Runtime refuses the same nodes, later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import onnx
from onnx import AttributeProto, defs

from ...errors import RefusedInput

_Schema = defs.OpSchema
MAX_EQUATION = 20_000
_TERM = rb"[A-Za-z]*(?:\.\.\.)?[A-Za-z]*"
_EQUATION = re.compile(rb"%b(?:,%b)*(?:->%b)?" % (_TERM, _TERM, _TERM))


def check_signatures(nodes: Iterable[onnx.NodeProto], opset: int, own: set[tuple[str, str]], where: str) -> None:
    """Compares nodes of ONNX's own domain with their operators' declarations.

    Args:
        nodes: all nodes of a model, those of functions and inner graphs too.
        opset: of ONNX's own domain.
        own: (domain, name) of the model's functions, which may have any.
        where: the file.

    Raises:
        RefusedInput: too few or too many inputs or outputs, an attribute of another type.
    """
    schemas: dict[str, _Schema | None] = {}
    for node in nodes:
        if node.domain not in ("", "ai.onnx") or ("", node.op_type) in own:
            continue
        if node.op_type not in schemas:
            schemas[node.op_type] = _schema(node.op_type, opset)
        schema = schemas[node.op_type]
        if schema is None:
            continue
        _check_count("inputs", len(node.input), schema.min_input, schema.max_input, node, where)
        _check_count("outputs", len(node.output), schema.min_output, schema.max_output, node, where)
        _check_attributes(node, schema.attributes, where)
        if node.op_type == "Einsum":
            _check_equation(node, where)


def _schema(name: str, opset: int) -> _Schema | None:
    try:
        return defs.get_schema(name, opset, "")
    except defs.SchemaError:
        return None


def _check_count(kind: str, count: int, least: int, most: int, node: onnx.NodeProto, where: str) -> None:
    if not least <= count <= most:
        allowed = f"{least}" if least == most else f"{least} to {most}" if most < 2**31 - 1 else f"at least {least}"
        raise RefusedInput(f"{where}: node {_shown(node)} has {count} {kind}, the operator takes {allowed}")


def _check_attributes(node: onnx.NodeProto, declared: Mapping[str, _Schema.Attribute], where: str) -> None:
    for entry in node.attribute:
        known = declared.get(entry.name)
        if known is None or entry.ref_attr_name:
            continue
        if entry.type != AttributeProto.AttributeType.Value(str(known.type).rpartition(".")[2]):
            kinds = AttributeProto.AttributeType
            is_named = entry.type in kinds.values()
            raise RefusedInput(
                f"{where}: attribute '{entry.name}' of node {_shown(node)} is "
                f"{kinds.Name(entry.type) if is_named else 'unknown'} instead of {str(known.type).rpartition('.')[2]}"
            )
    missing = [
        name for name, known in declared.items() if known.required and not any(e.name == name for e in node.attribute)
    ]
    if missing:
        raise RefusedInput(f"{where}: node {_shown(node)} has no attribute '{missing[0]}', which the operator needs")


def _check_equation(node: onnx.NodeProto, where: str) -> None:
    """One term of letters for each input, with at most one ellipsis: ONNX's shape inference never ends at a second."""
    equation = next(entry.s for entry in node.attribute if entry.name == "equation")
    if len(equation) > MAX_EQUATION or not _EQUATION.fullmatch(equation.replace(b" ", b"")):
        shown = equation[:40].decode(errors="replace")
        raise RefusedInput(f"{where}: node {_shown(node)} has the equation {shown!r}, which is none")


def _shown(node: onnx.NodeProto) -> str:
    return f"'{node.name[:60]}' ({node.op_type[:60]})" if node.name else f"of {node.op_type[:60]}"
