"""Changes of a fuzzer's input that keep its structure: a JSON tree, an ONNX graph."""

from __future__ import annotations

import copy
import json
import random
from contextlib import suppress
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

_NUMBERS = (0, 1, -1, 2, 3, 7, 64, 255, 2**16, 2**20, 2**31 - 1, -(2**31), 2**32, 2**40, 2**63 - 1, -(2**63))
_VALUES: tuple[Any, ...] = (
    *_NUMBERS, 0.5, 1e308, -1e308, float("nan"), float("inf"), None, True, False, "", "x", "float16", "same", "a" * 300,
    [], {}, [[]], [1, 2], {"class_name": "Dense", "config": {}}, "../../etc/passwd", 10**40,
)  # fmt: skip
_OPERATORS = sorted(
    {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""} - {"If", "Loop", "Scan", "SequenceMap", "Optional"}
)


def _bytes_changed(data: bytes, size: int) -> bytes:
    import atheris

    return bytes(atheris.Mutate(data, size))


def mutate_json(data: bytes, size: int, seed: int) -> bytes:
    """One to three changes of the tree; of the bytes where it is none."""
    rng = random.Random(seed)
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _bytes_changed(data, size)
    if rng.random() < 0.05:
        return _bytes_changed(data, size)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(tree))
        if not places:
            break
        holder, key = rng.choice(places)
        what = rng.random()
        if what < 0.45:
            holder[key] = copy.deepcopy(rng.choice(_VALUES))  # a later change may go into it
        elif what < 0.65:
            other, name = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[name]))
        elif what < 0.75 and isinstance(holder, dict):
            other, name = rng.choice(places)
            holder[str(name) if isinstance(name, str) else str(rng.choice(_VALUES))[:40]] = holder.pop(key)
        elif what < 0.85:
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, json.loads(json.dumps(holder[key])))
        else:
            holder[key] = [holder[key]]
    text = json.dumps(tree).encode()
    return text if len(text) <= size else data


def _places(tree: Any) -> Any:
    """(holder, key) of every value of a tree."""
    stack = [tree]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            yield holder, key
            stack.append(holder[key])


def mutate_onnx(data: bytes, size: int, seed: int) -> bytes:
    """One to four changes of the graph; of the bytes where it is none."""
    rng = random.Random(seed)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:
        return _bytes_changed(data, size)
    if rng.random() < 0.05 or not model.graph.node:
        return _bytes_changed(data, size)
    for _ in range(rng.randint(1, 4)):
        changes = (_change_operator, _change_attribute, _change_wire, _change_weight, _change_input, _add_node)
        with suppress(UnicodeDecodeError):  # a name that an earlier change has made no text cannot be written again
            rng.choice(changes)(model, rng)
    text = bytes(model.SerializeToString())
    return text if len(text) <= size else data


def _change_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(_OPERATORS)


def _change_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    if not node.attribute or rng.random() < 0.2:
        schema = next((s for s in onnx.defs.get_all_schemas() if s.name == node.op_type), None)
        names = sorted(schema.attributes) if schema else []
        if names:
            value: Any = rng.choice(
                (rng.choice(_NUMBERS[:14]), [rng.choice(_NUMBERS[:8]) for _ in range(rng.randint(1, 4))])
            )
            node.attribute.append(helper.make_attribute(rng.choice(names), value))
        return
    entry = rng.choice(node.attribute)
    number = rng.choice(_NUMBERS)
    if entry.type == AttributeProto.INT:
        entry.i = max(min(number, 2**63 - 1), -(2**63))
    elif entry.type == AttributeProto.INTS and entry.ints:
        entry.ints[rng.randrange(len(entry.ints))] = max(min(number, 2**63 - 1), -(2**63))
    elif entry.type == AttributeProto.FLOAT:
        entry.f = float(rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf"))))
    elif entry.type == AttributeProto.STRING:
        entry.s = rng.choice((b"", b"SAME_UPPER", b"VALID", b"linear", b"cubic", b"i,j->ij", b"\xff", b"nearest"))
    else:
        node.attribute.remove(entry)


def _tensors(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    made = [name for node in graph.node for name in node.output]
    return [*(i.name for i in graph.input), *(t.name for t in graph.initializer), *made]


def _change_wire(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    if node.input and rng.random() < 0.7:
        node.input[rng.randrange(len(node.input))] = rng.choice(_tensors(model))
    elif rng.random() < 0.5:
        node.input.append(rng.choice(_tensors(model)))
    elif len(model.graph.node) > 1:
        model.graph.node.remove(node)


def _change_weight(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    what = rng.random()
    if what < 0.4 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = abs(rng.choice(_NUMBERS[:12]))
    elif what < 0.7 and tensor.raw_data:
        width = 8 if tensor.data_type == TensorProto.INT64 else 4
        raw = bytearray(tensor.raw_data)
        at = rng.randrange(max(1, len(raw) // width)) * width
        raw[at : at + width] = (rng.choice(_NUMBERS) & (256**width - 1)).to_bytes(width, "little")[: len(raw) - at]
        tensor.raw_data = bytes(raw)
    elif what < 0.85:
        tensor.data_type = rng.randint(0, 24)
    else:
        tensor.name = rng.choice(_tensors(model))


def _change_input(model: onnx.ModelProto, rng: random.Random) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim if model.graph.input else []
    if dims and rng.random() < 0.7:
        slot = rng.choice(dims)
        if rng.random() < 0.3:
            slot.dim_param = rng.choice(("N", "H", "", "x" * 20))
        else:
            slot.dim_value = rng.choice(_NUMBERS[:13])
    elif model.graph.input and rng.random() < 0.5 and len(dims) < 8:
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = rng.choice(_NUMBERS[:6])
    else:
        model.graph.input.append(helper.make_tensor_value_info(f"extra{rng.randint(0, 9)}", TensorProto.FLOAT, [1, 3]))


def _add_node(model: onnx.ModelProto, rng: random.Random) -> None:
    """A node of any operator somewhere, whose output takes the place of one that it reads."""
    at = rng.randrange(len(model.graph.node))
    name = f"new{rng.getrandbits(32)}"
    known = _tensors(model)
    inputs = [rng.choice(known) for _ in range(rng.randint(1, 3))]
    follower = model.graph.node[at]
    if follower.input:
        inputs[0] = follower.input[0]
        follower.input[0] = name
    node = helper.make_node(rng.choice(_OPERATORS), inputs, [name])
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:at], node, *nodes[at:]])
