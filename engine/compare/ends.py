"""The outputs of two networks: which stands for which, and whether what stands behind the last layers differs.

Nodes that only move values are no operations, so that exports that write them differently have the same layers. Behind
the last layer nothing would tell that they differ, if the outputs were not compared themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from .align import Pair
from .cause import Cause
from .operations import CommonForm, Operation
from .result import FirstDifference

MOVED = Cause("output", "what stands behind the last layer gives its values otherwise: moved, cut or in another order")


def ends(networks: tuple[CommonForm, CommonForm], pairs: Sequence[Pair]) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Outputs of A and B that stand for each other, and what is said of others.

    Args:
        networks: A and B.
        pairs: all aligned operations.

    Returns:
        Pairs of operations whose ``tensor`` is the output, but those that are the results of a pair already; and a
        sentence for each output that only one of the models gives, and for those in another order.
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
    by_name = all(made[0][i][0] == made[1][j][0] for i, j in found)
    if not by_name and [j for _, j in found] != sorted(j for _, j in found):
        listed = ", ".join(f"{made[0][i][0]} is {made[1][j][0]}" for i, j in found)
        notes.append(f"the outputs stand in another order: of A and B {listed}")
    behind = []
    for i, j in found:
        (one, last_a), (two, last_b) = made[0][i], made[1][j]
        if last_a is not None and last_b is not None and (one, two) != (last_a.tensor, last_b.tensor):
            behind.append(Pair(_as_output(networks[0], one, last_a), _as_output(networks[1], two, last_b), "structure"))
    return tuple(behind), tuple(notes)


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
    node = network.producer.get(name, last.node)
    return Operation("output", network.layer_name(name), name, (last.tensor,), node)
