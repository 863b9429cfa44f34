"""The only place that touches onnx2torch: its converters, where we have none of our own.

onnx2torch 1.5.15 imports torchvision in two converter modules, and torchvision's wheels do not load beside a
CPU build of torch. Empty modules in place of those two make it import the same way on every machine.

Only operators whose stock converters were found right are left to it (`TRUSTED`); every other operator is either
converted by us or refused by name.
"""

from __future__ import annotations

import sys
import types
from functools import cache
from typing import Any

import onnx
from torch import nn

# Stock converters that pass every ONNX node test of the operator and agree with ONNX Runtime at every opset.
TRUSTED = frozenset(
    {
        *("Abs", "Ceil", "Erf", "Exp", "Floor", "Log", "Neg", "Reciprocal", "Sign", "Sqrt"),
        *("And", "Not", "Or", "Xor"),
        *("LeakyRelu", "Relu", "Sigmoid", "Tanh"),
    }
)


@cache
def _registry() -> Any:
    for name in ("nms", "roialign"):
        key = f"onnx2torch.node_converters.{name}"
        if key not in sys.modules:
            empty = types.ModuleType(key)
            empty.__all__ = []  # type: ignore[attr-defined]
            sys.modules[key] = empty
    from onnx2torch.node_converters import registry

    return registry


def stock_module(node: onnx.NodeProto, opset: int) -> tuple[nn.Module, tuple[str, ...]] | None:
    """onnx2torch's module for a node and the inputs it takes, or None where there is none to be trusted."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in TRUSTED:
        return None
    registry = _registry()
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode

    try:
        version = onnx.defs.get_schema(node.op_type, opset).since_version
        converter = registry.get_converter(domain="", operation_type=node.op_type, version=version)
    except Exception:  # no schema, or no converter for this version
        return None
    alone = onnx.GraphProto(node=[node])
    result = converter(OnnxNode(node, unique_name=node.name or node.op_type), OnnxGraph(alone))
    return result.torch_module.eval(), tuple(result.onnx_mapping.inputs)
