"""The networks of the coverage sweep: which, at what size, and with weights for which every branch matters.

Weights are random (seeded); batch-norm gets the statistics of what arrives, and scales that start near zero
(LayerScale) are raised, since a branch times 1e-6 would hide every fault in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIDES = (64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 320, 331, 384)  # image sizes to try, the smallest first

KERAS = (  # every network of keras.applications; the small ones first
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "VGG16", "VGG19", "ResNet50", "ResNet50V2",
    "DenseNet121", "InceptionV3", "Xception", "EfficientNetB0", "EfficientNetV2B0", "NASNetMobile", "ConvNeXtTiny",
    "ResNet101", "ResNet101V2", "InceptionResNetV2", "DenseNet169", "DenseNet201", "EfficientNetB1",
    "EfficientNetB2", "EfficientNetB3", "EfficientNetB4", "EfficientNetV2B1", "EfficientNetV2B2",
    "EfficientNetV2B3", "EfficientNetV2S", "ResNet152", "ResNet152V2", "ConvNeXtSmall", "EfficientNetB5",
    "EfficientNetB6", "EfficientNetB7", "NASNetLarge", "EfficientNetV2M", "ConvNeXtBase", "EfficientNetV2L",
    "ConvNeXtLarge", "ConvNeXtXLarge",
)  # fmt: skip
# NASNetMobile and NASNetLarge refuse the torch backend by name; the network behind them does not.
_NASNET = {
    "NASNetMobile": {"penultimate_filters": 1056, "num_blocks": 4, "stem_block_filters": 32, "skip_reduction": False},
    "NASNetLarge": {"penultimate_filters": 4032, "num_blocks": 6, "stem_block_filters": 96, "skip_reduction": True},
}
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


def timm_cases(cache: Path) -> list[Case]:
    """The smallest variant of every family of every convolutional and hybrid timm module.

    Args:
        cache: where the list is kept, since it takes over a minute to count the parameters of a thousand networks.
    """
    import timm

    path = cache / f"timm-{timm.__version__}.json"
    if not path.exists():
        path.write_text(json.dumps([astuple(case) for case in _smallest_variants()]))
    return [Case(*entry) for entry in json.loads(path.read_text())]


def _smallest_variants() -> list[Case]:
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
    """All classification networks of torchvision.models up to `MAX_PARAMETERS`, attention apart; the small first."""
    import torchvision

    cases = []
    for name in torchvision.models.list_models(module=torchvision.models):
        size = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
        if size <= MAX_PARAMETERS or name.startswith("vgg"):
            attention = _TORCHVISION_ATTENTION.match(name)
            group = f"torchvision, {'with attention' if attention else 'convolutional'}"
            cases.append((size, Case("torchvision", group, name)))
    return [case for _, case in sorted(cases, key=lambda entry: entry[0])]


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


# Where branches are as strong as what they are added to, 79 blocks leave nothing of the input but its last bit.
_BRANCH_ENDS = {"EfficientNetV2L": ("project_bn/gamma",)}
_BRANCH_SCALE = 0.1


def keras_network(keras: Any, name: str) -> tuple[Any, int]:
    """An application with lively random weights, and its image side."""
    keras.utils.set_random_seed(0)
    side = KERAS_SIDES.get(name, 64)
    if name in _NASNET:
        from keras.src.applications.nasnet import NASNet

        shape = {"input_shape": (side, side, 3), "default_size": side, "classes": 100}
        model = NASNet(**shape, **_NASNET[name], filter_multiplier=2, weights=None)
    else:
        model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=100)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.path.endswith(("moving_mean", "beta", "bias")):
            weight.assign(rng.uniform(-0.2, 0.2, weight.shape))
        elif weight.path.endswith(("moving_variance", "gamma")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        if weight.path.endswith(_BRANCH_ENDS.get(name, ())):
            weight.assign(_BRANCH_SCALE * weight.numpy())
    _calibrate_keras(model, side)
    return model, side


def _calibrate_keras(model: Any, side: int) -> None:
    """As `calibrate`: the moving statistics of every batch-norm become those of sixteen random images."""
    import torch

    norms = [la for la in model.layers if type(la).__name__ == "BatchNormalization"]
    before = [norm.momentum for norm in norms]
    pixels = 255.0 if any(type(la).__name__ == "Rescaling" for la in model.layers) else 1.0
    for norm in norms:
        norm.momentum = 0.0
    images = torch.rand((16, side, side, 3), generator=torch.Generator().manual_seed(3))
    images[8:] *= pixels  # the import runs an example in [0, 1], the sweep one in the network's own range
    with torch.no_grad():
        model(images, training=True)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.moving_variance.assign(np.maximum(norm.moving_variance.numpy(), 1e-3))


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
