"""The graph's two executors: cut anywhere, same names, same values, any size and batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

import convscope
from convscope.engine.executors.devices import session_providers, torch_device
from convscope.engine.executors.session import Session
from convscope.errors import UsageError
from tests import tiny


@pytest.fixture(scope="module")
def graph() -> convscope.Graph:
    return convscope.load(tiny.small_cnn())


def picture(batch: int = 2, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).random((batch, 3, size, size), dtype=np.float32)


def test_every_tensor_has_the_same_name_and_value_in_both_executors(graph: convscope.Graph) -> None:
    names = [layer.tensor for layer in graph.layers]
    expected = graph.session(names, device="cpu").run(picture())
    found = graph.twin(names, fold=False)(torch.from_numpy(picture()))
    assert list(found) == list(expected) == names
    for name in names:
        np.testing.assert_allclose(found[name].numpy(), expected[name], atol=1e-5)


def test_a_truncated_twin_holds_only_what_the_layer_needs(graph: convscope.Graph) -> None:
    twin = graph.until("pool1")
    assert {call.op for call in twin.calls} <= {"Conv", "BatchNormalization", "Relu", "MaxPool"}
    assert not any(p.requires_grad for p in twin.parameters())
    assert not twin.training


@pytest.mark.parametrize(("batch", "size"), [(1, 16), (3, 16), (2, 40), (1, 7)])
def test_a_truncated_graph_runs_at_any_size_and_batch(graph: convscope.Graph, batch: int, size: int) -> None:
    layer = graph.layer("relu2")
    x = picture(batch, size)
    found = graph.until(layer).only(torch.from_numpy(x)).numpy()
    assert found.shape == (batch, 12, size // 2, size // 2)
    np.testing.assert_allclose(found, graph.session([layer.tensor], device="cpu").run(x)[layer.tensor], atol=1e-5)


def test_both_executors_start_at_any_tensor(graph: convscope.Graph) -> None:
    middle, last = graph.layer("pool1").tensor, graph.logits
    whole = graph.session([middle, last], device="cpu").run(picture())
    upper = graph.session([last], [middle], device="cpu").run(whole[middle])[last]
    np.testing.assert_allclose(upper, whole[last], atol=1e-5)
    twin = graph.twin([last], [middle]).only(torch.from_numpy(whole[middle]))
    np.testing.assert_allclose(twin.numpy(), whole[last], atol=1e-5)


def test_folding_batch_norm_keeps_the_values_and_drops_the_node(graph: convscope.Graph) -> None:
    folded, unfolded = graph.until("relu1"), graph.until("relu1", fold=False)
    assert len(folded.calls) == len(unfolded.calls) - 1
    x = torch.from_numpy(picture())
    torch.testing.assert_close(folded.only(x), unfolded.only(x), rtol=1e-5, atol=1e-5)


def test_rules_replace_an_operators_computation(graph: convscope.Graph) -> None:
    twin = graph.until("relu1", fold=False)
    x = torch.from_numpy(picture())
    linear = twin.only(x, rules={"Relu": lambda module, value: value})
    assert (linear < 0).any()
    torch.testing.assert_close(linear.clamp_min(0), twin.only(x))


def test_the_gradient_is_the_derivative_in_float64(graph: convscope.Graph) -> None:
    twin = graph.twin([graph.logits], dtype=torch.float64)
    x = torch.from_numpy(picture(1, 8)).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: twin.only(v), x, eps=1e-6, atol=1e-6)


def test_asking_for_a_tensor_that_the_inputs_do_not_reach_is_a_usage_error(graph: convscope.Graph) -> None:
    with pytest.raises(UsageError, match="cannot be computed from"):
        graph.session(["c1"], ["p1"])


def test_devices_are_checked_before_work() -> None:
    assert session_providers("cpu") == ["CPUExecutionProvider"]
    with pytest.raises(UsageError, match="'gpu' is unknown"):
        torch_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA device"):
            torch_device("cuda:1")


def test_a_session_shares_the_graph_s_large_weights_and_computes_the_same() -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(0, 0.1, (64, 3, 5, 5)).astype(np.float32), "b": rng.normal(0, 1, 64).astype(np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    graph = convscope.load(tiny.model(nodes, weights), check=False)
    session = graph.session(["y"], device="cpu")
    assert list(session.held) == ["w"]
    assert np.shares_memory(session.held["w"], graph.index.constant("w"))
    whole = Session(graph.submodel(["y"]), device="cpu")
    np.testing.assert_array_equal(session.run(picture())["y"], whole.run(picture())["y"])
    other = graph.with_weights({"w": 2 * weights["w"]})
    assert not np.array_equal(other.session(["y"], device="cpu").run(picture())["y"], whole.run(picture())["y"])


@pytest.mark.parametrize("plain_first", [True, False])
def test_twins_with_channels_last_leave_the_others_kernels_as_they_are(plain_first: bool) -> None:
    graph = convscope.load(tiny.small_cnn())

    def made(last: bool) -> list[torch.Tensor]:
        return list(graph.twin([graph.logits], channels_last=last).parameters())

    first, second = made(not plain_first), made(plain_first)
    plain, last = (first, second) if plain_first else (second, first)
    kernels = 0
    for one, other in zip(plain, last, strict=True):
        assert torch.equal(one, other)
        if one.dim() != 4:
            assert one is other  # held once
            continue
        kernels += 1
        assert one.is_contiguous()
        assert other.is_contiguous(memory_format=torch.channels_last)
        assert one.data_ptr() != other.data_ptr()
    assert kernels == 2
    assert all(one is again for one, again in zip(plain, made(False), strict=True))
