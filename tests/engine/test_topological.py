"""The order of computation: what it promises on any graph."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from onnx import NodeProto, helper

from convscope.engine.graph.index import topological


def _nodes(edges: set[tuple[int, int]], order: list[int]) -> list[NodeProto]:
    """Node i makes ti and reads the tensors that the edges (from, to) say, in the given order."""
    read = {i: [f"t{a}" for a, b in sorted(edges) if b == i] for i in order}
    return [helper.make_node("Sum", ["x", *read[i]], [f"t{i}"]) for i in order]


@given(st.data())
def test_every_node_comes_after_what_it_reads_and_nodes_in_order_keep_it(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    edges = data.draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    order = data.draw(st.permutations(range(count)))
    ordered, on_cycle = topological(_nodes(edges, order))
    place = {node.output[0]: i for i, node in enumerate(ordered)}
    assert on_cycle is None
    assert len(place) == count
    assert all(place[f"t{a}"] < place[f"t{b}"] for a, b in edges)
    in_order = _nodes(edges, list(range(count)))
    assert topological(in_order)[0] == in_order


@given(st.permutations(range(6)))
def test_the_tensor_that_is_named_lies_on_the_cycle(order: list[int]) -> None:
    edges = {(0, 1), (1, 2), (2, 3), (3, 1), (3, 4), (4, 5)}  # 1, 2, 3 go round
    ordered, on_cycle = topological(_nodes(edges, order))
    assert [node.output[0] for node in ordered] == ["t0"]
    assert on_cycle in {"t1", "t2", "t3"}


def test_a_long_chain_in_the_worst_order_is_sorted_at_once() -> None:
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in reversed(range(20_000))]
    begun = time.process_time()
    ordered, _ = topological(nodes)
    assert ordered == nodes[::-1]
    assert time.process_time() - begun < 5  # 0.2 s; passes over all that is left took minutes
