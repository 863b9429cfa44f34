"""Adaptive pooling to sizes that do not divide the map's, in torch networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import convscope

SIDES = (13, 9, 7)
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@pytest.mark.parametrize(
    ("rank", "pool"),
    [
        (1, nn.AdaptiveMaxPool1d(5)),
        (2, nn.AdaptiveMaxPool2d((4, 5))),
        (2, nn.AdaptiveAvgPool2d((3, None))),
        (3, nn.AdaptiveAvgPool3d((2, 3, 4))),
        (3, nn.AdaptiveMaxPool3d((2, 3, 4))),
    ],
    ids=lambda value: str(value),
)
def test_an_adaptive_pool_to_any_size_is_imported_and_equal(rank: int, pool: nn.Module) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(CONVOLUTIONS[rank](3, 4, 3), nn.ReLU(), pool).eval()
    x = torch.rand(2, 3, *SIDES[:rank])
    graph = convscope.load(network, example_input=x[:1], check=False)
    name = graph.inputs[0].name
    _, channels, height, width = graph.inputs[0].shape
    fed = x.reshape(2, channels or 3, height or -1, width or -1).numpy()
    found = graph.session([graph.outputs[0].name], device="cpu").run({name: fed})[graph.outputs[0].name]
    np.testing.assert_allclose(found, network(x).detach().numpy(), atol=1e-6)
