"""Tiny trained nets whose right answers are known: a detector of coloured squares, a segmenter, a reader of digits.

``python -m tests.engine.outputs.proof`` trains them on one core in a few minutes and writes ``proof.npz``
beside this file.
Pictures are drawn by a seed; the truth (boxes, masks, places of digits) comes with them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("proof.npz")
SIDE, STRIDE = 64, 4
COLOURS = np.asarray([[0.9, 0.15, 0.15], [0.15, 0.8, 0.2], [0.2, 0.3, 0.95]], np.float32)
GLYPHS = [
    "111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001",
    "111100111001111", "111100111101111", "111001001001001", "111101111101111", "111101111001111",
]  # fmt: skip


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU())


class Detector(nn.Module):
    """(N, 3, 64, 64) -> (N, 4 + 3, 256): centre, size in pixels and a sigmoid a class, as YOLOv8 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 12, 2), block(12, 24, 2), block(24, 24), block(24, 24))
        self.sides = nn.Sequential(block(24, 24), nn.Conv2d(24, 4, 1))
        self.classes = nn.Sequential(block(24, 24), nn.Conv2d(24, 3, 1))
        rows, columns = torch.meshgrid(torch.arange(SIDE // STRIDE), torch.arange(SIDE // STRIDE), indexing="ij")
        self.register_buffer("cells", (torch.stack([columns, rows]).float().flatten(1) + 0.5)[None] * STRIDE)

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (N, 4, 256) in pixels to left, top, right, bottom, and class logits (N, 3, 256)."""
        features = self.body(x)
        return nn.functional.softplus(self.sides(features)).flatten(2) * STRIDE, self.classes(features).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        distances, logits = self.raw(x)
        low, high = self.cells - distances[:, :2], self.cells + distances[:, 2:]
        return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], 1)


class Segmenter(nn.Module):
    """(N, 3, 64, 64) -> (N, 3, 64, 64): background, square, disc."""

    def __init__(self) -> None:
        super().__init__()
        self.first = block(3, 12)
        self.down = nn.Sequential(block(12, 24, 2), block(24, 24, 2), block(24, 24), block(24, 24))
        self.up = nn.Upsample(scale_factor=4, mode="bilinear")
        self.last = nn.Sequential(block(36, 16), block(16, 16), nn.Conv2d(16, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return self.last(torch.cat([first, self.up(self.down(first))], 1))


class Reader(nn.Module):
    """(N, 3, 16, 96) -> (N, 24, 11): digits 0 to 9 after the blank, a softmax for every four columns."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 12), block(12, 24, 2), block(24, 32, 2), block(32, 32))
        self.head = nn.Conv2d(32, 11, (4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)).squeeze(2).transpose(1, 2).softmax(2)


def squares(seed: int) -> tuple[np.ndarray, list[tuple[int, tuple[int, int, int, int]]]]:
    """(3, 64, 64) in [0, 1] and (class, (left, top, right, bottom)) of one to three squares that do not touch."""
    rng = np.random.default_rng(seed)
    picture = rng.uniform(0.3, 0.6) + rng.normal(0, 0.06, (3, SIDE, SIDE)).astype(np.float32)
    truth: list[tuple[int, tuple[int, int, int, int]]] = []
    for _ in range(int(rng.integers(1, 4)) * 3):
        side, kind = int(rng.integers(9, 19)), int(rng.integers(3))
        left, top = (int(v) for v in rng.integers(1, SIDE - side - 1, 2))
        box = (left, top, left + side, top + side)
        apart = all(box[0] > b[2] + 3 or b[0] > box[2] + 3 or box[1] > b[3] + 3 or b[1] > box[3] + 3 for _, b in truth)
        if apart and len(truth) < 3:
            picture[:, top : box[3], left : box[2]] = COLOURS[kind][:, None, None] + rng.normal(
                0, 0.05, (3, side, side)
            )
            truth.append((kind, box))
    return picture.clip(0, 1).astype(np.float32), truth


def shapes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(3, 64, 64) in [0, 1] and (64, 64) classes: a red square, a blue disc, and a green one that is neither."""
    rng = np.random.default_rng(seed)
    picture = rng.uniform(0.3, 0.6) + rng.normal(0, 0.06, (3, SIDE, SIDE))
    classes = np.zeros((SIDE, SIDE), np.int64)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for kind, middle in zip(rng.permutation(3), (11, 32, 53), strict=True):
        radius, row, column = rng.uniform(6, 9), rng.uniform(12, 52), middle + rng.uniform(-1, 1)
        inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
        if kind == 0:
            inside = (np.abs(y - row) < radius) & (np.abs(x - column) < radius)
        picture[:, inside] = COLOURS[[0, 2, 1][kind]][:, None] + rng.normal(0, 0.05, (3, inside.sum()))
        classes[inside] = [1, 2, 0][kind]
    return picture.clip(0, 1).astype(np.float32), classes


def line(seed: int) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """(3, 16, 96) in [0, 1] and (digit, first column, last column + 1) of three to five digits, each 6 x 10 pixels."""
    rng = np.random.default_rng(seed)
    picture = np.full((16, 96), rng.uniform(0.7, 1.0)) + rng.normal(0, 0.05, (16, 96))
    truth, column = [], int(rng.integers(3, 10))
    for _ in range(int(rng.integers(3, 6))):
        digit, top = int(rng.integers(10)), int(rng.integers(2, 5))
        glyph = np.kron(np.asarray([int(c) for c in GLYPHS[digit]]).reshape(5, 3), np.ones((2, 2)))
        picture[top : top + 10, column : column + 6] -= glyph * rng.uniform(0.5, 0.7)
        truth.append((digit, column, column + 6))
        column += 6 + int(rng.integers(8, 12))
        if column > 88:
            break
    return np.repeat(picture.clip(0, 1)[None], 3, axis=0).astype(np.float32), truth


def trained(net: nn.Module, name: str) -> nn.Module:
    """The net with its stored weights."""
    with np.load(WEIGHTS) as stored:
        state = {
            k.split("/", 1)[1]: torch.from_numpy(stored[k].astype(np.float32))
            for k in stored
            if k.startswith(f"{name}/")
        }
    net.load_state_dict({**net.state_dict(), **state})
    return net.eval()


def _detector_loss(net: Any, seeds: list[int]) -> Tensor:
    drawn = [squares(s) for s in seeds]
    distances, logits = net.raw(torch.from_numpy(np.stack([p for p, _ in drawn])))
    wanted, boxes, here = torch.zeros_like(logits), torch.zeros_like(distances), torch.zeros(len(seeds), 256)
    x, y = net.cells[0]
    for n, (_, truth) in enumerate(drawn):
        for kind, (left, top, right, bottom) in truth:
            middle = (x - (left + right) / 2).abs().lt(3) & (y - (top + bottom) / 2).abs().lt(3)
            wanted[n, kind, middle] = 1
            here[n, middle] = 1
            boxes[n, :, middle] = torch.stack([x - left, y - top, right - x, bottom - y])[:, middle]
    sides = ((distances - boxes).abs().mean(1) * here).sum() / here.sum()
    return nn.functional.binary_cross_entropy_with_logits(logits, wanted) * 20 + sides * 0.2


def _segmenter_loss(net: Any, seeds: list[int]) -> Tensor:
    drawn = [shapes(s) for s in seeds]
    found = net(torch.from_numpy(np.stack([p for p, _ in drawn])))
    return nn.functional.cross_entropy(found, torch.from_numpy(np.stack([c for _, c in drawn])))


def _reader_loss(net: Any, seeds: list[int]) -> Tensor:
    drawn = [line(s) for s in seeds]
    found = net(torch.from_numpy(np.stack([p for p, _ in drawn]))).clamp(min=1e-9).log()
    wanted = torch.zeros(found.shape[:2], dtype=torch.long)
    for n, (_, truth) in enumerate(drawn):
        for digit, first, last in truth:
            wanted[n, (first + last) // 2 // 4] = digit + 1
    return nn.functional.nll_loss(found.flatten(0, 1), wanted.flatten(), weight=torch.tensor([0.4] + [1.0] * 10))


def train() -> None:
    """Trains the three nets and writes their weights as float16."""
    stored = {}
    jobs: list[tuple[str, nn.Module, Any, int]] = [
        ("detector", Detector(), _detector_loss, 700),
        ("segmenter", Segmenter(), _segmenter_loss, 90),
        ("reader", Reader(), _reader_loss, 600),
    ]
    for name, net, loss, steps in jobs:
        torch.manual_seed(0)
        for parameter in net.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter)
        optimizer = torch.optim.Adam(net.parameters(), 4e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        begun, value = time.time(), 0.0
        for step in range(steps):
            optimizer.zero_grad()
            current = loss(net, [10_000 + step * 16 + i for i in range(16)])
            current.backward()
            optimizer.step()
            schedule.step()
            value = 0.95 * value + 0.05 * float(current.detach())
        print(f"{name}: loss {value:.4f} after {steps} steps, {time.time() - begun:.0f} s")
        stored.update(
            {f"{name}/{k}": v.numpy().astype(np.float16) for k, v in net.state_dict().items() if k != "cells"}
        )
        np.savez_compressed(WEIGHTS, **stored)


if __name__ == "__main__":
    train()
