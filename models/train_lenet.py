"""Trains the shipped LeNet and writes it in every format: ``python -m convscope.models.train_lenet [--mnist FILE]``.

Deterministic on one machine. ``--mnist`` names an .npz with uint8 ``images`` (N, 28, 28) and ``labels`` (N,);
without it scikit-learn's 1,797 small digits are used, scaled up.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..engine.graph.preprocessing import Preprocessing
from ..engine.pictures.read import resize
from .lenet import LeNet, build_lenet, keras_weights

TARGET = Path(__file__).parent / "lenet"
INPUT = Preprocessing(order="GRAY", size=(28, 28), preset="custom", found="family")
LABELS = [str(digit) for digit in range(10)]
HELD_OUT = 0.1
EPOCHS, BATCH, RATE, SEED = 4, 64, 2e-3, 0


def digits(path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """(N, 1, 28, 28) float32 in [0, 1], and (N,) labels, shuffled with a fixed seed."""
    if path is not None:
        with np.load(path, allow_pickle=False) as data:
            keys = sorted(data.files, key=lambda k: data[k].ndim)
            labels, images = data[keys[0]], data[keys[-1]].reshape(-1, 28, 28).astype(np.float32) / 255
    else:
        from sklearn.datasets import load_digits

        found = load_digits()
        labels, images = (
            found.target,
            np.stack([resize(np.pad(i / 16, 1).astype(np.float32), (28, 28)) for i in found.images]),
        )
    order = np.random.default_rng(SEED).permutation(len(labels))
    return images[order, None], labels[order].astype(np.int64)


def train(images: np.ndarray, labels: np.ndarray) -> tuple[LeNet, float]:
    """The trained network and its accuracy on the held-out tenth."""
    torch.manual_seed(SEED)
    network, split = LeNet(), int(len(labels) * (1 - HELD_OUT))
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(split, generator=torch.Generator().manual_seed(epoch)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        return network, float((network(x[split:]).argmax(1) == y[split:]).float().mean())


def write(network: LeNet, target: Path) -> None:
    """``lenet.onnx .pt2 .safetensors .keras .h5``: one network, five files."""
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    from safetensors.torch import save_file

    from ..adapters.torch.load import export_torch
    from .builders import write_onnx

    target.mkdir(exist_ok=True)
    example = torch.zeros(1, 1, 28, 28)
    exported = export_torch(network, example)
    write_onnx(exported.model, target / "lenet.onnx", INPUT, LABELS, exported.names, exported.aliases)
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (torch.zeros(2, 1, 28, 28),), dynamic_shapes=({0: batch},))
    torch.export.save(program, target / "lenet.pt2")
    save_file(network.state_dict(), target / "lenet.safetensors")
    model = build_lenet()
    model.set_weights(keras_weights(network))
    model.save(target / "lenet.keras")
    model.save(target / "lenet.h5")
    write_companion(target)


def write_companion(target: Path) -> None:
    """``config.json`` in timm's form: the input and the classes, which only the ONNX file can hold itself."""
    cfg = {"input_size": [1, *(INPUT.size or ())], "mean": INPUT.mean, "std": INPUT.std, "crop_mode": "squash"}
    cfg |= {"crop_pct": INPUT.crop, "interpolation": INPUT.interpolation}
    config = {"architecture": "lenet", "num_classes": 10, "label_names": LABELS, "pretrained_cfg": cfg}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Trains LeNet-5 on digits, writes its model files and prints the accuracy on the digits held out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path, help="an .npz of MNIST images and labels")
    parser.add_argument("-o", "--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    network, accuracy = train(*digits(arguments.mnist))
    write(network, arguments.out)
    print(f"held-out accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
