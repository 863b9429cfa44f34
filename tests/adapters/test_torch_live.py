"""Live modules as people hold them load, compute what they compute, and are left as they were."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import convscope
from convscope.engine.graph.graph import Graph


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 5)).eval()


IMAGE = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def output(graph: Graph, name: str | None = None) -> np.ndarray:
    wanted = name or graph.outputs[0].name
    return graph.session([wanted], device="cpu").run(IMAGE.numpy())[wanted]


def compiled_in_place() -> nn.Module:
    module = network()
    module.compile()
    return module


WAYS: dict[str, Callable[[], Any]] = {
    "DataParallel": lambda: nn.DataParallel(network()),
    "averaged weights": lambda: AveragedModel(network()),
    "wrapped twice": lambda: nn.DataParallel(AveragedModel(network())),
    "torch.compile": lambda: torch.compile(network()),
    "compiled in place": compiled_in_place,
    "double": lambda: network().double(),
    "channels last": lambda: network().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
    "TorchScript": lambda: torch.jit.trace(network(), IMAGE),
    "torch.export": lambda: torch.export.export(network(), (IMAGE,)),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_a_network_is_the_same_in_whatever_it_is_held(way: str) -> None:
    graph = convscope.load(WAYS[way](), example_input=IMAGE)
    np.testing.assert_allclose(output(graph), network()(IMAGE).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_and_said(kind: torch.dtype) -> None:
    module = network().to(kind)
    graph = convscope.load(module)
    np.testing.assert_allclose(output(graph), network().to(kind).float()(IMAGE).detach().numpy(), atol=1e-5)
    assert any("computed in float32" in note for note in graph.source.notes)
    assert {p.dtype for p in module.parameters()} == {kind}


def test_layers_keep_the_names_that_the_wrapped_network_gives_them() -> None:
    wanted = [layer.name for layer in convscope.load(network()).layers]
    assert [layer.name for layer in convscope.load(nn.DataParallel(network())).layers] == wanted


class Within(nn.Module):
    """A network and what is made of its output."""

    def __init__(self, then: Callable[..., Any]) -> None:
        super().__init__()
        self.inner, self.then = network(), then

    def forward(self, x: Tensor, scale: float = 2.0, flag: Any = None) -> Any:
        return self.then(self.inner, x, scale)


def test_arguments_with_defaults_are_no_inputs() -> None:
    module = Within(lambda net, x, scale: net(x) * scale)
    graph = convscope.load(module)
    assert [spec.name for spec in graph.inputs] == ["input"]
    np.testing.assert_allclose(output(graph), 2 * network()(IMAGE).detach().numpy(), atol=1e-5)
    assert "forward" not in vars(module)


def test_an_output_that_is_given_twice_is_two_outputs() -> None:
    graph = convscope.load(Within(lambda net, x, _: {"first": (y := net(x)), "none": None, "more": [y, y + 1]}))
    assert len(graph.outputs) == 3
    wanted = network()(IMAGE).detach().numpy()
    for spec, expected in zip(graph.outputs, (wanted, wanted, wanted + 1), strict=True):
        np.testing.assert_allclose(output(graph, spec.name), expected, atol=1e-5)


def decides(net: nn.Module, x: Tensor, _: float) -> Tensor:
    return net(x * 2 if x.mean() > 0 else x)


def by_size(net: nn.Module, x: Tensor, _: float) -> Tensor:
    return net(x * 2 if x.shape[1] > 2 else x)


def test_a_decision_by_the_picture_s_values_is_said() -> None:
    said = [note for note in convscope.load(Within(decides)).source.notes if "decides by the values" in note]
    assert len(said) == 1
    assert said[0].startswith("test_torch_live.py:")
    assert not any("decides" in note for note in convscope.load(Within(by_size)).source.notes)


def narrow(net: nn.Module, x: Tensor, _: float) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return net(x)  # type: ignore[no-any-return]


def test_autocast_is_left_out_and_said() -> None:
    graph = convscope.load(Within(narrow))
    np.testing.assert_allclose(output(graph), network()(IMAGE).detach().numpy(), atol=1e-5)
    assert any("autocast" in note for note in graph.source.notes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network()(IMAGE).dtype == torch.bfloat16  # as before


@pytest.mark.parametrize(
    ("given", "labels", "size"),
    [
        ({"config": SimpleNamespace(image_size=40, id2label={i: f"kind {i}" for i in range(5)})}, "kind 0", (40, 40)),
        ({"config": SimpleNamespace(image_size=[48, 40], id2label={i: f"LABEL_{i}" for i in range(5)})}, "", (48, 40)),
        ({"config": SimpleNamespace(image_size={"height": 24, "width": 32}), "names": list("abcde")}, "a", (24, 32)),
        ({"config": SimpleNamespace(image_size="wide", id2label=None), "names": {0: 1}}, "", (224, 224)),
        ({"pretrained_cfg": {"input_size": (3, 36, 28)}}, "", (36, 28)),
    ],
)
def test_a_network_s_own_size_and_class_names_are_taken(
    given: dict[str, Any], labels: str, size: tuple[int, int]
) -> None:
    module = network()
    for name, value in given.items():
        setattr(module, name, value)
    graph = convscope.load(module)
    assert graph.image_size == size
    assert (graph.labels[0] if graph.labels else "") == labels


def fails(*_: Any) -> Tensor:
    raise KeyError("boom")


def quantized() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(network(), {nn.Linear})  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (lambda: network().to("meta"), "'0.weight' is on torch's meta device"),
        (lambda: Within(fails), "KeyError: 'boom'"),
        (quantized, "layer '5' was quantized by torch"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(module: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(convscope.ConvscopeError, match=words) as refused:
        convscope.load(module(), example_input=IMAGE)
    assert "\n" not in str(refused.value)
