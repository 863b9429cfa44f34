"""Gradients of normalizations, from the statistics computed anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..writer import Value
from .base import Gradient, Gradients, Visit


def _batch_norm(v: Visit) -> Gradients:
    """dY * scale / sqrt(variance + epsilon): the statistics are constants at inference."""
    scale, variance = v.constant(1), v.constant(4)
    if scale is None or variance is None or int(v.get("training_mode", 0)) or not int(v.get("spatial", 1)):
        raise v.unsupported("statistics that are computed while the model runs")
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + float(v.get("epsilon", 1e-5)))
    return {0: v.dy * v.w.constant(factor.reshape(-1, *(1,) * (v.rank() - 2)).astype(v.w.kind))}


def _standardized(x: Value, gradient: Value, axes: Sequence[int], epsilon: float) -> Value:
    """The gradient for x of (x - mean) / sqrt(variance + epsilon), from the gradient of the result.

    dX = (G - mean(G) - Z mean(G Z)) / sqrt(variance + epsilon), Z the result (Ba et al. 2016, arXiv:1607.06450).
    """
    centred = x - x.mean(axes)
    inverse = 1 / ((centred * centred).mean(axes) + epsilon).apply("Sqrt")
    z = centred * inverse
    return inverse * (gradient - gradient.mean(axes) - z * (gradient * z).mean(axes))


def _only_image(v: Visit) -> None:
    if v.wanted != {0}:
        raise v.unsupported("a scale that depends on the image")


def _layer_norm(v: Visit) -> Gradients:
    _only_image(v)
    axes = list(range(int(v.get("axis", -1)) % v.rank(), v.rank()))
    return {0: _standardized(v.x(), v.dy * v.x(1), axes, float(v.get("epsilon", 1e-5)))}


def _rms_norm(v: Visit) -> Gradients:
    """dX = (G - Z mean(G Z)) / rms (Zhang & Sennrich 2019, arXiv:1910.07467)."""
    _only_image(v)
    axes = list(range(int(v.get("axis", -1)) % v.rank(), v.rank()))
    x, gradient = v.x(), v.dy * v.x(1)
    inverse = 1 / ((x * x).mean(axes) + float(v.get("epsilon", 1e-5))).apply("Sqrt")
    z = x * inverse
    return {0: inverse * (gradient - z * (gradient * z).mean(axes))}


def _per_channel(v: Visit, position: int) -> Value:
    """A vector of one value per channel, ready to be multiplied with (N, C, ...)."""
    return v.x(position).reshape([-1, *(1,) * (v.rank() - 2)])


def _instance_norm(v: Visit) -> Gradients:
    _only_image(v)
    axes = list(range(2, v.rank()))
    return {0: _standardized(v.x(), v.dy * _per_channel(v, 1), axes, float(v.get("epsilon", 1e-5)))}


def _group_norm(v: Visit) -> Gradients:
    _only_image(v)
    groups, channels, w = int(v.get("num_groups")), v.shape()[1], v.w
    scale = v.x(1)
    if v.shape(1)[0] == groups != channels:  # until opset 21 one value per group
        repeated = scale.reshape([groups, 1]).expand(w.integers([groups, channels // groups]))
        scale = repeated.reshape([-1])
    gradient = v.dy * scale.reshape([-1, *(1,) * (v.rank() - 2)])
    grouped = [x.reshape([0, groups, -1]) for x in (v.x(), gradient)]
    return {0: _standardized(grouped[0], grouped[1], [2], float(v.get("epsilon", 1e-5))).like(v.raw(0))}


def _lp_norm(v: Visit) -> Gradients:
    """y = x / |x|_p; zero where the length is zero."""
    axis, p, w = int(v.get("axis", -1)), int(v.get("p", 2)), v.w
    x = v.x()
    length = x.reduce("ReduceL2" if p == 2 else "ReduceL1", [axis])
    direction = v.y() if p == 2 else x.apply("Sign")
    along = (v.dy * v.y()).sum([axis])
    empty = length.equals(0.0)
    return {0: w.where(empty, 0.0, (v.dy - direction * along) / w.where(empty, 1.0, length))}


def _mean_variance(v: Visit) -> Gradients:
    axes = [int(a) for a in v.get("axes", (0, 2, 3))]
    if any(a % v.rank() == 0 for a in axes):
        raise v.unsupported("statistics over the batch, which would mix the images")
    centred = v.x() - v.x().mean(axes)
    deviation = (centred * centred).mean(axes).apply("Sqrt")
    whole = deviation + 1e-9  # as the specification adds it
    z = centred / v.w.where(deviation.equals(0.0), 1.0, deviation)
    return {0: (v.dy - v.dy.mean(axes) - centred / whole * (v.dy * z).mean(axes)) / whole}


def _local_response(v: Visit) -> Gradients:
    """y = x s^-beta, s = bias + alpha / size * sum of x^2 over neighbouring channels (Krizhevsky et al. 2012).

    dX_i = dY_i s_i^-beta - 2 alpha beta / size * x_i * (sum of dY_j y_j / s_j over the j whose window holds i).
    """
    size, alpha = int(v.get("size")), float(v.get("alpha", 1e-4))
    beta, bias = float(v.get("beta", 0.75)), float(v.get("bias", 1.0))
    behind, ahead = (size - 1) // 2, size - 1 - (size - 1) // 2
    s = _channel_mean(v.x() * v.x(), size, behind, ahead) * alpha + bias
    back = _channel_mean(v.dy * v.y() / s, size, ahead, behind)
    power = s.apply("Pow", v.w.number(-beta))
    return {0: v.dy * power - v.x() * (2 * alpha * beta) * back}


def _channel_mean(x: Value, size: int, behind: int, ahead: int) -> Value:
    """The sum over a window of channels divided by its size; what lies beyond the channels counts as zero."""
    rows = x.reshape(x.writer.concat(x.shape(0, 1), [1], x.shape(1, 2), [-1]))
    pads = [behind, 0, ahead, 0]
    return rows.apply("AveragePool", kernel_shape=[size, 1], pads=pads, count_include_pad=1).like(x)


NORMALIZATIONS: dict[str, Gradient] = {
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LpNormalization": _lp_norm,
    "MeanVarianceNormalization": _mean_variance,
    "LRN": _local_response,
}
