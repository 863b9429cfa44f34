"""Convolutions that an exporter folded a batch-norm into, where the file still tells."""

from __future__ import annotations

import re

import onnx

_TORCH_SCOPES = "pkg.torch.onnx.name_scopes"
_REPLACED = re.compile(r"^onnx::Conv_\d+$")


def has_batch_norm(node: onnx.NodeProto) -> bool:
    """Whether a convolution does a folded batch-norm too, as three exporters leave it to be seen.

    * torch's dynamo exporter gives the convolution the batch-norm's operator, in ``pkg.torch.onnx.name_scopes``;
    * torch's tracing exporter replaces weight and bias by nameless ones, ``onnx::Conv_14`` and ``onnx::Conv_15``, where
      a weight that is computed, or a bias of the convolution's own, leaves at most one of them so;
    * tf2onnx calls them ``..._weights_fused_bn`` and ``..._bias_fused_bn``.

    False is no proof: where the folded weights got the convolution's own names, nothing in the file tells.
    """
    if node.op_type != "Conv" or len(node.input) < 2:
        return False
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _TORCH_SCOPES), "")
    weights = node.input[1:3]
    return (
        "batch_norm" in scopes.rsplit(",", 1)[-1]
        or (len(weights) == 2 and all(_REPLACED.match(name) for name in weights))
        or any(name.removesuffix(":0").endswith("_fused_bn") for name in weights)
    )
