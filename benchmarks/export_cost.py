"""What the explanation inside a file costs: ``python -m benchmarks.export_cost [NETWORK ...]``.

The exported file beside the plain model in ONNX Runtime, and beside grad-cam 1.5.7 in torch on the same layer, for one
picture of 224 x 224 on one thread. The three take turns, and what counts is the processor's time, so that other work on
the machine changes little. Weights are random, batch-norm's statistics are not trivial; the maps are compared before
they are scaled.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

NETWORKS = ("resnet50", "mobilenet_v2", "densenet121", "efficientnet_b0", "vgg16")
_SIDE = 224


def main() -> None:
    """Measures and prints one line of a table a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="of torchvision; default: all")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    print("| network | nodes added | exported beside plain | grad-cam beside exported | map against grad-cam's |")
    print("|---|---|---|---|---|")
    for name in arguments.networks:
        print(_row(name, arguments.rounds), flush=True)


def _row(name: str, rounds: int) -> str:
    import onnxruntime
    import torch

    from tests.torchvision_schemas import declare

    declare()  # torchvision does not load beside a CPU build of torch otherwise
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    import convscope

    torch.set_num_threads(1)
    net = _network(name)
    x = torch.randn(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(1))
    graph = convscope.load(net, example_input=x, check=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4

    def session(model: bytes) -> Any:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    with tempfile.TemporaryDirectory() as folder:
        done = convscope.export(graph, Path(folder) / "out.onnx")
        plain, exported = session(graph.model.SerializeToString()), session(done.path.read_bytes())
    feeds = {graph.inputs[0].name: x.numpy()}
    found = graph.session([graph.layer(done.layer or "").tensor]).run(x.numpy())
    module, is_same = _module(net, x, next(iter(found.values())))
    cam = GradCAM(net, [module])
    positive = (c for c in range(100) if exported.run(["heatmap"], {**feeds, "class": np.array([c])})[0].any())
    chosen = next(positive)  # of a network of random weights many maps are zero
    target = [ClassifierOutputTarget(chosen)]
    times = _alternated(
        [
            lambda: plain.run(None, feeds),
            lambda: exported.run(None, {**feeds, "class": np.array([chosen])}),
            lambda: cam(input_tensor=x, targets=target),
        ],
        rounds,
    )
    (ours,) = exported.run(["heatmap"], {**feeds, "class": np.array([chosen])})
    kept = cam.activations_and_grads
    theirs = np.maximum(
        cam.get_cam_image(
            x, cam.target_layers[0], target, kept.activations[0].numpy(), kept.gradients[0].numpy(), False
        ),
        0,
    )
    off = f"{np.abs(theirs - ours).max() / np.abs(theirs).max():.1e}" if is_same else "no module gives that layer"
    return f"| {name} | {done.added} | {times[1] / times[0]:.2f} | {times[2] / times[1]:.1f} | {off} |"


def _network(name: str) -> Any:
    import torch
    import torchvision

    torch.manual_seed(0)
    net = torchvision.models.get_model(name, weights=None).eval()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                for values, low, high in (
                    (module.running_mean, -0.1, 0.1), (module.running_var, 0.5, 1.5), (module.weight, 0.5, 1.5),
                ):  # fmt: skip
                    values.uniform_(low, high, generator=random)
    return net


def _module(net: Any, x: Any, values: np.ndarray) -> tuple[Any, bool]:
    """The last module that gives the layer's values (True), else one that gives its shape: grad-cam hooks modules."""
    import torch

    found: list[tuple[Any, bool]] = []

    def watch(module: Any, _given: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.shape == values.shape:
            far = np.abs(output.numpy() - values).max()
            found.append((module, bool(far <= 1e-4 * np.abs(values).max())))

    hooks = [module.register_forward_hook(watch) for module in net.modules()]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return next((pair for pair in reversed(found) if pair[1]), found[-1])


def _alternated(runs: list[Callable[[], Any]], rounds: int) -> list[float]:
    """The median of each one's processor time."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + 1):
        for run, own in zip(runs, times, strict=True):
            began = time.process_time()
            run()
            own.append(time.process_time() - began)
    return [median(own[1:]) for own in times]


if __name__ == "__main__":
    main()
