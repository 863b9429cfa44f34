"""Torch networks that take no pictures say in their first layer what they read; the rest is tried out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope
from convscope.adapters.load import load_here
from convscope.adapters.torch.load import example_for
from convscope.errors import RefusedInput


class Listener(nn.Module):
    """Features of each step through an LSTM: the last state, to unit length."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 8, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(x)
        return hidden[-1] / hidden[-1].norm(dim=1, keepdim=True)


class Flat(nn.Module):
    """Samples (N, T), with the channel added inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 2:
            raise ValueError("samples (N, T) are needed")
        return self.conv(x[:, None]).relu().mean(2)


SIGNAL = nn.Sequential(nn.Conv1d(2, 3, 5), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 1020, 2))
VOLUME = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("net", "size", "shape"),
    [
        (SIGNAL, None, (1, 2, 1024)), (VOLUME, None, (1, 1, 16, 64, 64)), (VOLUME, (24, 20), (1, 1, 16, 24, 20)),
        (Flat(), None, (1, 512)), (Flat(), (1, 99), (1, 99)), (Listener(), None, (1, 100, 40)),
        (Listener(), (7, 40), (1, 7, 40)),
    ],
)  # fmt: skip
def test_the_first_layer_says_what_is_read(
    net: nn.Module, size: tuple[int, int] | None, shape: tuple[int, ...]
) -> None:
    assert example_for(net.train(), size).shape == shape and net.training


def test_what_is_imported_computes_what_the_network_computes() -> None:
    net = Listener().eval()
    graph = convscope.load(net, size=(9, 40))
    x = torch.rand(1, 9, 40)
    found = graph.session([graph.outputs[0].name]).run(x.numpy()[:, None])[graph.outputs[0].name]
    np.testing.assert_allclose(found, net(x).detach().numpy(), atol=1e-5)


def test_what_cannot_be_known_is_said_with_what_was_tried() -> None:
    with pytest.raises(RefusedInput, match=r"its input is unknown; give load\(example_input=\) in Python"):
        example_for(nn.Sequential(nn.Linear(3, 4)))
    with pytest.raises(RefusedInput, match="its input is unknown"):  # steps first: which axis is the picture's?
        example_for(Listener(batch_first=False))
    with pytest.raises(RefusedInput, match=r"no input of the shapes tried \(1x2x99\): mat1 and mat2"):
        example_for(SIGNAL, (1, 99))


def test_a_file_of_weights_says_at_which_size_it_was_exported_where_nobody_stated_one(tmp_path: Path) -> None:
    layers = "nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)"
    (tmp_path / "network.py").write_text(f"from torch import nn\n\n\ndef make():\n    return nn.Sequential({layers})\n")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    arch = f"{tmp_path / 'network.py'}:make"

    def said(**options: Any) -> bool:
        graph = load_here(tmp_path / "weights.pth", arch=arch, check=False, **options)
        return any("exported at 224x224, the first usual size" in note for note in graph.source.notes)

    assert said()
    assert not said(size=(64, 64))
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "size": 64}')
    assert not said()


class Spectra(nn.Module):
    """Steps of bands (N, T, F), seen as a picture inside, as Hugging Face's audio spectrogram transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(max_length=48, num_mel_bins=16)
        self.patches = nn.Conv2d(1, 4, 8, 8)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3:
            raise ValueError("spectra (N, T, F) are needed")
        return self.head(self.patches(x[:, None]).flatten(2).mean(2))


def test_a_network_of_spectra_has_the_steps_and_bands_of_its_config() -> None:
    module = Spectra().eval()
    graph = load_here(module, check=False)
    assert graph.image_size == (48, 16) and graph.channels == 1
    x = torch.rand(2, 48, 16)
    (output,) = [spec.name for spec in graph.outputs]
    found = graph.session([output], device="cpu").run({graph.inputs[0].name: x[:, None].numpy()})[output]
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    module.config = SimpleNamespace()
    with pytest.raises(RefusedInput, match=r"spectra \(N, T, F\) are needed"):
        load_here(module, check=False)
