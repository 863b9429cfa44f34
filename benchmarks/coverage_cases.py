"""How one network of the coverage sweep is measured.

A measurement imports the network and compares four things: the graph's output with the source framework's, every
tensor of the twin with ONNX Runtime, the gradient with respect to the input with the framework's own, and the
names of the layers.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .coverage_networks import Case, calibrate, keras_network, smallest_input, torch_network

OUTPUT_BOUND = 1e-4  # relative to the output's largest value
TENSOR_BOUND = 1e-3
GRADIENT_BOUND = 1e-3
MOST_ROUNDING = 0.05
ROUNDING_FACTOR = 3.0  # of two float32 results' difference to each one's own rounding


def measure(case: Case) -> dict[str, Any]:
    """Imports and compares one network; never raises."""
    measurers: dict[str, Callable[[str], dict[str, Any]]] = {
        "timm": measure_torch, "torchvision": measure_torch, "keras": measure_keras, "light": measure_light,
    }  # fmt: skip
    started = time.perf_counter()
    try:
        result = measurers[case.source](case.name)
    except Exception as error:
        result = {"status": "failed", "why": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}
    return {**result, "seconds": round(time.perf_counter() - started, 1)}


def verdict(result: dict[str, Any]) -> dict[str, Any]:
    """Adds status and reason: "equal" where every bound holds, else "different"."""
    own = result.get("rounding", 0.0)  # what the framework itself loses in float32
    rounding = min(ROUNDING_FACTOR * own, MOST_ROUNDING)  # one that loses everything proves nothing
    bounds = {
        "output": max(OUTPUT_BOUND, rounding),
        "tensors": TENSOR_BOUND if result.get("tensors_wrong") else float("inf"),
        "exact": max(OUTPUT_BOUND, min(own, MOST_ROUNDING)),  # the graph's constants are float32
        "gradient": max(GRADIENT_BOUND, min(10 * result.get("gradient_moved", 0.0), 0.1)),
    }  # fmt: skip
    broken = [f"{k} {result[k]:.1e}" for k, b in bounds.items() if result.get(k) is not None and not result[k] <= b]
    broken += [f"its own rounding is {own:.1e}"] if broken and own > OUTPUT_BOUND else []
    broken += [f"{len(result['names_missing'])} layer names missing"] if result.get("names_missing") else []
    if result.get("twin_error"):
        return {**result, "status": "no twin", "why": result["twin_error"]}
    return {**result, "status": "different" if broken else "equal", "why": ", ".join(broken)}


def measure_torch(name: str) -> dict[str, Any]:
    """A timm or torchvision network, live, against itself."""
    import torch

    import convscope

    module, sides = torch_network(name)
    x = smallest_input(module, sides)
    calibrate(module, x)
    started = time.process_time()
    graph = convscope.load(module, example_input=x[:1], check=False)
    result: dict[str, Any] = {"import_seconds": round(time.process_time() - started, 1), "size": x.shape[-1]}
    result |= _describe(graph)
    with torch.no_grad():
        expected = _first(module(x)).numpy()
    found = graph.session([graph.outputs[0].name], device="cpu").run(x.numpy())
    result["output"] = _relative(next(iter(found.values())), expected)
    double = module.double()

    def own_output(image: Any) -> Any:
        return _first(double(image))

    return verdict(result | _twin_results(graph, x, own_output, torch.float64, expected))


def measure_keras(name: str) -> dict[str, Any]:
    """A keras.applications network, saved as ``.keras`` and loaded back, against Keras."""
    from convscope.adapters.keras.load import import_keras

    keras = import_keras()
    import torch

    import convscope

    model, side = keras_network(keras, name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.keras"
        model.save(path)
        started = time.process_time()
        graph = convscope.load(path, check=False)
    result: dict[str, Any] = {"import_seconds": round(time.process_time() - started, 1), "size": side}
    result |= _describe(graph)
    known = {layer.name for layer in graph.layers} | set(graph.aliases)
    layers = [la.name for la in model.layers if type(la).__name__ != "InputLayer"]
    result |= {"names": len(layers), "names_missing": [n for n in layers if n not in known]}
    pixels = 255.0 if graph.preprocessing.preset == "raw" else 1.0
    x = torch.rand((2, 3, side, side), generator=torch.Generator().manual_seed(2)) * pixels
    with torch.no_grad():
        expected = _keras_output(model, x).numpy()
    found = graph.session([graph.outputs[0].name], device="cpu").run(x.numpy())
    result["output"] = _relative(next(iter(found.values())), expected)
    keras.config.set_floatx("float64")  # in float32 single units that flip at zero hide what is to be seen
    keras.config.set_dtype_policy("float64")
    double, _ = keras_network(keras, name)
    double.set_weights(model.get_weights())
    return verdict(
        result | _twin_results(graph, x, lambda image: _keras_output(double, image), torch.float64, expected)
    )


def measure_light(name: str) -> dict[str, Any]:
    """One of the onnx package's light graphs with seeded weights, every tensor against the original file's."""
    from onnx import helper

    import convscope
    from tests.zoo import light_model

    model = light_model(name)
    started = time.process_time()
    graph = convscope.load(model, check=False)
    result = {"import_seconds": round(time.process_time() - started, 1)} | _describe(graph)
    own = {n for node in graph.model.graph.node for n in node.output if n}
    shared = [n for node in model.graph.node for n in node.output if n in own]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in shared)
    from convscope.engine.executors.session import Session

    x = np.random.default_rng(0).normal(size=(1, graph.channels, *graph.image_size)).astype(np.float32)
    original = Session(model, device="cpu").run({graph.inputs[0].name: x})
    ours = graph.session(shared, device="cpu").run({graph.inputs[0].name: x})
    result |= {"size": graph.image_size[0], "names": len(shared)}
    result["output"] = max(_relative(ours[n], original[n]) for n in shared)
    import torch

    return verdict(result | _twin_results(graph, torch.from_numpy(x), None, torch.float32))


def _twin_results(graph: Any, x: Any, reference: Any, dtype: Any, expected: Any = None) -> dict[str, Any]:
    """Every tensor of the twin against the session; its output and gradient in float64 against the reference's.

    ``rounding`` is how far the framework's own float32 output (``expected``) is from its float64 output: random
    weights make some networks amplify the last bit a thousandfold, and no import can be nearer than that.
    """
    import torch

    from convscope.adapters.check import Rounding, compare_executors

    try:
        feeds = {graph.inputs[0].name: x.numpy()}
        differences = list(compare_executors(graph, feeds))
        twin = graph.twin([graph.outputs[0].name], dtype=dtype, fold=False)
        results: dict[str, Any] = {"tensors": max(d.rel for d in differences), "tensors_compared": len(differences)}
        beyond = [d for d in differences if not d.rel <= TENSOR_BOUND]
        rounding = Rounding(graph, feeds)
        results["tensors_wrong"] = sum(not rounding.explains(d, TENSOR_BOUND) for d in beyond)
        if reference is None:
            return results
        ours, output = _gradient(twin.only, x.to(dtype))
        own, own_output = _gradient(reference, x.to(dtype))
        results["exact"], results["rounding"] = _relative(output, own_output), _relative(expected, own_output)
        # A unit within rounding of zero or a tie in a pool changes one image's gradient; a fault changes every one's.
        results["gradient"] = float(((ours - own).norm(dim=1) / own.norm(dim=1)).min())
        if not results["gradient"] <= GRADIENT_BOUND:  # does the last bit of the input do as much?
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(4)) * 2.0**-23
            moved, _ = _gradient(reference, x.to(dtype) * (1 + noise))
            results["gradient_moved"] = float(((moved - own).norm(dim=1) / own.norm(dim=1)).max())
        return results
    except Exception as error:
        return {"twin_error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}


def _gradient(run: Callable[[Any], Any], image: Any) -> tuple[Any, np.ndarray]:
    """d(random projection of the output) / d(image), a row per image, and the output."""
    import torch

    image = image.detach().requires_grad_()
    output = run(image)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3)).to(image.dtype)
    return torch.autograd.grad((output * weights).sum(), image)[0].flatten(1), output.detach().numpy()


def _describe(graph: Any) -> dict[str, Any]:
    exporter = re.search(r"\((.*?)\)", graph.source.producer)
    return {
        "nodes": len(graph.model.graph.node),
        "layers": len(graph.layers),
        "exporter": exporter[1] if exporter else "",
        "notes": list(graph.source.notes),
    }


def _keras_output(model: Any, x: Any) -> Any:
    return _first(model(x.permute(0, 2, 3, 1), training=False))


def _first(output: Any) -> Any:
    if isinstance(output, dict):
        output = list(output.values())
    return output[0] if isinstance(output, (tuple, list)) else output


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max(initial=0) / max(float(np.abs(expected).max(initial=0)), 1e-30))
