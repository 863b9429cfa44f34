"""From a layer's activations and gradients to the map, as nodes.

The formulas are those of `engine.attribution.methods.cam`, where the papers are named; here they are written for
ONNX. Each takes ``activations`` A and ``gradients`` G, (N, K, h, w), and gives a signed map (N, h, w). But for those of
`ADDED_UP` G may be (N, K, 1, 1), where it is the same at every position.
"""

from __future__ import annotations

from collections.abc import Callable

from .writer import Value

_SPACE = (2, 3)


def grad_cam(activations: Value, gradients: Value) -> Value:
    """Feature maps weighted by their mean gradients."""
    return _weighted(activations, gradients.mean(_SPACE))


def grad_cam_plus_plus(activations: Value, gradients: Value) -> Value:
    """alpha = G^2 / (2 G^2 + sum(A) G^3), 0 where the denominator is; weights sum(alpha relu(G))."""
    w = activations.writer
    squared = gradients * gradients
    denominator = squared * 2.0 + activations.sum(_SPACE) * squared * gradients
    empty = denominator.equals(0.0)
    alpha = w.where(empty, 0.0, squared / w.where(empty, 1.0, denominator))
    return _weighted(activations, (alpha * gradients.positive()).sum(_SPACE))


def hires_cam(activations: Value, gradients: Value) -> Value:
    """Activations times gradients."""
    return _weighted(activations, gradients)


def x_grad_cam(activations: Value, gradients: Value) -> Value:
    """Gradients averaged by the activations' share; a map whose sum is 0 gets weight 0."""
    w = activations.writer
    total = activations.sum(_SPACE)
    empty = total.equals(0.0)
    products = (activations * gradients).sum(_SPACE)
    return _weighted(activations, w.where(empty, 0.0, products / w.where(empty, 1.0, total)))


def layer_cam(activations: Value, gradients: Value) -> Value:
    """Activations weighted at each position by their positive gradient."""
    return _weighted(activations, gradients.positive())


def class_activation_map(activations: Value, gradients: Value) -> Value:
    """CAM: the weights of the linear layer are the sums of the gradients over the positions."""
    return _weighted(activations, gradients.sum(_SPACE))


def saliency(_image: Value, gradients: Value) -> Value:
    """The largest absolute gradient of the channels."""
    return gradients.apply("Abs").reduce("ReduceMax", [1], keep=False)


def input_x_gradient(image: Value, gradients: Value) -> Value:
    """The gradient times the input, summed over channels."""
    return (image * gradients).sum([1], keep=False)


def _weighted(activations: Value, weights: Value) -> Value:
    return (activations * weights).sum([1], keep=False)


LAYER_HEADS: dict[str, Callable[[Value, Value], Value]] = {
    "gradcam": grad_cam,
    "gradcam++": grad_cam_plus_plus,
    "hirescam": hires_cam,
    "odam": hires_cam,  # of a box's number
    "xgradcam": x_grad_cam,
    "layercam": layer_cam,
    "cam": class_activation_map,
}
ADDED_UP = ("gradcam++", "cam")  # that add the gradients up over the positions
INPUT_HEADS: dict[str, Callable[[Value, Value], Value]] = {
    "saliency": saliency,
    "inputxgradient": input_x_gradient,
}
