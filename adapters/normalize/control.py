"""Control flow becomes plain nodes: branches that are decided are taken, loops of known length are written out.

An If whose condition is known, by constants or by the shapes at the import's own size, becomes the branch that it
takes. Where it depends on the picture and both branches make tensors of the same shapes, both are computed and Where
chooses between their values. A Loop or Scan whose number of rounds is known becomes its rounds. What the picture's size
decided holds for that size alone, so the side that decided it is fixed in the input.

All of it is counted before it is written: the nodes after it stay within what `precheck` allows for a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper

from ...errors import UnsafeFile
from ..onnx.precheck import MAX_NODES, subgraphs
from .constants import constants_to_weights, fold_constants
from .draft import Draft, attribute, dense
from .shapes import settled_at

_FLOWS = ("If", "Loop", "Scan")
_SIZES, _PICKS = ("Shape", "Size"), ("Gather", "Slice", "Split")


def settle_control_flow(draft: Draft, size: tuple[int, int]) -> None:
    """Rewrites every If, Loop and Scan that can be; what is left has no converter and is refused by its name.

    Raises:
        UnsafeFile: written out, the loops have too many nodes.
    """
    for _ in range(len(_FLOWS) * 16):  # what lies inside comes out with each round; nesting is bounded by precheck
        flows = _flows(draft)
        if not flows:
            return
        known = _known_values(draft, size)
        changed = False
        for node in flows:
            written = _written_out(draft, node, known)
            if written is not None:
                _fix_deciding_sides(draft, node, size)
                place = next(i for i, n in enumerate(draft.nodes) if n is node)
                draft.nodes[place : place + 1] = written
                changed = True
                if len(draft.nodes) > MAX_NODES:
                    raise UnsafeFile(f"written out, the model's loops have more than {MAX_NODES:,} nodes")
        if not changed:
            _refuse_growth(draft)
            return
        constants_to_weights(draft)
        draft.sort()


def _flows(draft: Draft) -> list[onnx.NodeProto]:
    return [n for n in draft.nodes if n.op_type in _FLOWS and not n.domain]


def _refuse_growth(draft: Draft) -> None:
    """What undecided branches and rounds make out of constants is bounded as it is outside, though it may never run.

    Raises:
        UnsafeFile: it would be absurdly large.
    """
    for node in _flows(draft):
        for graph in subgraphs(node):
            inside = replace(draft, tensors=dict(draft.tensors), nodes=[], inlined=set(draft.inlined), notes=[])
            inside.nodes = _inlined(inside, graph, {})[0]
            constants_to_weights(inside)
            fold_constants(inside)
            _refuse_growth(inside)


Known = Callable[[str], np.ndarray | None]


def _known_values(draft: Draft, size: tuple[int, int]) -> tuple[Known, Known]:
    """(values, shapes as arrays) of tensors that do not depend on the picture's contents, nor on how many there are."""
    one, two = settled_at(draft, size, 1), settled_at(draft, size, 2)

    def value(name: str) -> np.ndarray | None:
        if one is None:
            return draft.constant(name)
        found, other = one.constant(name), two.constant(name) if two is not None else None
        return found if found is not None and (other is None or np.array_equal(found, other)) else None

    def shape(name: str) -> np.ndarray | None:
        known = one.shapes.get(name) if one is not None else None
        return None if known is None or any(d is None for d in known) else np.array(known, dtype=np.int64)

    return value, shape


def _fix_deciding_sides(draft: Draft, node: onnx.NodeProto, size: tuple[int, int]) -> None:
    """Fixes each open side of the picture that what decided the flow follows from, and says so."""
    dims = draft.inputs[0].type.tensor_type.shape.dim
    if not any(n.op_type in _SIZES for n in draft.nodes) and node.op_type != "Scan":
        return
    here = settled_at(draft, size, 1)
    for axis in (2, 3) if here is not None else ():
        if len(dims) != 4 or dims[axis].dim_value > 0:
            continue
        other = (2 * size[0], size[1]) if axis == 2 else (size[0], 2 * size[1])
        there = settled_at(draft, other, 1)  # None where the network takes no other size
        if here is not None and there is not None and _differs(draft, node, here, there):
            dims[axis].dim_value = size[axis - 2]
            draft.decided = (*draft.decided, axis)
            side = "height" if axis == 2 else "width"
            draft.notes.append(
                f"the picture's {side} decides what '{(node.name or node.output[0])[:60]}' ({node.op_type}) does, and "
                f"is fixed at {size[axis - 2]}; another size is another network: load(size=(HEIGHT, WIDTH))"
            )


def _differs(draft: Draft, node: onnx.NodeProto, here: Draft, there: Draft) -> bool:
    """Whether what decides a flow follows from something that is not the same at both sizes."""
    if node.op_type == "Scan":
        scans = int(attribute(node, "num_scan_inputs", 0))
        axes = attribute(node, "scan_input_axes") or [0] * scans
        pairs = [(here.shapes.get(n), there.shapes.get(n), a) for n, a in zip(node.input[-scans:], axes, strict=False)]
        return any(a is None or b is None or a[axis] != b[axis] for a, b, axis in pairs)
    made = {name: made_by for made_by in draft.nodes for name in made_by.output}
    waiting, seen = list(node.input[: 1 if node.op_type == "If" else 2]), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in made:
            continue
        seen.add(name)
        a, b = here.constant(name), there.constant(name)
        if made[name].op_type in (*_SIZES, *_PICKS) and a is not None and b is not None:
            if not np.array_equal(a, b):
                return True
            continue  # what is picked of a shape is the same: nothing behind it matters
        waiting += made[name].input
    return False


def _written_out(draft: Draft, node: onnx.NodeProto, known: tuple[Known, Known]) -> list[onnx.NodeProto] | None:
    """The nodes that take the place of a flow, or None where it is not decided."""
    if node.op_type == "If":
        return _branch(draft, node, known)
    if node.op_type == "Loop":
        return _rounds(draft, node, known)
    return _scanned(draft, node, known)


def _branch(draft: Draft, node: onnx.NodeProto, known: tuple[Known, Known]) -> list[onnx.NodeProto] | None:
    branches = {a.name: a.g for a in node.attribute if a.name in ("then_branch", "else_branch")}
    if len(branches) != 2:
        return None
    condition = known[0](node.input[0])
    if condition is not None and condition.size == 1:
        taken = branches["then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"]
        nodes, results = _inlined(draft, taken, {})
        return [*nodes, *(_identity(r, o) for r, o in zip(results, node.output, strict=False) if o)]
    return _both(draft, node, branches)


def _both(draft: Draft, node: onnx.NodeProto, branches: Mapping[str, onnx.GraphProto]) -> list[onnx.NodeProto] | None:
    """Both branches and a Where for each output; only where each makes a tensor of a shape that is stated alike."""
    pairs = list(zip(branches["then_branch"].output, branches["else_branch"].output, strict=False))
    if not pairs or any(_stated(a) is None or _stated(a) != _stated(b) for a, b in pairs):
        return None
    then_nodes, then_results = _inlined(draft, branches["then_branch"], {})
    else_nodes, else_results = _inlined(draft, branches["else_branch"], {})
    chosen = [
        helper.make_node("Where", [node.input[0], a, b], [o], name=f"{node.name or o}/{i}")
        for i, (a, b, o) in enumerate(zip(then_results, else_results, node.output, strict=False))
        if o
    ]
    return [*then_nodes, *else_nodes, *chosen]


def _stated(info: onnx.ValueInfoProto) -> tuple[int, tuple[int | str, ...]] | None:
    """(element type, shape) that a branch states for its output; None where an axis is open."""
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    dims = tuple(d.dim_value or d.dim_param for d in tensor.shape.dim)
    return None if any(d == "" for d in dims) else (tensor.elem_type, dims)


def _rounds(draft: Draft, node: onnx.NodeProto, known: tuple[Known, Known]) -> list[onnx.NodeProto] | None:
    """A Loop: inputs are the number of rounds, the condition, and what is carried from round to round."""
    body = next((a.g for a in node.attribute if a.name == "body"), None)
    count = known[0](node.input[0]) if node.input and node.input[0] else None
    start = known[0](node.input[1]) if len(node.input) > 1 and node.input[1] else np.array(True)
    if body is None or count is None or count.size != 1 or start is None or not _goes_on(body):
        return None
    rounds = int(count.reshape(-1)[0]) if bool(start.reshape(-1)[0]) else 0
    _affordable(draft, node, body, rounds)
    carried = list(node.input[2:])
    nodes: list[onnx.NodeProto] = []
    pieces: list[list[str]] = [[] for _ in body.output[1 + len(carried) :]]
    for i in range(max(rounds, 0)):
        number, condition = draft.fresh(f"{node.output[0]}/round"), draft.fresh(f"{node.output[0]}/goes_on")
        draft.set_constant(number, np.array(i, dtype=np.int64))
        draft.set_constant(condition, np.array(True))
        names = dict(zip((i.name for i in body.input), [number, condition, *carried], strict=False))
        inner, results = _inlined(draft, body, names, round_=i)
        nodes += inner
        carried = results[1 : 1 + len(carried)]
        for found, result in zip(pieces, results[1 + len(carried) :], strict=True):
            found.append(result)
    return _gathered(draft, node, nodes, carried, pieces, [0] * len(pieces))


def _scanned(draft: Draft, node: onnx.NodeProto, known: tuple[Known, Known]) -> list[onnx.NodeProto] | None:
    """A Scan (since opset 9): states first, then tensors that are taken apart along an axis."""
    body = next((a.g for a in node.attribute if a.name == "body"), None)
    scans = int(attribute(node, "num_scan_inputs", 0))
    if body is None or draft.opset < 9 or not 0 < scans <= len(node.input):
        return None
    states, sequences = list(node.input[:-scans]), list(node.input[-scans:])
    shapes = [known[1](name) for name in sequences]
    axes = list(attribute(node, "scan_input_axes") or [0] * scans)
    back = list(attribute(node, "scan_input_directions") or [0] * scans)
    if any(s is None or not -len(s) <= a < len(s) for s, a in zip(shapes, axes, strict=True)):
        return None
    rounds = min(int(s[a]) for s, a in zip(shapes, axes, strict=True) if s is not None)
    _affordable(draft, node, body, rounds)
    nodes: list[onnx.NodeProto] = []
    carried, pieces = states, [[] for _ in body.output[len(states) :]]  # type: list[str], list[list[str]]
    for i in range(rounds):
        taken = []
        for sequence, axis, is_reversed in zip(sequences, axes, back, strict=True):
            place, piece = draft.fresh(f"{node.output[0]}/place"), draft.fresh(f"{sequence}/step")
            draft.set_constant(place, np.array(rounds - 1 - i if is_reversed else i, dtype=np.int64))
            nodes.append(helper.make_node("Gather", [sequence, place], [piece], name=piece, axis=axis))
            taken.append(piece)
        names = dict(zip((v.name for v in body.input), [*carried, *taken], strict=False))
        inner, results = _inlined(draft, body, names, round_=i)
        nodes += inner
        carried = results[: len(states)]
        for found, result in zip(pieces, results[len(states) :], strict=True):
            found.append(result)
    out_axes = list(attribute(node, "scan_output_axes") or [0] * len(pieces))
    turned = list(attribute(node, "scan_output_directions") or [0] * len(pieces))
    ordered = [p[::-1] if t else p for p, t in zip(pieces, turned, strict=True)]
    return _gathered(draft, node, nodes, carried, ordered, out_axes)


def _gathered(
    draft: Draft,
    node: onnx.NodeProto,
    nodes: list[onnx.NodeProto],
    carried: Sequence[str],
    pieces: Sequence[Sequence[str]],
    axes: Sequence[int],
) -> list[onnx.NodeProto] | None:
    """The rounds, the last states under the flow's outputs' names, and what each round gave out put together."""
    results = list(node.output)
    nodes += [_identity(name, result) for name, result in zip(carried, results, strict=False) if result]
    for found, result, axis in zip(pieces, results[len(carried) :], axes, strict=False):
        if not result:
            continue
        if not found:
            return None  # an empty tensor of a shape that nothing says
        place = draft.fresh(f"{result}/axis")
        draft.set_constant(place, np.array([axis], dtype=np.int64))
        singles = []
        for piece in found:
            single = draft.fresh(f"{piece}/one")
            ax: list[str] = [place] if draft.opset >= 13 else []
            made = helper.make_node("Unsqueeze", [piece, *ax], [single], name=single)
            if draft.opset < 13:
                made.attribute.append(helper.make_attribute("axes", [axis]))
            nodes.append(made)
            singles.append(single)
        nodes.append(helper.make_node("Concat", singles, [result], name=result, axis=axis))
    return nodes


def _goes_on(body: onnx.GraphProto) -> bool:
    """Whether a Loop's body never ends it: the condition that it gives out is true or the one that it was given."""
    result = body.output[0].name if body.output else ""
    given = body.input[1].name if len(body.input) > 1 else ""
    made = {o: n for n in body.node for o in n.output}
    while result in made and made[result].op_type in ("Identity", "Cast"):
        result = made[result].input[0]
    if result == given:
        return True
    node = made.get(result)
    if node is not None and node.op_type == "Constant":
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        return value is not None and bool(np.all(onnx.numpy_helper.to_array(value)))
    return any(t.name == result and bool(np.all(onnx.numpy_helper.to_array(t))) for t in body.initializer)


def _affordable(draft: Draft, node: onnx.NodeProto, body: onnx.GraphProto, rounds: int) -> None:
    if len(draft.nodes) + rounds * (len(body.node) + 2 * len(body.output) + 1) > MAX_NODES:
        raise UnsafeFile(
            f"operator {node.op_type} (node '{node.name[:60]}') runs {rounds:,} rounds of {len(body.node)} nodes; "
            f"written out, a model may have {MAX_NODES:,}"
        )


def _inlined(
    draft: Draft, graph: onnx.GraphProto, names: Mapping[str, str], round_: int | None = None
) -> tuple[list[onnx.NodeProto], list[str]]:
    """A copy of a subgraph's nodes for the outer graph, and the names of its outputs there.

    Tensors keep their names where those are free; in a loop each round's have its number.

    Args:
        draft: takes the constants, and gives fresh names.
        graph: the subgraph.
        names: the subgraph's inputs -> tensors of the outer graph.
        round_: of a loop, counted from 0; None outside loops.
    """
    taken = draft.tensors.keys() | {o for n in draft.nodes for o in n.output} | {i.name for i in draft.inputs}
    renamed = dict(names)

    def own(name: str) -> str:
        wanted = name if round_ is None else f"{name}/{round_}"
        return wanted if wanted not in taken and wanted not in draft.inlined else draft.fresh(wanted)

    sparse = {s.values.name: s for s in graph.sparse_initializer}
    for name in (*(t.name for t in graph.initializer), *sparse, *(o for n in graph.node for o in n.output)):
        if name and name not in renamed:
            renamed[name] = own(name)
            draft.inlined.add(renamed[name])
    for tensor in graph.initializer:
        value = onnx.TensorProto()
        value.CopyFrom(tensor)
        value.name = renamed[tensor.name]
        draft.tensors[value.name] = value
    for name, tensor in sparse.items():
        draft.set_constant(renamed[name], dense(tensor))
    nodes = []
    for node in graph.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        _rename(copied, renamed)
        nodes.append(copied)
    return nodes, [renamed.get(o.name, o.name) for o in graph.output]


def _rename(node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
    """New names for what a node reads and makes; inside its own subgraphs for what they read from outside."""
    for field in (node.input, node.output):
        for i, name in enumerate(field):
            field[i] = renamed.get(name, name)
    for entry in node.attribute:
        for graph in [entry.g] if entry.type == onnx.AttributeProto.GRAPH else list(entry.graphs):
            inner = {o for n in graph.node for o in n.output} | {t.name for t in graph.initializer}
            inner |= {i.name for i in graph.input}
            outer = {k: v for k, v in renamed.items() if k not in inner}
            for n in graph.node:
                _rename(n, outer)
            for output in graph.output:
                output.name = outer.get(output.name, output.name)


def _identity(source: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Identity", [source], [result], name=result)
