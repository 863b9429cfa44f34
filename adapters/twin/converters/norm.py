"""Normalizations, at inference."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Converted, Converter, Function, Node, first_input, parameter

_LEAST_EPSILON = float(np.finfo(np.float32).tiny)  # torch before 2.13 refuses zero; no variance notices the difference


class BatchNorm(nn.Module):
    """(x - running_mean) / sqrt(running_var + epsilon) * weight + bias, per channel."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        weight, bias, mean, variance = (np.asarray(node.constant(i), dtype=np.float32) for i in range(1, 5))
        self.weight, self.bias = parameter(weight), parameter(bias)
        self.register_buffer("running_mean", torch.from_numpy(mean.copy()))
        self.register_buffer("running_var", torch.from_numpy(variance.copy()))
        self.epsilon = max(float(node.get("epsilon", 1e-5)), _LEAST_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(_plain_strides(x), mean, variance, self.weight, self.bias, False, 0.0, self.epsilon)  # type: ignore[arg-type]


def _plain_strides(x: Tensor) -> Tensor:
    """``x``, laid out channels first where a spatial axis has length one.

    There torch 2.13 takes channels-last strides for either layout: the gradient of batch-norm comes out in the wrong
    order, without an error, where the gradient that it gets is laid out otherwise than its input.
    """
    return x.contiguous() if 1 in x.shape[2:] else x


def _batch_norm(node: Node) -> Converted:
    if node.get("training_mode", 0) or len([o for o in node.outputs if o]) > 1:
        raise node.unsupported("batch-norm in training mode (export the model in inference mode: model.eval())")
    if not node.get("spatial", 1):  # opsets 7 and 8
        raise node.unsupported("batch-norm with statistics per position (spatial=0)")
    if any(node.is_computed(i) for i in range(1, 5)):
        epsilon = float(node.get("epsilon", 1e-5))

        def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
            shape = (1, -1, *(1,) * (x.ndim - 2))  # by arithmetic: torch's kernel has no gradient to the statistics
            scaled = scale.reshape(shape) * torch.rsqrt(variance.reshape(shape) + epsilon)
            return (x - mean.reshape(shape)) * scaled + bias.reshape(shape)

        return Converted(Function(run), node.inputs)
    return Converted(BatchNorm(node), node.inputs[:1])


def _instance_norm(node: Node) -> Converted:
    epsilon = float(node.get("epsilon", 1e-5))

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        axes = tuple(range(2, x.ndim))
        mean = x.mean(axes, keepdim=True)
        variance = (x - mean).square().mean(axes, keepdim=True)
        shape = (1, -1, *(1,) * (x.ndim - 2))
        return (x - mean) / torch.sqrt(variance + epsilon) * scale.reshape(shape) + bias.reshape(shape)

    return Converted(Function(run), node.inputs)


def _layer_norm(node: Node) -> Converted:
    axis, epsilon = int(node.get("axis", -1)), float(node.get("epsilon", 1e-5))

    alone = not any(node.outputs[1:])

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        if alone and scale.shape == x.shape[axis % x.ndim :] and (bias is None or bias.shape == scale.shape):
            return F.layer_norm(x, scale.shape, scale, bias, epsilon)  # one kernel, and less kept for the gradient
        axes = tuple(range(axis % x.ndim, x.ndim))
        mean = x.mean(axes, keepdim=True)
        inverse = torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + epsilon)
        y = (x - mean) * inverse * scale
        return (y if bias is None else y + bias), mean, inverse

    return Converted(Function(run), node.inputs)


def _rms_norm(node: Node) -> Converted:
    axis, epsilon = int(node.get("axis", -1)), float(node.get("epsilon", 1e-5))

    def run(x: Tensor, scale: Tensor) -> Tensor:
        axes = tuple(range(axis % x.ndim, x.ndim))
        return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + epsilon) * scale

    return Converted(Function(run), node.inputs)


def _group_norm(node: Node) -> Converted:
    groups, epsilon = int(node.get("num_groups")), float(node.get("epsilon", 1e-5))
    per_group = node.opset < 21  # until then scale and bias had one value per group

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if per_group and scale.numel() == groups:
            repeat = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(repeat), bias.repeat_interleave(repeat)
        return F.group_norm(x, groups, scale, bias, epsilon)

    return Converted(Function(run), node.inputs)


def _local_response(node: Node) -> Converted:
    size, alpha = int(node.get("size")), float(node.get("alpha", 1e-4))
    beta, bias = float(node.get("beta", 0.75)), float(node.get("bias", 1.0))

    def run(x: Tensor) -> Tensor:
        """The window of an even size reaches one channel further ahead, floor((size - 1) / 2) behind."""
        squares = x.square().unsqueeze(1)
        behind, ahead = (size - 1) // 2, size - 1 - (size - 1) // 2
        flat = squares.reshape(x.shape[0], 1, x.shape[1], -1)
        padded = F.pad(flat, (0, 0, behind, ahead))
        total = F.avg_pool2d(padded, (size, 1), stride=1).reshape(x.shape)  # the mean: the sum over ``size``
        return x / (bias + alpha * total) ** beta

    return first_input(node, run)


def _lp_norm(node: Node) -> Converted:
    axis, p = int(node.get("axis", -1)), int(node.get("p", 2))

    def run(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, p, dim=axis, keepdim=True)
        return torch.where(length == 0, torch.zeros_like(x), x / torch.where(length == 0, 1.0, length))

    return first_input(node, run)


def _mean_variance(node: Node) -> Converted:
    axes = tuple(int(a) for a in node.get("axes", (0, 2, 3)))

    def run(x: Tensor) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        return centred / (torch.sqrt(centred.square().mean(axes, keepdim=True)) + 1e-9)

    return first_input(node, run)


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "BatchNormalization"): _batch_norm,
    ("", "InstanceNormalization"): _instance_norm,
    ("", "LayerNormalization"): _layer_norm,
    ("", "RMSNormalization"): _rms_norm,
    ("", "GroupNormalization"): _group_norm,
    ("", "LRN"): _local_response,
    ("", "LpNormalization"): _lp_norm,
    ("", "MeanVarianceNormalization"): _mean_variance,
}
