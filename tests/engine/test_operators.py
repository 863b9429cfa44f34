"""The operator table and the index: every convertible operator has a row, and what a row leaves out is unknown."""

from __future__ import annotations

from dataclasses import fields

import onnx
import pytest
from onnx import TensorProto, helper

from convscope.adapters.twin.bridge import TRUSTED
from convscope.adapters.twin.converters import CONVERTERS
from convscope.engine.graph.index import Index, attributes, reads
from convscope.engine.graph.operators import OPERATORS, UNKNOWN, Operator, operator
from convscope.errors import UsageError


@pytest.mark.parametrize("key", sorted({*CONVERTERS, *(("", op) for op in TRUSTED)}), ids=lambda k: ".".join(k))
def test_every_converters_operator_has_a_row_that_says_its_family(key: tuple[str, str]) -> None:
    assert OPERATORS[key].family is not None


def test_what_a_row_leaves_out_is_unknown_and_not_false() -> None:
    assert all(getattr(UNKNOWN, field.name) is None for field in fields(Operator))
    assert operator(helper.make_node("NeverHeardOf", ["x"], ["y"])) is UNKNOWN
    assert operator(helper.make_node("Relu", ["x"], ["y"], domain="someone.else")) is UNKNOWN


def test_only_onnx_knows_its_own_domain_by_two_names() -> None:
    assert operator(helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")) is OPERATORS["", "Relu"]


@pytest.mark.parametrize("key", sorted(key for key in OPERATORS if not key[0]), ids=lambda k: k[1])
def test_a_row_is_about_an_operator_that_onnx_has(key: tuple[str, str]) -> None:
    assert onnx.defs.has(key[1])


@pytest.mark.parametrize("key", sorted(OPERATORS), ids=lambda k: ".".join(k))
def test_the_traits_of_a_row_agree_with_one_another(key: tuple[str, str]) -> None:
    row = OPERATORS[key]
    if row.elementwise:
        assert row.positions == "kept" and row.batch == "separate" and row.broadcasts is not None
    if row.gate or row.rectifier:
        assert row.elementwise and row.gradient
    if row.preserves:
        assert row.neutral or row.positions == "moved"
    if row.numbers:
        schema = onnx.defs.get_schema(key[1])
        assert max(row.numbers) < 5 and schema.max_input > min(row.numbers)


@pytest.fixture
def index() -> Index:
    """x -> a -> b -> y, with c beside it, read inside an If alone."""
    inner = helper.make_graph([helper.make_node("Add", ["c", "b"], ["inner"])], "then", [], [_info("inner")])
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["x"], ["c"]),
        helper.make_node("Mul", ["a", "w"], ["b"]),
        helper.make_node("If", ["condition"], ["y"], then_branch=inner, else_branch=inner),
    ]
    weights = [helper.make_tensor(name, TensorProto.FLOAT, [1], [2.0]) for name in ("w", "condition")]
    return Index(helper.make_graph(nodes, "g", [_info("x")], [_info("y")], weights))


def _info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])


def test_the_index_knows_what_subgraphs_read(index: Index) -> None:
    assert [node.op_type for node in index.readers["c"]] == ["If"]
    assert index.ancestors("y") == {"y", "condition", "b", "c", "a", "w", "x"}
    assert index.descendants("a") == {"a", "b", "y"}
    assert index.sides(["a"], ["y"]) == ("c",)


def test_the_index_cuts_between_tensors(index: Index) -> None:
    assert [node.op_type for node in index.between(["a"], ["b"])] == ["Mul"]
    with pytest.raises(UsageError, match="tensor 'x' cannot be computed from a"):
        index.between(["a"], ["y"])
    assert index.sides(["b"], ["a"]) is None  # it has no influence there


def test_constants_and_settings_are_read_by_one_name(index: Index) -> None:
    assert index.constant("w") == 2.0 and index.constant("a") is None
    node = helper.make_node("ReduceMean", ["x", "w"], ["y"], keepdims=0)
    assert attributes(node) == {"keepdims": 0}
    assert reads(helper.make_node("Clip", ["x", "", "w"], ["y"])) == ["x", "w"]
    assert index.argument(node, 1, "axes").tolist() == [2.0] and index.argument(node, 2, default=7) == 7
    with pytest.raises(KeyError, match="a"):
        index.argument(helper.make_node("ReduceMean", ["x", "a"], ["y"]), 1, "axes")
