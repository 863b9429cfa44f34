"""The outputs of two networks: which stands for which, and whether what stands behind the last layers differs.

Nodes that only move values are no operations, so that exports that write them differently have the same layers. Behind
the last layer nothing would tell that they differ, if the outputs were not compared themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .align import Pair
from .cause import Cause
from .operations import CommonForm, Operation
from .result import FirstDifference


@dataclass(frozen=True, eq=False)
class Ends:
    """How the outputs of two networks correspond.

    Attributes:
        behind: outputs that stand for each other, as pairs of operations whose ``tensor`` is the output; but those that
            are the results of a pair already.
        notes: a sentence for each output that only one of the models gives, and for those in another order.
        exchanged: where a name means another output in B than in A, or None.
    """

    behind: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = ()
    exchanged: FirstDifference | None = None


def differs(end: Pair) -> Cause:
    """What is said of outputs whose values differ: what stands behind the last layer, in A and in B."""
    after = []
    for side in (end.a, end.b):
        kinds = side.attributes["behind"]
        after.append(", ".join(kinds) if isinstance(kinds, list) and kinds else "nothing")
    return Cause("output", f"behind the last layer stands {after[0]} in A, {after[1]} in B: the values are others")


def ends(networks: tuple[CommonForm, CommonForm], pairs: Sequence[Pair]) -> Ends:
    """The outputs of A and B that stand for each other, told by the operations that make them.

    Args:
        networks: A and B.
        pairs: all aligned operations.
    """
    made = [[(o.name, network.maker(o.name)) for o in network.graph.outputs] for network in networks]
    partner = {id(p.a): p.b for p in pairs}
    found: list[tuple[int, int]] = []
    for i, (name, maker) in enumerate(made[0]):
        free = [
            j
            for j, (_, other) in enumerate(made[1])
            if other is not None and other is partner.get(id(maker)) and j not in {taken for _, taken in found}
        ]
        if free:
            found.append((i, next((j for j in free if made[1][j][0] == name), free[0])))
    notes = [
        f"output '{name}' of {where} is none of {other}'s outputs and was not compared"
        for side, where, other in ((0, "A", "B"), (1, "B", "A"))
        for k, (name, _) in enumerate(made[side])
        if k not in {pair[side] for pair in found}
    ]
    others = [(made[0][i][0], made[1][j][0]) for i, j in found if made[0][i][0] != made[1][j][0]]
    exchanged = None
    if others and [j for _, j in found] != sorted(j for _, j in found):
        listed = ", ".join(f"{one} of A is {two} of B" for one, two in others)
        said = f"the outputs stand in another order: {listed}"
        if {one for one, _ in others} & {name for name, _ in made[1]}:
            exchanged = FirstDifference(*others[0], float("inf"), (Cause("output order", said),))
        else:
            notes.append(said)
    behind = []
    for i, j in found:
        (one, last_a), (two, last_b) = made[0][i], made[1][j]
        if last_a is not None and last_b is not None and (one, two) != (last_a.tensor, last_b.tensor):
            behind.append(Pair(_as_output(networks[0], one, last_a), _as_output(networks[1], two, last_b), "structure"))
    return Ends(tuple(behind), tuple(notes), exchanged)


def ending(networks: tuple[CommonForm, CommonForm], pairs: Sequence[Pair]) -> FirstDifference | None:
    """A model that goes on behind the other's last layer, or has a head that the other has not."""
    paired = {id(s) for p in pairs for s in (p.a, p.b)}
    for place in range(max(len(network.graph.outputs) for network in networks)):
        last = [n.maker(n.graph.outputs[min(place, len(n.graph.outputs) - 1)].name) for n in networks]
        found = [
            Cause("missing layer", f"{s.kind} '{s.name}' ends {where} and has no counterpart in {other}")
            for s, where, other in ((last[0], "A", "B"), (last[1], "B", "A"))
            if s is not None and id(s) not in paired
        ]
        if found and last[0] is not None and last[1] is not None:
            return FirstDifference(last[0].name, last[1].name, float("inf"), tuple(found))
    return None


def _as_output(network: CommonForm, name: str, last: Operation) -> Operation:
    node, kinds, tensor = network.producer.get(name, last.node), list[str](), name
    while tensor != last.tensor:
        made = network.producer[tensor]
        kinds.insert(0, made.op_type)
        tensor = made.input[0]
    return Operation("output", network.layer_name(name), name, (last.tensor,), node, {"behind": kinds})
