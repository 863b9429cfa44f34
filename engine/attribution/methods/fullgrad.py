"""FullGrad: the input's share and every bias's share of the score, as one map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from ...executors.exact import grad
from ...graph.index import Index, attributes
from ...outputs.target import Target, scores, tensors_of
from ..batch import Batch
from ..maps import Maps, resized, unit_range
from ..registry import method


@method("fullgrad", "FullGrad", "cam")
def full_grad(batch: Batch, targets: Sequence[Target], *, epsilon: float = 0.0) -> Maps:
    """Input times gradient plus bias times gradient of every convolution, each rescaled and upsampled.

    Srinivas & Fleuret 2019, "Full-Gradient Representation for Neural Network Visualization",
    arXiv:1905.00780: map = psi(|x * dS/dx|) + sum over layers l and channels c of psi(|b_lc * dS/db_lc|), where
    psi rescales to [0, 1] and upsamples. A batch normalization's implicit bias is beta - gamma mean / sigma;
    where the exporter has folded it into the convolution, the folded bias is taken, which differs only for
    convolutions that had a bias of their own before it. Biases of dense layers have no place and are left out,
    as in the paper. The authors' code rescales a layer at once, the paper's formula (here) each channel;
    pytorch-grad-cam adds 1e-7 to each channel's range, which dims faint channels: ``epsilon`` reproduces it.
    """
    wanted = tensors_of(targets)
    biases = spatial_biases(batch, wanted)
    twin = batch.executors.twin(list(dict.fromkeys((*wanted, *biases))))
    x = batch.executors.tensor(batch.x).requires_grad_()
    outputs = twin(x)
    score = scores({name: outputs[name] for name in wanted}, targets, len(x)).sum()
    gradients = grad(score, [x, *(outputs[n] for n in biases)])
    values = _psi(gradients[0].cpu().numpy() * batch.x, batch.size, epsilon)
    for gradient, bias in zip(gradients[1:], biases.values(), strict=True):
        values = values + _psi(gradient.cpu().numpy() * bias[None, :, None, None], batch.size, epsilon)
    return Maps(values, values)


def spatial_biases(batch: Batch, targets: Sequence[str]) -> dict[str, np.ndarray]:
    """Output tensor -> bias (K,) of every convolution and batch normalization that a target depends on."""
    index = batch.graph.index
    spatial = {layer.tensor for layer in batch.graph.layers if layer.is_spatial and layer.channel_axis == 1}
    needed = index.ancestors(targets)
    found = {}
    for node in index.nodes:
        tensor = node.output[0]
        if tensor in needed and tensor in spatial:
            bias = _bias(node, index)
            if bias is not None:
                found[tensor] = bias
    return found


def _bias(node: NodeProto, index: Index) -> np.ndarray | None:
    if node.op_type in ("Conv", "ConvTranspose"):
        return index.constant(node.input[2]) if len(node.input) > 2 else None
    if node.op_type == "BatchNormalization":
        parts = [value for name in node.input[1:5] if (value := index.constant(name)) is not None]
        if len(parts) == 4:
            gamma, beta, mean, variance = parts
            epsilon = attributes(node).get("epsilon", 1e-5)
            return np.asarray(beta - mean * gamma / np.sqrt(variance + epsilon), dtype=np.float32)
    return None


def _psi(products: np.ndarray, size: tuple[int, int], epsilon: float) -> np.ndarray:
    """(N, K, h, w) -> (N, H, W): absolute values, each channel rescaled and upsampled, summed."""
    scaled = unit_range(np.abs(products), epsilon=epsilon)
    return resized(scaled.sum(axis=1), size)
