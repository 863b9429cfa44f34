"""A convolution that an exporter folded a batch-norm into says so, where the file tells; any other says nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper

import convscope
from convscope.engine.graph.folded import has_batch_norm
from convscope.engine.graph.summary import rows_in_words


class Net(torch.nn.Module):
    """One convolution with batch-norm, one with a bias of its own, one whose weight is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(4)
        self.conv2 = torch.nn.Conv2d(4, 4, 3)
        self.conv3 = torch.nn.Conv2d(4, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        weight = self.conv3.weight / self.conv3.weight.square().sum().sqrt()
        return torch.nn.functional.conv2d(torch.relu(self.conv2(x)), weight, self.conv3.bias)


@pytest.mark.parametrize("dynamo", [True, False])
def test_torchs_exporters_leave_the_folded_batch_norm_to_be_seen(dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, file = Net().eval(), str(tmp_path / "net.onnx")
    torch.nn.init.uniform_(net.bn1.bias)
    x = torch.zeros(1, 3, 12, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(net, (x,), file, dynamo=True, verbose=False)
        else:
            torch.onnx.export(net, (x,), file, dynamo=False)
    graph = convscope.load(file, check=False)
    ops = [row[2] for row in rows_in_words(graph) if row[2].startswith("Conv")]
    assert ops == ["Conv with batch-norm", "Conv", "Conv"]


def test_tf2onnx_leaves_it_in_the_weights_names() -> None:
    fused = helper.make_node("Conv", ["x", "stem/Conv2D_weights_fused_bn", "stem/Conv2D_bias_fused_bn"], ["y"])
    plain = helper.make_node("Conv", ["x", "stem/Conv2D/ReadVariableOp:0", "stem/BiasAdd/ReadVariableOp:0"], ["y"])
    assert has_batch_norm(fused) and not has_batch_norm(plain)


def test_a_convolution_with_a_bias_alone_says_nothing() -> None:
    node = helper.make_node("Conv", ["x", "conv1.weight", "conv1.bias"], ["y"])
    weights = [
        numpy_helper.from_array(np.zeros(s, np.float32), n)
        for s, n in (((4, 3, 1, 1), "conv1.weight"), (4, "conv1.bias"))
    ]
    value = helper.make_tensor_value_info
    inputs, outputs = value("x", 1, [1, 3, 8, 8]), value("y", 1, [1, 4, 8, 8])
    model = helper.make_model(
        helper.make_graph([node], "g", [inputs], [outputs], weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    assert rows_in_words(convscope.load(model, check=False))[0][2] == "Conv"
