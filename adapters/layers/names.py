"""Human layer names: what the source framework's user calls each tensor.

Sources, best first: names the source adapter knows (Keras layers, torch modules), the module scopes that
torch's dynamo exporter writes into node metadata, the path that its legacy exporter and tf2onnx write into
node names, the module path in a weight's name, and the tensor's own name.

Where several nodes belong to one source layer, the last carries the layer's name and the others are called
``name/Op``: ``block1_conv1`` is the Keras layer's output, ``block1_conv1/Conv`` the convolution in it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set

import onnx

_GENERIC = re.compile(r"^(node_)?[A-Za-z]*_?\d*$|^n\d+$")
_MODULE_WEIGHT = re.compile(r"^([A-Za-z_][\w]*(?:\.[\w]+)*)\.(?:weight|bias|running_mean)$")
_CAFFE2_WEIGHT = re.compile(r"^(.+?)_(?:bn_)?(?:w|b|s|bias|scale|mean|var|riv|rm)_\d+$")  # conv1/7x7_s2_w_0
_PADDLE_NODE = re.compile(r"^(?:p2o\.)?[A-Z][A-Za-z]*[.@]\d+$")  # p2o.Conv.0, Conv.0, Conv@0
# conv2d_12.w_0, conv2d_12.w_0_deepcopy_7, conv2_expand_weights, conv2_expand_bn_offset
_PADDLE_WEIGHT = re.compile(r"^(.+?)(?:\.[wb]_\d+(?:_deepcopy_\d+)?|_(?:weights|scale|offset|mean|variance))$")
_COUNTED = re.compile(r"_\d+$")
_PREFIX = re.compile(r"^(functional|model|sequential|keras)(_\d+)?$")


def human_names(
    nodes: Sequence[onnx.NodeProto], taps: Sequence[str], known: Mapping[str, str], *, as_before: bool = False
) -> dict[str, str]:
    """A unique name for every tap.

    Args:
        nodes: the canonical graph's, in order.
        taps: tensor names that need a name, in order of execution.
        known: tensor -> name, from the source adapter; always wins.
        as_before: by the rules of version 0.1, whose names stay aliases: doubled containers in torch's paths, Keras
            3's scope suffixes where not all were ``_1``, Paddle's counted nodes where a weight names its layer, and
            modules of equal weights, which were called after the first of them.
    """
    scopes = _scopes(nodes, as_before)
    if known:
        scopes = _adopt(nodes, scopes, known)
    by_output = {o: (node, scope) for node, scope in zip(nodes, scopes, strict=True) for o in node.output}
    last: dict[str, str] = {}
    for tap in taps:
        scope = known.get(tap) or by_output[tap][1]
        if scope:
            last[scope] = tap
            if "." in scope:  # a block that goes on inside one of its modules does not end here
                last.update((outer, tap) for outer in _outer(scope) if outer in last)
    for tap in taps:  # a name from the adapter belongs to exactly its tensor
        if tap in known:
            last[known[tap]] = tap
    used: Counter[str] = Counter()
    names: dict[str, str] = {}
    reserved = set(last)
    for tap in taps:
        node, scope = by_output[tap]
        scope = known.get(tap) or scope
        if scope and last[scope] == tap:
            names[tap] = scope
            continue
        stem = f"{scope}/{node.op_type}" if scope else _plain(node, tap)
        names[tap] = _unique(stem, used, reserved)
    return names


def _outer(scope: str) -> list[str]:
    """``layer4.1.conv2`` -> ``layer4.1``, ``layer4``."""
    return [scope.rsplit(".", i)[0] for i in range(1, scope.count(".") + 1)]


def _adopt(nodes: Sequence[onnx.NodeProto], scopes: list[str], known: Mapping[str, str]) -> list[str]:
    """Where the source names layers, a nameless node belongs to the named layer that it leads to.

    A scope that is one of the source's own modules, or lies above one, is kept.
    """
    real = {name.rsplit(".", i)[0] for name in known.values() for i in range(name.count(".") + 1)}
    leads: dict[str, str] = {}
    adopted = list(scopes)
    for i in range(len(nodes) - 1, -1, -1):
        node = nodes[i]
        named = next((known[o] for o in node.output if o in known), None)
        following = next((leads[o] for o in node.output if o in leads), "")
        # normalization's own nodes are called like their tensors
        nameless = bool(scopes[i]) or bool(_GENERIC.match(node.name)) or node.name in node.output
        if named is None and nameless and scopes[i] not in real:
            adopted[i] = following
        target = named or following
        for name in node.input:
            leads[name] = target  # nodes run backwards: the first reader has the last word
    return adopted


def _unique(stem: str, used: Counter[str], reserved: set[str]) -> str:
    while True:
        count = used[stem]
        used[stem] += 1
        name = f"{stem}_{count}" if count else stem
        if name not in reserved:
            reserved.add(name)
            return name


def _plain(node: onnx.NodeProto, tap: str) -> str:
    """The node's name where it says something, else the tensor's."""
    if node.name and not _GENERIC.match(node.name):
        return node.name.strip("/")
    if any(entry.key.startswith("pkg.torch.onnx") for entry in node.metadata_props):
        return node.op_type  # outside every module; as torch's other exporter calls it
    return tap if not _GENERIC.match(tap) else f"{node.op_type}_{tap}".lower() if tap.isdigit() else tap


def _scopes(nodes: Sequence[onnx.NodeProto], as_before: bool) -> list[str]:
    scopes = [_dynamo_scope(n) for n in nodes]
    if any(scopes):
        # a convolution with batch-norm folded in carries the batch-norm's scope, and its own weight's name
        shared = frozenset() if as_before else _shared(nodes, scopes)
        return _number_calls([_weight_scope(n, shared) or s for n, s in zip(nodes, scopes, strict=True)])
    scopes = [_path_scope(n, as_before) for n in nodes]
    if sum(bool(s) for s in scopes) * 2 > len(nodes):
        return _shorten(scopes, as_before)
    made = {name for node in nodes for name in node.output}
    return [_weight_scope(n) or ("" if as_before else _paddle_scope(n, made)) for n in nodes]


def _dynamo_scope(node: onnx.NodeProto) -> str:
    """The module path from ``pkg.torch.onnx.name_scopes``: a list of paths, the last one the operator's."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes" and len(entry.value) < 10_000:
            try:
                paths = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                return ""
            if isinstance(paths, list) and len(paths) > 1:
                return str(paths[-2])
    return ""


def _number_calls(scopes: list[str]) -> list[str]:
    """A module that is called again later (a shared ReLU) gets ``_1``, as torch's legacy exporter writes."""
    parents = {s.rsplit(".", i)[0] for s in set(scopes) for i in range(1, s.count(".") + 1)}
    calls: Counter[str] = Counter()
    result: list[str] = []
    previous = ""
    for scope in scopes:
        leaf = bool(scope) and scope not in parents
        if leaf and scope != previous:
            calls[scope] += 1
        result.append(f"{scope}_{calls[scope] - 1}" if leaf and calls[scope] > 1 else scope)
        previous = scope or previous
    return result


def _path_scope(node: onnx.NodeProto, as_before: bool) -> str:
    """``/layer4/layer4.1/conv2/Conv`` -> ``layer4.1.conv2``; ``model/block1_conv1/Relu`` -> ``block1_conv1``.

    torch writes a container before each of its parts, by its last name: ``/stages/stages.0/blocks/blocks.1/conv`` is
    ``stages.0.blocks.1.conv``.
    """
    parts = [p for p in node.name.split("/") if p]
    if len(parts) < 2:
        return ""
    scope = ""
    for part in parts[:-1]:
        container = scope.rsplit(".", 1)[-1]
        if not scope or part.startswith(f"{scope}."):
            scope = part
        elif part.startswith(f"{container}.") and not as_before:
            scope = scope.removesuffix(container) + part
        else:
            scope = f"{scope}.{part}"
    return scope


def _shorten(scopes: list[str], as_before: bool) -> list[str]:
    """Removes a model prefix that all share, and the ``_1`` that tf2onnx then appends to every layer.

    Where a layer's own name ends so, Keras counts on: ``dense`` is ``dense_1`` then, and ``dense_1`` is ``dense_1_2``.
    """
    heads = {s.split(".", 1)[0] for s in scopes if s}
    if len(heads) != 1 or not _PREFIX.match(next(iter(heads))):
        return scopes
    scopes = [s.split(".", 1)[1] if "." in s else "" for s in scopes]
    filled = {s for s in scopes if s}
    if as_before:
        return [s.removesuffix("_1") for s in scopes] if filled and all(s.endswith("_1") for s in filled) else scopes
    layers = {s.split(".", 1)[0] for s in filled}
    stems = {_COUNTED.sub("", layer) for layer in layers}
    ones = sum(layer.endswith("_1") for layer in layers)
    mostly = ones == len(layers) or (
        2 * ones >= len(layers) and next(iter(heads)).startswith(("functional", "sequential"))
    )
    if not layers or not mostly or len(stems) < len(layers) or not all(_COUNTED.search(layer) for layer in layers):
        return scopes
    return [_COUNTED.sub("", s.split(".", 1)[0]) + s[len(s.split(".", 1)[0]) :] for s in scopes]


def _paddle_scope(node: onnx.NodeProto, made: Set[str]) -> str:
    """The layer that Paddle names a counted node's weight after: ``conv2d_12`` of ``conv2d_12.w_0``."""
    if _PADDLE_NODE.match(node.name):
        for name in node.input:
            if name not in made and (match := _PADDLE_WEIGHT.match(name)):
                return match[1]
    return ""


def _shared(nodes: Sequence[onnx.NodeProto], scopes: Sequence[str]) -> Set[str]:
    """Weights that more than one module reads: exporters store equal weights once, under the first module's name."""
    readers: dict[str, set[str]] = {}
    for node, scope in zip(nodes, scopes, strict=True):
        for name in node.input[1:]:
            if scope and _MODULE_WEIGHT.match(name):
                readers.setdefault(name, set()).add(scope)
    return frozenset(name for name, modules in readers.items() if len(modules) > 1)


def _weight_scope(node: onnx.NodeProto, shared: Set[str] = frozenset()) -> str:
    """The module that a weight of the node is named after, unless others read the weight too (``shared``)."""
    for name in node.input[1:]:
        if name not in shared and (match := _MODULE_WEIGHT.match(name)):
            return match[1]
    anonymous = _GENERIC.match(node.name) and _GENERIC.match(node.output[0])
    for name in node.input[1:] if anonymous else ():
        if match := _CAFFE2_WEIGHT.match(name):
            return match[1]
    return ""
