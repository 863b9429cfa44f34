"""A network that amplifies the last bit of its input is imported; a wrong one that does so is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from convscope import load
from convscope.adapters.check import check_parity
from convscope.engine.graph.graph import Graph
from convscope.errors import ParityError

STEEP = 3e4


@pytest.fixture(scope="module")
def graph() -> Graph:
    """y = conv(tanh(steep * (conv(x) - conv'(x)))), where the two convolutions nearly cancel each other."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    weights = {"a": weight, "b": weight[:, ::-1].copy(), "c": weight[:, ::-1] * np.float32(1 + 1e-5), "steep": STEEP}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["ax"], name="a"),
        helper.make_node("Conv", ["x", "b"], ["bx"], name="b"),
        helper.make_node("Conv", ["x", "c"], ["cx"], name="c"),
        helper.make_node("Sub", ["bx", "cx"], ["gap"], name="sub"),
        helper.make_node("Mul", ["gap", "steep"], ["wide"], name="mul"),
        helper.make_node("Add", ["ax", "wide"], ["y"], name="add"),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 12])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.asarray(v, dtype=np.float32), k) for k, v in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], [output], tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return load(model, check=False)


def test_differences_that_rounding_explains_pass(graph: Graph) -> None:
    differences = check_parity(graph, tolerance=1e-5)
    assert max(d.rel for d in differences) > 1e-3


def test_a_fault_is_still_found_where_nothing_is_amplified(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = graph.with_weights({"b": np.zeros((4, 3, 3, 3), np.float32)})
    monkeypatch.setattr(Graph, "twin", lambda self, *args, **options: broken.twin_factory(
        tuple(args[0]), tuple(i.name for i in self.inputs), **options))  # fmt: skip
    with pytest.raises(ParityError, match="'bx'"):
        check_parity(graph)


def test_the_rounding_of_all_tensors_is_measured_at_once(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    session = Graph.session
    monkeypatch.setattr(Graph, "session", lambda self, names, *a, **k: opened.append(len(names)) or session(
        self, names, *a, **k))  # fmt: skip
    differences = check_parity(graph, tolerance=1e-5)
    assert sum(d.rel > 1e-5 for d in differences) > 1 and opened == [6, 6]
