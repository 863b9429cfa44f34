"""Reading pictures that nobody has vouched for, and fitting them to a model.

A picture is RGB, float32, (H, W, 3), in [0, 1]; sound is one of one row, and an array of model input stands for itself.
Every conversion is done here and nowhere else: Pillow's own 16-bit to RGB conversion clips everything above 255 to
white without a word.
"""

from __future__ import annotations

import math
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...errors import ConvscopeError, RefusedInput, UsageError
from ..graph.preprocessing import Preprocessing
from ..render.artifacts import below
from .containers import MAX_FRAMES, count_frames
from .framing import LETTERBOX_GRAY, Frame, framed
from .signals import NPY, NPZ, is_wav, read_array, read_wav

if TYPE_CHECKING:
    from ..graph.graph import Graph

T = TypeVar("T")

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
_SIGNATURES = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"), "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WebP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "TIFF": re.compile(rb"II[*+]\x00|MM\x00[*+]"),
    "BMP": re.compile(rb"BM"), "GIF": re.compile(rb"GIF8"),
}  # fmt: skip
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
SOUND = {".wav"}
ARRAYS = {".npy", ".npz"}
_READ = SUFFIXES | SOUND | ARRAYS
MAX_PIXELS = 89_478_485  # where Pillow starts to warn of decompression bombs
_MAX_WEBP = 60_000_000  # pixels; its decoder holds 16 bytes of each
_LONGEST = 1_000_000  # pixels of a side
_LARGEST_WHOLE = 2**25  # pixels; larger ones are read at half their size, 0.3 GB then
_LARGE = 2**23  # pixels of pictures that are decoded one at a time
_LARGE_FILE = 2**25  # bytes
_BAND = 2**20  # pixels converted at once
_FREE_BLOCKS = 2**14  # blocks of a JPEG that may be as empty as they like: 1024 x 1024 pixels
_LONGEST_SHOWN = 200  # characters of a path that no file can have
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> the picture as it is meant
    2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1], 5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1), 7: lambda p: np.rot90(p, 2).transpose(1, 0, 2), 8: np.rot90,
}  # fmt: skip
_SILENCE = 0.5
_SLACK = 1e-3  # of values just outside [0, 1], as resampling leaves them
_LARGEST_ENLARGED = 64e6  # pixels of a picture scaled to be cropped
_REACH = 8  # pixels of a picture around what is kept, for the resampling's kernel
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in Pillow's "L"
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (H, W, 3) float32 RGB in [0, 1]; of sound (1, T, 1), silence 0.5.
        path: where it was read.
        notes: what was done to it that a user should know (first frame, transparency, rotation).
        values: of an ``.npy`` file, what the model reads for it, in the model's own units; ``pixels`` only show it.
        is_sound: whether it is sound, for models that take samples.
    """

    pixels: np.ndarray
    path: str
    notes: tuple[str, ...] = ()
    values: np.ndarray | None = None
    is_sound: bool = False


def read_image(path: str | Path) -> Picture:
    """A picture file as RGB in [0, 1]: EXIF rotation applied, first frame, transparency on white.

    A WAV file is a picture of one row, an ``.npy`` file, or ``.npz`` file of one array, model input; see `signals`.

    Raises:
        UsageError: there is no such file.
        RefusedInput: broken, truncated, too large, or not PNG, JPEG, WebP, TIFF, BMP, GIF, WAV, ``.npy`` or ``.npz``.
    """
    file = Path(path)
    mode = _mode(file)
    if stat.S_ISDIR(mode):
        raise UsageError(f"image '{path}' is a folder; name a picture file")
    if not stat.S_ISREG(mode):  # whoever opens a pipe waits for its writer
        raise UsageError(f"image '{path}' is not a regular file; name a picture file")
    if (other := _signal(file)) is not None:
        return other
    try:
        with _opened(file) as (image, frames):
            return _decode(image, str(path), frames)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise RefusedInput(f"image '{path}' claims more than {MAX_PIXELS:,} pixels; scale it down first") from None
    except UnidentifiedImageError:
        raise RefusedInput(f"image '{path}' {_unreadable(file)}") from None
    except ConvscopeError:
        raise
    except Exception as error:  # Pillow's readers raise whatever Python does where they run out of bytes
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise RefusedInput(f"image '{path}' is broken: {reason}") from None


def _signal(path: Path) -> Picture | None:
    """A file that is sound or an array."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError as error:
        raise UsageError(f"image '{path}' cannot be read: {error.strerror or error}") from None
    if is_wav(start):
        pixels, notes = read_wav(path)
        return Picture(pixels, str(path), notes, is_sound=True)
    if start.startswith((NPY, NPZ)):
        values, pixels = read_array(path)
        return Picture(pixels, str(path), values=values)
    return None


def _unreadable(path: Path) -> str:
    """Why no reader takes a file: it is of no known format, or of one but in a form that has no reader."""
    with path.open("rb") as file:
        start = file.read(12)
    for format_, pattern in _SIGNATURES.items():
        if pattern.match(start):
            return (
                f"is a {format_} that is broken, or holds values of a kind that is not read here (such as 16-bit "
                "floating-point); save it with 8 or 16 bits a channel"
            )
    return f"is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture"


def _mode(path: Path) -> int:
    """What kind of file a path names; raises UsageError where that cannot be told."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"image '{str(path)[:_LONGEST_SHOWN]}' does not exist; name a picture file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"image '{str(path)[:_LONGEST_SHOWN]}' cannot be read: {reason}") from None


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Image.Image, int]]:
    """A picture file, not yet decoded, and how many frames it has; what it claims has been checked."""
    frames = count_frames(file)
    # No warning filters: they belong to the process, and this runs in threads.
    with Image.open(file, formats=FORMATS) as image:
        _check_claim(image, file)
        yield image, min(getattr(image, "n_frames", 1), MAX_FRAMES) if image.format == "WEBP" else frames


def _check_claim(image: Image.Image, file: Path) -> None:
    """A JPEG has at least one bit for each block of 8 x 8 pixels: libjpeg fills with gray what is missing."""
    most = _MAX_WEBP if image.format == "WEBP" else MAX_PIXELS
    if image.width * image.height > most or max(image.size) > _LONGEST:
        raise RefusedInput(
            f"image '{file}' has {image.width} x {image.height} pixels; at most {most:,} and sides of {_LONGEST:,} are "
            "read: scale it down first"
        )
    blocks = math.ceil(image.width / 8) * math.ceil(image.height / 8)
    if image.format == "JPEG" and blocks > _FREE_BLOCKS and 16 * file.stat().st_size < blocks:
        raise RefusedInput(
            f"image '{file}' claims {image.width} x {image.height} pixels in {file.stat().st_size:,} bytes"
        )


def from_pillow(image: Image.Image, name: str) -> Picture:
    """A Pillow image as RGB in [0, 1], converted as a file would be; ``name`` stands for its path.

    Raises:
        RefusedInput: too large, or values that are no colours.
    """
    if image.width * image.height > MAX_PIXELS:
        raise RefusedInput(f"image '{name}' has {image.width} x {image.height} pixels; scale it down first")
    return _decode(image.copy(), name)


def _decode(image: Image.Image, path: str, frames: int = 1) -> Picture:
    notes: list[str] = []
    if frames > 1:
        notes.append(f"the first of {frames}{' or more' if frames == MAX_FRAMES else ''} frames")
    if not image.mode.startswith("I") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        _reduced(image, notes)
    turned = image.getexif().get(0x0112, 1)
    factor = _factor(image, notes)
    image.load()
    pixels = _by_bands(image, path, notes, factor)
    if turned in _TURNS:
        pixels = np.ascontiguousarray(_TURNS[turned](pixels))
        notes.append("rotated as its EXIF orientation says")
    return Picture(pixels, path, tuple(dict.fromkeys(notes)))


def _factor(image: Image.Image, notes: list[str]) -> int:
    """By how much a very large picture is made smaller while it is converted; a JPEG already while it is decoded."""
    if image.width * image.height <= _LARGEST_WHOLE:
        return 1
    notes.append("read at half its size")
    if image.format == "JPEG" and image.draft(None, (image.width // 2, image.height // 2)) is not None:
        return 1
    return 2


def _by_bands(image: Image.Image, path: str, notes: list[str], factor: int) -> np.ndarray:
    """`_to_rgb` of a few rows after the other, averaged over squares of ``factor``: its copies stay small."""
    rows = max(1, _BAND // (image.width * factor)) * factor
    height, width = image.height // factor, image.width // factor
    pixels = np.empty((height, width, 3), np.float32)
    for top in range(0, height * factor, rows):
        bottom = min(top + rows, height * factor)
        band = _to_rgb(image.crop((0, top, width * factor, bottom)), path, notes)
        if factor > 1:
            band = band.reshape(len(band) // factor, factor, width, factor, 3).mean(axis=(1, 3), dtype=np.float32)
        pixels[top // factor : bottom // factor] = band
    return pixels


def _reduced(image: Image.Image, notes: list[str]) -> None:
    """Pillow keeps the upper byte of 16-bit colours, but not of the colour that stands for transparent."""
    notes.append("16 bits per channel read as 8")
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in transparent)


def _to_rgb(image: Image.Image, path: str, notes: list[str]) -> np.ndarray:
    if image.mode.startswith("I;16") or image.mode == "I":
        return _gray(_deep(image, path, notes))
    if image.mode == "F":
        return _gray(_floats(np.asarray(image, dtype=np.float32), path))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"), dtype=np.float32) / 255
        if rgba[..., 3].min() < 1:
            notes.append("transparent parts shown on white")
        return rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:])
    return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)


def _deep(image: Image.Image, path: str, notes: list[str]) -> np.ndarray:
    """16-bit gray as value / 65535."""
    values = np.asarray(image).astype(np.int64)
    if image.mode == "I" and values.size and (values.min() < 0 or values.max() > 65535):
        raise RefusedInput(f"image '{path}' has 32-bit values outside 0 to 65535; convert it to 8 or 16 bits")
    notes.append("16-bit gray")
    pixels = (values / 65535).astype(np.float32)
    transparent = values == image.info.get("transparency", -1)
    if transparent.any():
        pixels[transparent] = 1
        notes.append("transparent parts shown on white")
    return pixels


def _floats(values: np.ndarray, path: str) -> np.ndarray:
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise RefusedInput(f"image '{path}' has floating values outside [0, 1] or NaN; scale it to [0, 1] first")
    return values


def _gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def resize(pixels: np.ndarray, size: tuple[int, int], interpolation: str = "bilinear") -> np.ndarray:
    """Antialiased resampling, channel by channel in float32.

    Args:
        pixels: (H, W) or (H, W, C) float32.
        size: (height, width).
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos".
    """
    if pixels.shape[:2] == tuple(size):
        return pixels
    bands = pixels[..., None] if pixels.ndim == 2 else pixels
    wanted = (int(size[1]), int(size[0]))
    method = _RESAMPLING[interpolation]
    done = [np.asarray(Image.fromarray(band).resize(wanted, method)) for band in _planes(bands)]
    stacked = np.stack(done, axis=-1).astype(np.float32, copy=False)
    return stacked[..., 0] if pixels.ndim == 2 else stacked


def _resize_bytes(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """The same for models that take whole numbers: in 8 bits, as torchvision and timm resize, to the last bit.

    Their resampling rounds after each of its two passes, and cuts what bicubic overshoots. A picture of finer values
    than 8 bits is resized as it is.
    """
    values = pixels * 255
    whole = np.rint(values)
    if np.abs(values - whole).max() > 1e-3:
        return resize(pixels, size, interpolation)
    wanted = (int(size[1]), int(size[0]))
    planes = [
        np.asarray(Image.fromarray(band).resize(wanted, _RESAMPLING[interpolation]))
        for band in np.moveaxis(whole.clip(0, 255).astype(np.uint8), -1, 0)
    ]
    return np.stack(planes, axis=-1).astype(np.float32) / 255


def _planes(bands: np.ndarray) -> Iterator[np.ndarray]:
    for channel in range(bands.shape[2]):
        yield np.ascontiguousarray(bands[..., channel], dtype=np.float32)


def checked_pixels(picture: Any) -> np.ndarray:
    """A picture given as an array, (H, W, C) float32 in [0, 1]: uint8 is divided by 255, (H, W) is one channel.

    Raises:
        UsageError: another shape, no pixels, or values outside [0, 1].
    """
    values = np.asarray(picture)
    if values.dtype.kind not in "fiub" or values.ndim not in (2, 3) or 0 in values.shape:
        raise UsageError(f"a picture of shape {np.shape(picture)} is not (height, width, channels)")
    check_range(values / 255 if values.dtype == np.uint8 else values)
    pixels = values.astype(np.float32) / (255 if values.dtype == np.uint8 else 1)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def check_range(values: np.ndarray) -> None:
    """Raises UsageError where pictures are not in [0, 1]."""
    if not np.isfinite(values).all():
        raise UsageError("the picture holds values that are no finite numbers (NaN or infinity)")
    if values.min() < -_SLACK or values.max() > 1 + _SLACK:
        low, high = float(values.min()), float(values.max())
        advice = "divide one of 0..255 by 255"
        if -1 - _SLACK <= low < 0 and high <= 1 + _SLACK:
            advice = "(values + 1) / 2 brings -1..1 there, and preprocessed=True takes what the model itself reads"
        raise UsageError(f"the picture has values outside [0, 1]; {advice}")


def fit(pixels: np.ndarray, graph: Graph, size: tuple[int, int] | None = None) -> np.ndarray:
    """A picture in the shape of the model's input: resized or cropped as its preprocessing says.

    Args:
        pixels: (H, W, 3) in [0, 1]; (H, W, 1) in gray is shown to a model of colours as such.
        graph: its preprocessing and channels decide.
        size: (height, width); default the graph's image size.

    Returns:
        (C, H, W) float32 in [0, 1], RGB, or one channel of luma where the model takes one.

    Raises:
        UsageError: the model takes neither one nor three channels.
    """
    target = size or graph.image_size
    p = graph.preprocessing
    pixels = pixels if pixels.shape[2] == graph.channels else _in_colour(pixels)
    fitted = _placed(pixels, framed(pixels.shape[0], pixels.shape[1], target, p), p).clip(0, 1)
    if graph.channels == 1 and fitted.shape[2] == 3:
        return luma(fitted)[None]
    if graph.channels != fitted.shape[2]:
        count = graph.channels
        raise UsageError(
            f"{graph.name} takes {count} channels, and a picture has 1 or 3; give an .npy file of what it reads "
            f"({_taken(graph, target)}), or from Python arrays (height, width, {count})"
        )
    return np.ascontiguousarray(fitted.transpose(2, 0, 1))


def luma(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32: how bright pixels (H, W, 3) in [0, 1] are, which is all that a model of one channel sees."""
    return (pixels @ _LUMA).astype(np.float32)


def _placed(pixels: np.ndarray, frame: Frame, how: Preprocessing) -> np.ndarray:
    """The picture resized and cut or padded as its frame says."""
    rows, columns = frame.size
    if rows == 1 == len(pixels):  # samples: nothing is resized, and silence follows
        heard = pixels[:, :columns]
        return np.pad(heard, ((0, 0), (0, columns - heard.shape[1]), (0, 0)), constant_values=_SILENCE)
    if frame.resized[0] * frame.resized[1] > _LARGEST_ENLARGED:  # a strip: resized, thousands of times what is kept
        pixels, frame = _piece(pixels, frame)
    scaled = (_resize_bytes if how.whole else resize)(pixels, frame.resized, how.interpolation)
    if not frame.pads:
        return scaled[frame.top : frame.top + rows, frame.left : frame.left + columns]
    found = np.empty((rows, columns, pixels.shape[2]), np.float32)
    found[:] = border(how, pixels.shape[2])
    top, left = max(frame.top, 0), max(frame.left, 0)
    kept = scaled[top : frame.top + rows, left : frame.left + columns]
    found[top - frame.top :, left - frame.left :][: kept.shape[0], : kept.shape[1]] = kept
    return found


def border(how: Preprocessing, channels: int) -> np.ndarray:
    """(C,) in [0, 1]: the colour beside a picture that does not fill its frame."""
    if how.resize == "letterbox":
        return np.full(channels, LETTERBOX_GRAY, np.float32)
    if how.resize == "border":  # timm: the mean, as a whole number of 255
        mean = np.asarray(how.mean, np.float64) if len(how.mean) in (1, channels) else np.zeros(1)
        return np.broadcast_to(np.rint(255 * mean) / 255, (channels,)).astype(np.float32)
    return np.zeros(channels, np.float32)


def _piece(pixels: np.ndarray, frame: Frame) -> tuple[np.ndarray, Frame]:
    """The middle of a strip, and the frame of the same input in it."""
    scales = [new / old for new, old in zip(frame.resized, pixels.shape, strict=False)]
    piece = _centre(pixels, [2 * _REACH + math.ceil(s / k) for s, k in zip(frame.size, scales, strict=True)])
    resized = [max(round(old * k), s) for old, k, s in zip(piece.shape, scales, frame.size, strict=False)]
    top, left = (round((r - s) / 2) for r, s in zip(resized, frame.size, strict=True))
    return piece, Frame((resized[0], resized[1]), top, left, frame.size)


def _in_colour(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[2] not in (1, 3):
        raise UsageError(f"a picture of shape {pixels.shape} is not (height, width, 3), nor (height, width)")
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _centre(pixels: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """The middle of a picture, at least ``sides`` where it is as large, with the same centre."""
    cuts = [max(0, (length - side) // 2) for length, side in zip(pixels.shape, sides, strict=False)]
    return pixels[tuple(slice(cut, length - cut) for cut, length in zip(cuts, pixels.shape, strict=False))]


def model_input(picture: Picture | np.ndarray, graph: Graph, size: tuple[int, int] | None = None) -> np.ndarray:
    """(1, C, H, W) float32 model input of one picture.

    Raises:
        UsageError: the model takes neither one nor three channels. RefusedInput: sound for a model of pictures, or an
            array of another shape than the model's input.
    """
    if isinstance(picture, Picture) and picture.values is not None:
        return _as_given(picture.values, picture.path, graph, size or graph.image_size)
    if isinstance(picture, Picture) and picture.is_sound and (size or graph.image_size)[0] != 1:
        raise RefusedInput(
            f"'{picture.path}' is sound, and {graph.name} takes {_taken(graph, graph.image_size)}: compute that as the "
            "model's authors do, and give it as an .npy file"
        )
    pixels = picture.pixels if isinstance(picture, Picture) else checked_pixels(picture)
    return graph.preprocessing.normalize(fit(pixels, graph, size)[None]).astype(np.float32, copy=False)


def photograph(picture: Picture) -> np.ndarray:
    """The pixels of what has to be a photograph.

    Raises:
        RefusedInput: it is an array of model input.
    """
    if picture.values is not None:
        raise RefusedInput(f"'{picture.path}' is an array of model input; a photograph is needed here")
    return picture.pixels


def _as_given(values: np.ndarray, path: str, graph: Graph, size: tuple[int, int]) -> np.ndarray:
    """(1, C, H, W): an array in the shape of the source's own input for one picture, with or without the batch.

    Raises:
        RefusedInput: another shape.
    """
    shape = (graph.channels, *size)
    sides = None if graph.own_input is None else graph.own_input[1][1:]
    is_last = sides is None and graph.preprocessing.layout == "NHWC"
    expected = (*size, graph.channels) if is_last else shape
    for one in (values, values[0] if len(values) == 1 else values):
        if sides is None and one.shape == expected:
            return np.ascontiguousarray(one.transpose(2, 0, 1) if is_last else one)[None]
        fits = sides is not None and one.ndim == len(sides) and one.size == math.prod(shape)
        if fits and all(side in (None, given) for side, given in zip(sides or (), one.shape, strict=True)):
            return np.ascontiguousarray(one).reshape(1, *shape)
    raise RefusedInput(
        f"'{path}' is an array of shape {'x'.join(map(str, values.shape))}, and {graph.name} takes "
        f"{_taken(graph, size)}; where the file leaves its size open, give load(size=(HEIGHT, WIDTH))"
    )


def _taken(graph: Graph, size: tuple[int, int]) -> str:
    """The input of one picture as the source has it, in words."""
    if graph.own_input is not None:
        own = graph.own_input[1][1:]
        open_sides = graph.channels * math.prod(size) // math.prod(s or 1 for s in own)
        sides = [str(s or (open_sides if own.count(None) == 1 else "?")) for s in own]
        return f"{'x'.join(sides)} for one picture (seen as {graph.channels}x{size[0]}x{size[1]})"
    is_last = graph.preprocessing.layout == "NHWC"
    return "x".join(map(str, (*size, graph.channels) if is_last else (graph.channels, *size)))


def image_paths(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The named files, and every picture in the named folders (recursive, sorted).

    Of a folder without a picture every WAV file, and of one without either every ``.npy`` and ``.npz`` file.

    Raises:
        UsageError: a path does not exist, or there is no picture at all.
    """
    found: list[Path] = []
    for name in paths:
        if name == "":  # which Python takes for the folder that it runs in
            raise UsageError("'' names no picture; name a file or a folder")
        path = Path(name)
        if stat.S_ISDIR(_mode(path)):
            named = (Path(one.path) for one in below(path))
            files = [p for p in named if p.suffix.lower() in _READ and p.is_file()]
            kinds = [[p for p in files if p.suffix.lower() in kind] for kind in (SUFFIXES, SOUND, ARRAYS)]
            found += sorted(next(filter(None, kinds), []))
        else:
            found.append(path)
    if not found:
        raise UsageError(f"no pictures in {', '.join(str(p) for p in paths)}; known are {' '.join(sorted(_READ))}")
    return found


def _is_large(path: Path) -> bool:
    """Whether a picture says that it is; one that cannot be opened is not."""
    try:
        if not path.is_file():
            return False
        if path.stat().st_size > _LARGE_FILE:  # sound and arrays too
            return True
        with _opened(path) as (image, _):
            return image.width * image.height > _LARGE
    except Exception:  # Pillow raises many unrelated types, and `read_image` says what is wrong
        return False


def stream(
    paths: Sequence[Path | Picture], prepare: Callable[[Picture], T], workers: int = 2
) -> Iterator[tuple[Path, T | RefusedInput]]:
    """Decodes and prepares in threads, in order, at most ``2 * workers`` pictures ahead, of large ones one at a time.

    A picture that is in memory already is only prepared; what stands for its path is its name. A broken or vanished
    picture yields its error instead of a result, so that one file does not end the job.
    """
    turn = threading.Lock()

    def one(path: Path | Picture) -> Any:
        with turn if not isinstance(path, Picture) and _is_large(path) else nullcontext():
            return prepared(path)

    def prepared(path: Path | Picture) -> Any:
        try:
            picture = path if isinstance(path, Picture) else read_image(path)
        except UsageError as error:  # it was there when the job began
            return RefusedInput(str(error))
        except RefusedInput as error:
            return error
        try:
            return prepare(picture)
        except RefusedInput as error:
            return error

    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting: list[tuple[Path, Future[Any]]] = []
        for path in paths:
            name = Path(path.path) if isinstance(path, Picture) else path
            waiting.append((name, pool.submit(one, path)))
            if len(waiting) >= 2 * workers:
                ready, future = waiting.pop(0)
                yield ready, future.result()
        for ready, future in waiting:
            yield ready, future.result()
