"""`convscope.load` takes what people hold: catalog names, live modules with any example or none."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import convscope
from convscope.errors import ConvscopeError


def _net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 3)).eval()


def test_a_name_of_the_catalog_is_a_model() -> None:
    graph = convscope.load("lenet", check=False)
    assert graph.labels == tuple("0123456789")
    assert "name of the catalog" in (convscope.load.__doc__ or "")
    assert "check" in inspect.signature(convscope.load).parameters


def test_a_file_is_preferred_to_a_name_and_neither_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lenet").write_bytes(b"no model")
    with pytest.raises(ConvscopeError, match="lenet"):
        convscope.load("lenet")
    with pytest.raises(ConvscopeError, match="lennet"):
        convscope.load("lennet")


@pytest.mark.parametrize(
    "example", [torch.zeros(1, 3, 40, 40), np.zeros((1, 3, 40, 40)), np.zeros((1, 3, 40, 40), "f4")]
)
def test_an_example_is_a_tensor_or_an_array(example) -> None:
    net = _net()
    graph = convscope.load(net, example_input=example, check=False)
    x = np.random.default_rng(0).random((2, 3, 40, 40), dtype=np.float32)
    (found,) = graph.session([graph.outputs[0].name]).run(x).values()
    np.testing.assert_allclose(found, net(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


def test_without_an_example_the_size_is_taken_or_tried_out_and_said() -> None:
    assert convscope.load(_net(), size=(48, 64), check=False).inputs[0].shape[1] == 3
    graph = convscope.load(_net(), check=False)
    assert any("the first that the network took" in note for note in graph.source.notes)
