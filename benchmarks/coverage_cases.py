"""The networks of the coverage sweep, and how one of them is measured.

A measurement imports the network and compares four things: the graph's output with the source framework's, every
tensor of the twin with ONNX Runtime, the gradient with respect to the input with the framework's own, and the
names of the layers. Weights are random (seeded); batch-norm gets statistics that are not trivial, and scales that
start near zero (LayerScale) are raised, since a branch times 1e-6 would hide every fault in it.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

OUTPUT_BOUND = 1e-4  # relative to the output's largest value
TENSOR_BOUND = 1e-3
GRADIENT_BOUND = 1e-3
SIDES = (64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 320, 331, 384)  # image sizes to try, the smallest first

KERAS = (
    "VGG16", "VGG19", "ResNet50", "ResNet101V2", "MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large",
    "DenseNet121", "InceptionV3", "InceptionResNetV2", "Xception", "EfficientNetB0", "EfficientNetV2B0",
    "ConvNeXtTiny", "NASNetMobile",
)  # fmt: skip
KERAS_SIDES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}  # their smallest; 64 for the others

# timm's modules by what their networks are made of. Attention and MLP families are out of scope and not swept.
CONVOLUTIONAL = (
    "byobnet", "convmixer", "convnext", "csatv2", "cspnet", "cspnext", "densenet", "dla", "dpn", "efficientnet",
    "fasternet", "ghostnet", "hardcorenas", "hgnet", "hrnet", "inception_next", "inception_resnet_v2",
    "inception_v3", "inception_v4", "lcnetv2", "mambaout", "mobilenetv3", "nasnet", "nfnet", "pnasnet", "rdnet",
    "regnet", "repghost", "repvit", "res2net", "resnest", "resnet", "resnetv2", "rexnet", "selecsls", "senet",
    "sknet", "starnet", "tresnet", "vgg", "vovnet", "xception", "xception_aligned",
)  # fmt: skip
HYBRID = (
    "byoanet", "coat", "cpubone", "edgenext", "efficientformer", "efficientformer_v2", "efficientvit_mit",
    "efficientvit_msra", "fastvit", "focalnet", "iformer", "levit", "lowformer", "maxxvit", "metaformer",
    "mobilenetv5", "mobilevit", "nextvit", "pvt_v2", "shvit", "swiftformer", "tiny_vit", "visformer",
)  # fmt: skip
_TORCHVISION_ATTENTION = re.compile(r"^(vit|swin|maxvit)")
MAX_PARAMETERS = 110_000_000  # larger ones are the same code with more of it

# Twenty of the smallest, as different as they come, for the tests; two of them are torchvision's.
SAMPLE = (
    "resnet10t", "rexnet_100", "densenet121", "mobilenetv3_small_050", "mobilenetv2_035", "efficientnet_lite0",
    "tinynet_e", "ghostnet_050", "lcnet_035", "mnasnet_small", "squeezenet1_1", "regnetx_002", "convnext_atto",
    "resnest14d", "skresnet18", "repghostnet_050", "fasternet_t0", "starnet_s1", "shufflenet_v2_x0_5", "dla46_c",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One network: where it comes from, its group in the report, and its name there."""

    source: str
    group: str
    name: str


def timm_cases() -> list[Case]:
    """The smallest variant of every family of every convolutional and hybrid timm module."""
    import timm
    import torch
    from timm.models import _registry

    smallest: dict[tuple[str, str], tuple[int, str]] = {}
    for name in timm.list_models():
        module = _registry._model_to_module[name]
        if module not in CONVOLUTIONAL + HYBRID or name.startswith("test_"):
            continue
        with torch.device("meta"):
            try:
                size = sum(p.numel() for p in timm.create_model(name).parameters())
            except Exception:  # some builders compute with weights; such a family is measured by any variant
                size = MAX_PARAMETERS - 1
        key = (module, family(name))
        smallest[key] = min(smallest.get(key, (2**62, "")), (size, name))
    groups = dict.fromkeys(CONVOLUTIONAL, "timm, convolutional") | dict.fromkeys(HYBRID, "timm, with attention")
    found = sorted((groups[module], size, name) for (module, _), (size, name) in smallest.items())
    return [Case("timm", group, name) for group, size, name in found if size <= MAX_PARAMETERS]


def family(name: str) -> str:
    """``mobilenetv3_small_050`` -> ``mobilenetv3``, ``resnet18d`` -> ``resnet``, ``legacy_xception`` -> itself."""
    match = re.match(r"(?:legacy_|gluon_|tf_|test_)?[a-z]+?(?:v\d)?(?=[\d_]|$)", name)
    return match[0] if match else name


def torchvision_cases() -> list[Case]:
    """All classification networks of torchvision.models up to `MAX_PARAMETERS`, attention apart."""
    import torchvision

    cases = []
    for name in torchvision.models.list_models(module=torchvision.models):
        size = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
        if size <= MAX_PARAMETERS or name.startswith("vgg"):
            attention = _TORCHVISION_ATTENTION.match(name)
            cases.append(
                Case("torchvision", f"torchvision, {'with attention' if attention else 'convolutional'}", name)
            )
    return cases


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
    bounds = (("output", OUTPUT_BOUND), ("tensors", TENSOR_BOUND), ("gradient", GRADIENT_BOUND))
    broken = [f"{k} {result[k]:.1e}" for k, bound in bounds if result.get(k) is not None and not result[k] <= bound]
    broken += [f"{len(result['names_missing'])} layer names missing"] if result.get("names_missing") else []
    if result.get("twin_error"):
        return {**result, "status": "no twin", "why": result["twin_error"]}
    return {**result, "status": "different" if broken else "equal", "why": ", ".join(broken)}


def measure_torch(name: str) -> dict[str, Any]:
    """A timm or torchvision network, live, against itself."""
    import convscope
    import torch

    module, sides = torch_network(name)
    x = smallest_input(module, sides)
    calibrate(module, x)
    started = time.perf_counter()
    graph = convscope.load(module, example_input=x[:1], check=False)
    result: dict[str, Any] = {"import_seconds": round(time.perf_counter() - started, 1), "size": x.shape[-1]}
    result |= _describe(graph)
    with torch.no_grad():
        expected = _first(module(x)).numpy()
    found = graph.session([graph.outputs[0].name], device="cpu").run(x.numpy())
    result["output"] = _relative(next(iter(found.values())), expected)
    double = module.double()

    def own_gradient(image: Any) -> Any:
        return _first(double(image))

    return verdict(result | _twin_results(graph, x, own_gradient, torch.float64))


def torch_network(name: str) -> tuple[Any, tuple[int, ...]]:
    """A timm network, or torchvision's where timm has none of that name; and the image sides to try."""
    import timm
    import torch

    torch.manual_seed(0)
    if timm.is_model(name):
        module: Any = timm.create_model(name, pretrained=False)
        full = int(module.pretrained_cfg["input_size"][-1])
        fixed = bool(module.pretrained_cfg.get("fixed_input_size"))
        sides = (full,) if fixed else (*(s for s in SIDES if s < full), full)
    else:
        import torchvision

        module, sides = torchvision.models.get_model(name, weights=None), SIDES
    return enliven(module.eval()), sides


def enliven(module: Any) -> Any:
    """Weights for which every branch matters and nothing overflows."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for sub in module.modules():
            if isinstance(getattr(sub, "running_var", None), torch.Tensor):
                sub.running_mean.uniform_(-0.2, 0.2, generator=generator)
                sub.running_var.uniform_(0.5, 1.5, generator=generator)
        for parameter in module.parameters():
            if parameter.ndim <= 1 or parameter.abs().max() < 1e-3:
                parameter.add_(torch.rand(parameter.shape, generator=generator) * 0.2)
    return module


def calibrate(module: Any, x: Any) -> None:
    """Batch-norm statistics of what really arrives: otherwise values grow layer by layer, into rounding errors."""
    import torch

    norms: list[Any] = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    before = [(m.momentum, m.running_mean.clone(), m.running_var.clone()) for m in norms if m.running_var is not None]
    try:
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            module.train()(torch.cat([x, x.flip(-1), x.flip(-2), x * 0.5]))
        changed = [(m.momentum, m.running_mean, m.running_var) for m in norms if m.running_var is not None]
    except Exception:  # some networks train in another form than they run; theirs stay as they were
        changed = before
    for norm, old, new in zip((m for m in norms if m.running_var is not None), before, changed, strict=True):
        norm.momentum, norm.running_mean, norm.running_var = old[0], new[1], new[2].clamp(min=1e-3)
    module.eval()


def smallest_input(module: Any, sides: tuple[int, ...]) -> Any:
    """A random batch of two at the smallest side that the module takes."""
    import torch

    reason: Exception | None = None
    for side in sides:
        x = torch.randn((2, 3, side, side), generator=torch.Generator().manual_seed(2))
        try:
            with torch.no_grad():
                module(x)
            return x
        except Exception as error:
            reason = error
    raise RuntimeError(f"the network itself takes none of {sides}: {reason}")


def measure_keras(name: str) -> dict[str, Any]:
    """A keras.applications network, saved as ``.keras`` and loaded back, against Keras."""
    from convscope.adapters.from_keras import import_keras

    keras = import_keras()
    import convscope
    import torch

    model, side = keras_network(keras, name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.keras"
        model.save(path)
        started = time.perf_counter()
        graph = convscope.load(path, check=False)
    result: dict[str, Any] = {"import_seconds": round(time.perf_counter() - started, 1), "size": side}
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
    return verdict(result | _twin_results(graph, x, lambda image: _keras_output(double, image), torch.float64))


def keras_network(keras: Any, name: str) -> tuple[Any, int]:
    """An application with lively random weights, and its image side."""
    keras.utils.set_random_seed(0)
    side = KERAS_SIDES.get(name, 64)
    if name == "NASNetMobile":  # the function of that name refuses the torch backend, the network does not
        from keras.src.applications.nasnet import NASNet

        side = 224
        model = NASNet(input_shape=(224, 224, 3), penultimate_filters=1056, num_blocks=4, stem_block_filters=32,
                       skip_reduction=False, filter_multiplier=2, weights=None, default_size=224)  # fmt: skip
    else:
        model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=100)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.path.endswith(("moving_mean", "beta", "bias")):
            weight.assign(rng.uniform(-0.2, 0.2, weight.shape))
        elif weight.path.endswith(("moving_variance", "gamma")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model, side


def measure_light(name: str) -> dict[str, Any]:
    """One of the onnx package's light graphs with seeded weights, every tensor against the original file's."""
    import convscope
    from onnx import helper

    from tests.zoo import light_model

    model = light_model(name)
    graph = convscope.load(model, check=False)
    result = _describe(graph)
    own = {n for node in graph.model.graph.node for n in node.output if n}
    shared = [n for node in model.graph.node for n in node.output if n in own]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in shared)
    from convscope.engine.session import Session

    x = np.random.default_rng(0).normal(size=(1, graph.channels, *graph.image_size)).astype(np.float32)
    original = Session(model, device="cpu").run({graph.inputs[0].name: x})
    ours = graph.session(shared, device="cpu").run({graph.inputs[0].name: x})
    result |= {"size": graph.image_size[0], "names": len(shared)}
    result["output"] = max(_relative(ours[n], original[n]) for n in shared)
    import torch

    return verdict(result | _twin_results(graph, torch.from_numpy(x), None, torch.float32))


def _twin_results(graph: Any, x: Any, reference: Any, dtype: Any) -> dict[str, Any]:
    """Every tensor of the twin against the session, and its gradient against the reference's."""
    import torch
    from convscope.adapters.check import compare_executors

    try:
        differences = list(compare_executors(graph, {graph.inputs[0].name: x.numpy()}))
        twin = graph.twin([graph.outputs[0].name], dtype=dtype, fold=False)
        results: dict[str, Any] = {"tensors": max(d.rel for d in differences), "tensors_compared": len(differences)}
        if reference is None:
            return results
        image = x.to(dtype).requires_grad_()
        gradients = []
        for run in (twin.only, reference):
            output = run(image)
            weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
            gradients.append(torch.autograd.grad((output * weights).sum(), image)[0])
        results["gradient"] = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
        return results
    except Exception as error:
        return {"twin_error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}


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
