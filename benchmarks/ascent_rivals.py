"""What our gradient ascent is measured against: lucent, and the classic recipe as a plain loop, on the same weights."""

from __future__ import annotations

import sys

import numpy as np
import torch
from onnx import numpy_helper
from torch import nn

from convscope.engine.graph.graph import Graph

MARGIN = 12  # pixels that the transforms leave around the picture


def chain(graph: Graph) -> nn.Sequential:
    """The graph as a torch module with one child per layer, in their order."""
    weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.model.graph.initializer}
    made: list[nn.Module] = []
    for node in graph.model.graph.node:
        if node.op_type == "Conv":
            w = weights[node.input[1]]
            conv = nn.Conv2d(w.shape[1], w.shape[0], w.shape[2], padding=w.shape[2] // 2)
            conv.weight.data, conv.bias.data = w, weights[node.input[2]]  # type: ignore[union-attr]
            made.append(conv)
        elif node.op_type in ("Relu", "MaxPool"):
            made.append(nn.ReLU() if node.op_type == "Relu" else nn.MaxPool2d(2, 2))
        else:
            sys.exit(f"{graph.name} has a {node.op_type}: this benchmark reads chains of Conv, Relu and MaxPool")
    return nn.Sequential(*made).eval()


class Whole(nn.Module):
    """Preprocessing and network, for pictures in [0, 1], as lucent and a plain loop take them."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.net = chain(graph)
        self.graph = graph

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.graph.preprocessing.normalize(x))  # type: ignore[no-any-return]


def lucent_picture(model: Whole, layer: int, unit: int, side: int, steps: int) -> np.ndarray:
    """lucent's picture of a unit, (C, H, W) in [0, 1], its network input as large as ours."""
    from lucent.optvis import param, render

    images = render.render_vis(
        model,
        f"net_{layer}:{unit}",
        lambda: param.image(side),
        thresholds=(steps,),
        preprocess=False,
        progress=False,
        show_image=False,
        fixed_image_size=side + MARGIN,
    )
    for module in model.modules():  # lucent never removes its hooks
        module._forward_hooks.clear()
    return np.ascontiguousarray(images[-1][0].transpose(2, 0, 1))


def plain_chollet(model: Whole, layer: int, unit: int, side: int, steps: int, device: str) -> np.ndarray:
    """The classic recipe with a hook on the whole network, one unit."""
    kept: dict[str, torch.Tensor] = {}
    hook = model.net[layer].register_forward_hook(lambda _m, _i, out: kept.update(out=out))
    x = ((torch.rand(1, 3, side, side) - 0.5) * 20 + 128).to(device)
    for _ in range(steps):
        x.requires_grad_()
        model(x / 255)
        kept["out"][:, unit].mean().backward()
        assert x.grad is not None
        x = (x + x.grad / (x.grad.square().mean().sqrt() + 1e-5)).detach()
    hook.remove()
    return x[0].cpu().numpy() / 255
