"""Static checks of an ONNX model before anything is inferred, folded or run.

Shape inference, the checker and ONNX Runtime expand nested local functions without a bound: 2,670 bytes can
mean 2^30 nodes. Everything that could make a later stage explode is counted here first, without running it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import onnx
from onnx import AttributeProto, TensorProto

from ...engine.graph.index import topological
from ...errors import RefusedInput, UnsafeFile
from .signatures import check_signatures
from .sizes import check_sizes

MAX_NODES = 20_000  # the deepest networks have some 5,000; this many still load in about 20 seconds
MAX_NAME = 10_000
MAX_OP_NAME = 200
MAX_RANK = 64  # NumPy's limit
MAX_ENTRIES = 100_000  # weights, inputs, functions, operator sets, metadata and the like: each of them
MAX_LISTED = 100_000  # nodes that a file lists, in functions that nothing calls too
MAX_PORTS, MAX_ALL_PORTS = 10_000, 500_000  # inputs and outputs of one node, and of all
MAX_BLOCK = 2**16
MAX_DEPTH = 16
MAX_TENSOR_BYTES = 2**32
MAX_SPARSITY, FREE_BYTES = 100, 2**26  # a sparse tensor may grow so many times, or to so many bytes
OLDEST_OPSET = 7
DOMAINS = {"", "ai.onnx", "com.microsoft", "ai.onnx.ml"}

_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.UINT8: 8, TensorProto.INT8: 8, TensorProto.UINT16: 16,
    TensorProto.INT16: 16, TensorProto.INT32: 32, TensorProto.INT64: 64, TensorProto.BOOL: 8,
    TensorProto.FLOAT16: 16, TensorProto.DOUBLE: 64, TensorProto.UINT32: 32, TensorProto.UINT64: 64,
    TensorProto.COMPLEX64: 64, TensorProto.COMPLEX128: 128, TensorProto.BFLOAT16: 16,
    TensorProto.FLOAT8E4M3FN: 8, TensorProto.FLOAT8E4M3FNUZ: 8, TensorProto.FLOAT8E5M2: 8,
    TensorProto.FLOAT8E5M2FNUZ: 8, TensorProto.UINT4: 4, TensorProto.INT4: 4,
}  # fmt: skip
# the typed field that holds a data type's values, and how many entries one element takes
_FIELDS: dict[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 1), TensorProto.COMPLEX64: ("float_data", 2),
    TensorProto.DOUBLE: ("double_data", 1), TensorProto.COMPLEX128: ("double_data", 2),
    TensorProto.INT64: ("int64_data", 1), TensorProto.UINT32: ("uint64_data", 1),
    TensorProto.UINT64: ("uint64_data", 1),
}  # fmt: skip


def item_bits(data_type: int) -> int:
    """Bits of one element of an ONNX tensor type (0 for types that are unknown)."""
    return _BITS.get(data_type, 0)


def precheck(model: onnx.ModelProto, where: str) -> None:
    """Refuses what could exhaust the machine or is not what it says.

    Raises:
        UnsafeFile: too many nodes after function expansion, too deep, absurd tensor sizes.
        RefusedInput: unknown operator set or domain, tensors whose bytes do not fit their shape,
            nodes that are not as their operators are declared,
            a graph that is not a graph (a cycle, a value computed twice, a missing value).
    """
    _check_lengths(model, where)
    _check_opsets(model, where)
    _check_functions(model, where)
    opset = next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))
    check_signatures(_all_nodes(model), opset, {(_domain(f), f.name) for f in model.functions}, where)
    _check_tensors(model, where)
    _check_sparse(model, where)
    _check_wiring(model.graph, where)
    for graph in (model.graph, *model.functions):
        if (name := topological(graph.node)[1]) is not None:
            raise RefusedInput(f"{where}: the graph has a cycle through tensor '{name[:80]}'; it can never be computed")
    weights = {t.name for t in model.graph.initializer}
    pixels = [i.name for i in model.graph.input if i.name not in weights]
    check_sizes(model.graph.node, pixels, where, model.functions)
    if not model.graph.output:
        raise RefusedInput(f"{where}: the graph has no output")


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a node's attributes (If, Loop, Scan)."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def every_tensor(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """All tensors of the model: initializers and attributes, in subgraphs and functions too."""
    stack: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while stack:
        graph = stack.pop()
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield sparse.values
                yield sparse.indices
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    if sparse.HasField("values"):
                        yield sparse.values
                        yield sparse.indices
            stack.extend(subgraphs(node))


def _check_lengths(model: onnx.ModelProto, where: str) -> None:
    """Bounds what is listed and named: lists are walked often, and names are shown."""
    graph = model.graph
    for name in (graph.name, model.producer_name, model.producer_version, model.domain):
        _check_name(name, "graph or producer", where)
    lists = {
        "functions": model.functions, "weights": graph.initializer, "inputs": graph.input, "outputs": graph.output,
        "noted shapes": graph.value_info, "operator sets": model.opset_import, "metadata": model.metadata_props,
        "quantized tensors": graph.quantization_annotation, "trainings": model.training_info,
    }  # fmt: skip
    for title, entries in lists.items():
        if len(entries) > MAX_ENTRIES:
            raise UnsafeFile(f"{where} lists {len(entries):,} {title}; at most {MAX_ENTRIES:,} are read")
    for entry in model.metadata_props:
        if not (isinstance(entry.key, str) and isinstance(entry.value, str)):
            raise RefusedInput(f"{where}: its metadata are no UTF-8 text")
    for opset in model.opset_import:
        _check_name(opset.domain, "domain", where)
    for info in (*graph.input, *graph.output, *graph.value_info):
        _check_name(info.name, "tensor", where)
        for dim in info.type.tensor_type.shape.dim:
            _check_name(dim.dim_param, "dimension", where)
        if len(info.type.tensor_type.shape.dim) > MAX_RANK:
            raise UnsafeFile(f"{where}: tensor '{info.name[:80]}' has more than {MAX_RANK} dimensions")
    for tensor in every_tensor(model):
        _check_name(tensor.name, "tensor", where)
        if len(tensor.dims) > MAX_RANK:
            raise UnsafeFile(f"{where}: tensor '{tensor.name[:80]}' has more than {MAX_RANK} dimensions")
    nodes = ports = 0
    for node in _all_nodes(model):
        own = len(node.input) + len(node.output)
        nodes, ports = nodes + 1, ports + own
        if nodes > MAX_LISTED:
            raise UnsafeFile(f"{where} lists more than {MAX_LISTED:,} nodes; at most {MAX_NODES:,} are computed")
        if own > MAX_PORTS or ports > MAX_ALL_PORTS:
            raise UnsafeFile(
                f"{where}: node '{node.name[:60]}' ({node.op_type[:60]}) has {own:,} inputs and outputs, all so far "
                f"{ports:,}; at most {MAX_PORTS:,} and {MAX_ALL_PORTS:,} are read"
            )
        for kind in (node.op_type, node.domain):
            _check_name(kind, "operator's", where)
        if len(node.op_type) > MAX_OP_NAME or len(node.domain) > MAX_OP_NAME:
            raise UnsafeFile(f"{where}: an operator's name has more than {MAX_OP_NAME} characters")
        for name in (node.name, *node.input, *node.output):
            _check_name(name, "tensor or node", where)
        for entry in node.attribute:
            _check_name(entry.name, "attribute", where)
        if any(entry.name == "blocksize" and abs(entry.i) > MAX_BLOCK for entry in node.attribute):
            raise UnsafeFile(f"{where}: node '{node.name[:60]}' ({node.op_type}) has an absurd blocksize")


def _check_name(name: str | bytes, kind: str, where: str) -> None:
    if not isinstance(name, str):  # protobuf hands over as bytes what is no UTF-8
        raise RefusedInput(f"{where}: a {kind} name is no UTF-8 text: {name[:60].decode(errors='backslashreplace')}")
    if len(name) > MAX_NAME:
        raise UnsafeFile(f"{where}: a {kind} name has {len(name):,} characters")


def _check_opsets(model: onnx.ModelProto, where: str) -> None:
    local = {f.domain for f in model.functions}
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain not in DOMAINS | local and not entry.domain.startswith("pkg."):
            continue  # an imported domain that no node uses is harmless
        if entry.domain in ("", "ai.onnx") and not OLDEST_OPSET <= entry.version <= newest:
            raise RefusedInput(
                f"{where}: opset {entry.version} is outside {OLDEST_OPSET} to {newest}; "
                "export the model again with a newer opset"
                if entry.version < OLDEST_OPSET
                else f"{where}: opset {entry.version} is newer than the newest known ({newest}); upgrade onnx"
            )
    if not any(e.domain in ("", "ai.onnx") for e in model.opset_import):
        raise RefusedInput(f"{where}: the model names no ONNX operator set")
    for node in _all_nodes(model):
        if node.domain not in DOMAINS and node.domain not in local:
            raise RefusedInput(
                f"{where}: operator '{node.op_type[:60]}' of domain '{node.domain[:60]}' "
                f"(node '{node.name[:60]}') is not supported"
            )


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    stack: list[tuple[onnx.GraphProto | onnx.FunctionProto, int]] = [(model.graph, 0)]
    stack += [(f, 0) for f in model.functions]
    while stack:
        graph, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise UnsafeFile(f"the model nests graphs more than {MAX_DEPTH} deep")
        for node in graph.node:
            yield node
            stack.extend((g, depth + 1) for g in subgraphs(node))


def _check_functions(model: onnx.ModelProto, where: str) -> None:
    """Counts the nodes after expansion without expanding, each function once (memo), cycles refused."""
    functions = {(_domain(f), f.name, f.overload): f for f in model.functions}
    if len(functions) < len(model.functions):
        raise RefusedInput(f"{where}: a function is defined twice")
    sizes: dict[tuple[str, str, str], int] = {}
    active: set[tuple[str, str, str]] = set()

    def size(graph: onnx.GraphProto | onnx.FunctionProto) -> int:
        total = 0
        for node in graph.node:
            key = (_domain(node), node.op_type, node.overload)
            total += 1 + (call(key) if key in functions else 0)  # a call counts: functions may be empty
            total += sum(size(g) for g in subgraphs(node))
        return total

    def call(key: tuple[str, str, str]) -> int:
        if key in active or len(active) > 100:
            raise UnsafeFile(f"{where}: function '{key[1][:60]}' calls itself, or functions nest too deep")
        if key not in sizes:
            active.add(key)
            sizes[key] = size(functions[key])
            active.discard(key)
        return sizes[key]

    total = size(model.graph)
    if total > MAX_NODES:
        shown = f"{total:,}" if total < 10**15 else "more than 10^15"
        raise UnsafeFile(f"{where}: {shown} nodes after expanding its functions; at most {MAX_NODES:,} are read")


def _domain(named: onnx.NodeProto | onnx.FunctionProto) -> str:
    return "" if named.domain == "ai.onnx" else named.domain


def _check_tensors(model: onnx.ModelProto, where: str) -> None:
    for tensor in every_tensor(model):
        name = tensor.name[:80]
        if any(dim < 0 for dim in tensor.dims):
            raise RefusedInput(f"{where}: tensor '{name}' has a negative dimension {list(tensor.dims)[:8]}")
        elements = prod(tensor.dims)
        if tensor.data_type == TensorProto.STRING:
            stored, expected = len(tensor.string_data), elements
        elif not item_bits(tensor.data_type):
            raise RefusedInput(f"{where}: tensor '{name}' has the unknown data type {tensor.data_type}")
        else:
            expected = (elements * item_bits(tensor.data_type) + 7) // 8
            if expected > MAX_TENSOR_BYTES:
                raise UnsafeFile(f"{where}: tensor '{name}' of shape {list(tensor.dims)[:8]} is absurdly large")
            if tensor.data_location == TensorProto.EXTERNAL:
                continue
            stored, expected = _stored(tensor, elements, expected)
        if stored != expected:
            raise RefusedInput(
                f"{where}: tensor '{name}' of shape {list(tensor.dims)[:8]} holds {stored} instead of {expected} "
                "values or bytes; the file is corrupt"
            )


def _check_sparse(model: onnx.ModelProto, where: str) -> None:
    """Sparse tensors are made dense: refused where a few bytes would become very many."""
    listed = [*model.graph.sparse_initializer]
    for node in _all_nodes(model):
        for entry in node.attribute:
            listed += [entry.sparse_tensor] if entry.HasField("sparse_tensor") else []
            listed += entry.sparse_tensors
    for sparse in listed:
        stored = len(sparse.values.raw_data) + 4 * prod(sparse.values.dims)
        dense = prod(max(dim, 0) for dim in sparse.dims[: MAX_RANK + 1])
        dense *= max(item_bits(sparse.values.data_type), 8) // 8
        if dense > FREE_BYTES + MAX_SPARSITY * stored or len(sparse.dims) > MAX_RANK:
            raise UnsafeFile(
                f"{where}: sparse tensor '{sparse.values.name[:80]}' of shape {list(sparse.dims)[:8]} is absurdly large"
            )


def _stored(tensor: TensorProto, elements: int, raw_bytes: int) -> tuple[int, int]:
    """(what the tensor holds, what it should hold), in bytes for raw data and in entries for typed data."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data), raw_bytes
    field, entries = _FIELDS.get(tensor.data_type, ("int32_data", 1))
    if item_bits(tensor.data_type) == 4:
        return len(getattr(tensor, field)), (elements + 1) // 2
    return len(getattr(tensor, field)), elements * entries


def _check_wiring(graph: onnx.GraphProto, where: str) -> None:
    known = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    known |= {s.values.name for s in graph.sparse_initializer} | {""}
    made: set[str] = set()
    for node in graph.node:
        for name in node.output:
            if name and (name in made or name in known):
                raise RefusedInput(f"{where}: tensor '{name[:80]}' is computed twice")
            made.add(name)
    for name in (n for node in graph.node for n in node.input):
        if name not in known and name not in made:
            raise RefusedInput(f"{where}: tensor '{name[:80]}' is used but never computed")
    for output in graph.output:
        if output.name not in known and output.name not in made:
            raise RefusedInput(f"{where}: output '{output.name[:80]}' is never computed")
