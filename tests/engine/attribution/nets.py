"""Small torch networks with everything that makes attribution hard: skips, gates, ReLU6, several outputs."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

import convscope


class Residual(nn.Module):
    """conv-bn-relu-conv plus the input, then ReLU; every nonlinearity is a module of its own (captum needs it)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.conv2(self.relu1(self.bn1(self.conv1(x)))) + x)


class ResidualNet(nn.Module):
    """Stem, pooling (maximum unless ``average_first``), two residual blocks, average pooling, one linear layer."""

    def __init__(self, channels: int = 8, classes: int = 5, *, average_first: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, 2, 1)
        self.act = nn.ReLU()
        self.pool = nn.AvgPool2d(2) if average_first else nn.MaxPool2d(2)
        self.block1 = Residual(channels)
        self.block2 = Residual(channels)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.block1(self.pool(self.act(self.stem(x)))))
        return self.head(self.average(x).flatten(1))


class Gated(nn.Module):
    """Squeeze and excitation with ReLU6, and two dense layers: a head that is not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu6 = nn.ReLU6()
        self.gate = nn.Conv2d(6, 6, 1)
        self.sigmoid = nn.Sigmoid()
        self.down = nn.Conv2d(6, 6, 3, 2, 1)
        self.relu = nn.ReLU()
        self.fc1 = nn.Linear(6 * 8 * 8, 12)
        self.tanh = nn.Tanh()
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu6(self.conv(x))
        x = x * self.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = self.relu(self.down(x))
        return self.fc2(self.tanh(self.fc1(x.flatten(1))))


class ChannelsLast(nn.Module):
    """A ConvNeXt-like block: its middle works with channels last, inside a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.wide = nn.Linear(6, 12)
        self.act = nn.ReLU()
        self.narrow = nn.Linear(12, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.depthwise(x).permute(0, 2, 3, 1)
        inner = self.narrow(self.act(self.wide(inner))).permute(0, 3, 1, 2)
        return self.head((x + inner).mean((2, 3)))


class Segmenter(nn.Module):
    """Class logits at half resolution, and a second output: one number per image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)
        self.relu = nn.ReLU()
        self.classes = nn.Conv2d(6, 3, 1)
        self.area = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.relu(self.conv(x))
        return self.classes(features), self.area(features.mean((2, 3)))


def seeded(net: nn.Module, seed: int = 0) -> nn.Module:
    """In inference mode, with weights and normalization statistics that make every part count."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.2)
                module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
                module.weight.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
                module.bias.copy_(torch.randn(module.num_features, generator=generator) * 0.5)
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                fan = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.2)
    return net.eval()


@cache
def residual() -> tuple[nn.Module, convscope.Graph]:
    """The residual network and its graph."""
    return _pair(ResidualNet(), 32)


@cache
def gated() -> tuple[nn.Module, convscope.Graph]:
    """The gated network and its graph, for images of 16 px."""
    return _pair(Gated(), 16)


@cache
def channels_last() -> tuple[nn.Module, convscope.Graph]:
    """The network with a channels-last middle and its graph."""
    return _pair(ChannelsLast(), 32)


@cache
def segmenter() -> tuple[nn.Module, convscope.Graph]:
    """The segmentation network and its graph."""
    return _pair(Segmenter(), 16)


def images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Model input (N, 3, size, size)."""
    return np.random.default_rng(seed).normal(size=(count, 3, size, size)).astype(np.float32)


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to the largest value of the reference."""
    theirs = np.asarray(theirs, dtype=np.float64)
    return float(np.abs(np.asarray(ours, dtype=np.float64) - theirs).max() / np.abs(theirs).max())


def _pair(net: nn.Module, size: int) -> tuple[nn.Module, convscope.Graph]:
    torch.set_num_threads(1)
    return seeded(net), convscope.load(net, example_input=torch.zeros(2, 3, size, size))
