"""Every file that convscope writes: complete under its final name, or not there at all.

A file is written under a temporary name in the same folder and renamed when it is whole, so a killed
process, a full disk or an exception leaves no half file that a later run would take for finished. States and lists,
which later runs build upon, are on the disk before they take their name, so that the death of the machine is covered
too; pictures are not, and the lists know their sums.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import secrets
import shutil
import socket
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConvscopeError, PartlyDone, UsageError
from ..locks import check_no_link

_PLAIN = {str, int, bool}
_LARGEST = 2**30  # bytes of a state or list; of a large model's some 100 MB
_FULL = (errno.ENOSPC, errno.EDQUOT)
NO_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can tell


@contextmanager
def atomic(path: str | os.PathLike[str], durable: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    Missing folders are made. When the block raises, the temporary file is removed and what was under the
    final name before stays. With ``durable`` file and name are on the disk when it ends.

    Raises:
        PartlyDone: the disk is full; what was finished before is kept.
        UsageError: a folder inside the run's own is a link, or there is a device under the name. ConvscopeError: the
            file cannot be written there.
    """
    path = Path(path)
    check_no_link(path.parent)
    check_no_device(path)
    temporary = path.with_name(temporary_name())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
        if durable:
            _sync(path.parent)
    except OSError as exc:
        _remove(temporary)
        raise _translated(exc, path, temporary) from exc
    except BaseException:  # Ctrl-C too must leave no temporary file
        _remove(temporary)
        raise


def check_no_device(path: Path) -> None:
    """Raises UsageError where a file would take the place of a device (``-o /dev/null``), as an administrator's may."""
    folder = os.path.realpath(path.parent)
    try:
        mode = path.stat().st_mode
    except OSError:
        mode = 0
    among_devices = folder == "/dev" or (folder.startswith("/dev/") and not folder.startswith("/dev/shm"))
    if among_devices or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise UsageError(f"{path} is a device, whose place the file would take; name a file")


@contextmanager
def refusals_told(path: Path, temporary: Path) -> Iterator[None]:
    """While it is open, what the system refuses to write of ``path`` is raised as by `atomic`."""
    try:
        yield
    except OSError as exc:
        raise _translated(exc, path, temporary) from exc


def _sync(path: Path) -> None:
    """Waits until a file, or a folder's names, are on the disk; some systems open no folders."""
    with suppress(PermissionError, IsADirectoryError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_regular(path: str | os.PathLike[str], most: int = _LARGEST) -> bytes:
    """A file's bytes, at most ``most``; a pipe or device, whose reader may wait for ever, is an OSError."""
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())  # of the file that is open: another may take its place at any moment
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        if status.st_size > most:
            raise OSError(errno.EFBIG, f"more than {most:,} bytes", os.fspath(path))
        return file.read(
            status.st_size
        )  # and no more: some of the system's files say that they are empty, and never end


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The sha256 of a regular file's bytes, of no more than it says that it has; anything else is an OSError."""
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        found, left = hashlib.sha256(), status.st_size
        while left and (data := file.read(min(left, 2**20))):
            found.update(data)
            left -= len(data)
    return found.hexdigest()


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe without waiting for its writer; for a regular file this changes nothing."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def temporary_name() -> str:
    """A new name for what is not whole yet; it says whose it is, so that `sweep` can tell when nobody's."""
    return f".{_here()}-{os.getpid()}-{secrets.token_hex(6)}.part"


def sweep(folder: str | os.PathLike[str], everywhere: bool = True) -> None:
    """Removes the temporary files below ``folder`` that processes of this machine left when they were killed.

    Args:
        folder: where; it may be missing.
        everywhere: at any depth, or in the folder and the folders in it alone, which in a large one is quick.
    """
    root = Path(folder)
    deep = (Path(one.path) for one in below(root) if one.name.startswith(".") and one.name.endswith(".part"))
    found = deep if everywhere else (p for near in (".*.part", "*/.*.part") for p in root.glob(near))
    for path in list(found):
        if path.parent.is_symlink() and path.parent != root:
            continue
        here, _, rest = path.name[1:].partition("-")
        process = rest.partition("-")[0]
        if here == _here() and process.isdecimal() and not is_alive(int(process)):
            _remove(path)


def below(folder: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    """All that is in a folder and in the folders in it, however deep; links to folders are not followed.

    Folders that cannot be read, or whose path is too long for the system, are passed over. Unlike `Path.rglob` and
    `os.walk` it holds no frame of Python's for each of a thousand folders in each other.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                yield entry


@cache
def _here() -> str:
    """The machine, in eight characters."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def is_alive(process: int) -> bool:
    """Whether a process of that number runs on this machine."""
    if os.name == "nt":  # a signal of 0 would interrupt it there
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # no process has a number that does not fit
        return False
    except OSError:  # it is there, and another user's
        return True
    return True


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Tries whether files can be written into ``folder``, and leaves nothing behind.

    Permissions alone do not tell: root has them all, also where a file system takes no files.

    Raises:
        UsageError: it is a file, or inside one. PartlyDone, ConvscopeError: as `atomic`.
    """
    folder = Path(folder)
    missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    there = next((one for one in (folder, *folder.parents) if one not in missing), folder)
    if there.is_file():
        raise UsageError(f"cannot write {folder}: {there} is a file; choose another folder")
    probe = folder / temporary_name()  # a kill may come before it is removed
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
    except OSError as exc:
        raise _translated(exc, folder, probe) from exc
    finally:
        _remove(probe)
        for one in missing:
            with suppress(OSError):
                one.rmdir()


def write_bytes(path: str | os.PathLike[str], data: bytes, durable: bool = False) -> Path:
    """Writes ``data``; returns the path. ``durable`` as for `atomic`."""
    with atomic(path, durable) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def create_bytes(path: str | os.PathLike[str], data: bytes) -> bool:
    """Writes a file that nobody else has written; False where one of that name is there, maybe not whole yet.

    Raises:
        PartlyDone, ConvscopeError: as `atomic`.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    except OSError as exc:
        if exc.errno in _FULL:
            _remove(path)
        raise _translated(exc, path, path) from exc
    return True


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Writes ``text`` as UTF-8 with plain line feeds; lone surrogates are replaced."""
    return write_bytes(path, text.encode("utf-8", errors="replace"))


def append_line(path: str | os.PathLike[str], line: str) -> Path:
    """Adds one line to a journal; the reader must ignore a last line without its line feed, cut by a kill."""
    check_no_link(Path(path).parent)
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(path, flags, 0o666), "a", encoding="utf-8", newline="\n") as file:
            file.write(line + "\n")
    except OSError as exc:
        raise _translated(exc, Path(path), Path(path)) from exc
    return Path(path)


def write_json(path: str | os.PathLike[str], obj: Any) -> Path:
    """Writes ``obj`` as JSON, see `to_json`."""
    return write_text(path, to_json(obj) + "\n")


def to_json(obj: Any, indent: int | None = 2) -> str:
    """JSON text of plain values, numpy values, dataclasses and paths.

    Keys keep their order. NaN and infinities become null, since JSON has no word for them. Everything
    outside ASCII is escaped: names come from models, and a terminal must not act on them. With ``indent`` a list of
    numbers stays on one line: a line each would be nine tenths of a file of histograms.
    """
    return _text(plain(obj), indent, 0) if indent is not None else json.dumps(plain(obj), allow_nan=False)


def _text(obj: Any, indent: int, depth: int) -> str:
    """Plain values as indented JSON."""
    if not obj or not isinstance(obj, dict | list) or (isinstance(obj, list) and _are_numbers(obj)):
        return json.dumps(obj, allow_nan=False)
    space, end = "\n" + " " * indent * (depth + 1), "\n" + " " * indent * depth
    if isinstance(obj, dict):
        lines = [f"{json.dumps(key)}: {_text(value, indent, depth + 1)}" for key, value in obj.items()]
        return "{" + space + f",{space}".join(lines) + end + "}"
    return "[" + space + f",{space}".join(_text(value, indent, depth + 1) for value in obj) + end + "]"


def _are_numbers(values: list[Any]) -> bool:
    return not any(isinstance(value, str | dict | list) for value in values)


def plain(obj: Any) -> Any:
    """``obj`` with only dict, list, str, int, float, bool and None inside, as JSON knows them."""
    if obj is None or type(obj) in _PLAIN:
        return obj
    if isinstance(obj, np.ndarray | np.generic):
        obj = obj.tolist()
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        obj = {f.name: getattr(obj, f.name) for f in dataclasses.fields(obj)}
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if isinstance(obj, Mapping):
        return {str(key): plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [plain(value) for value in obj]
    if isinstance(obj, os.PathLike):
        return os.fspath(obj)
    return obj


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Pixels as bytes: floats in [0, 1] are clipped, multiplied by 255 and rounded; NaN becomes 0."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    scaled = np.nan_to_num(image.astype(np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(scaled, 0.0, 1.0) * 255).astype(np.uint8)


def side_by_side(image: np.ndarray) -> np.ndarray:
    """A picture as eyes can take it: (H, W), (H, W, 1) and (H, W, 3) as they are, else channels in a row, (H, C*W).

    The channels of a network's input are colours only where they are three. Four are not colours and transparency:
    what the fourth one shows would blot out the others.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] in (0, 1, 3):
        return image
    return image.transpose(0, 2, 1).reshape(image.shape[0], -1)


def to_pillow(image: np.ndarray) -> Any:
    """A PIL image from (H, W) or (H, W, C), floats in [0, 1] or uint8: gray, colours, or `side_by_side`.

    Raises:
        ValueError: another shape.
    """
    from PIL import Image

    pixels = side_by_side(to_uint8(image))
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2 and not (pixels.ndim == 3 and pixels.shape[2] == 3):
        raise ValueError(f"a picture is (H, W) or (H, W, C), not {np.shape(image)}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def save_png(
    path: str | os.PathLike[str],
    image: np.ndarray,
    metadata: Mapping[str, str] | None = None,
    alpha: np.ndarray | None = None,
) -> Path:
    """Writes a PNG, as from `png_bytes`."""
    return write_bytes(path, png_bytes(image, metadata, alpha))


def png_bytes(image: np.ndarray, metadata: Mapping[str, str] | None = None, alpha: np.ndarray | None = None) -> bytes:
    """A PNG; the same pixels and metadata give the same bytes.

    Args:
        image: as for `to_pillow`.
        metadata: keyword (1 to 79 Latin-1 characters) -> text, kept inside the file as iTXt chunks, so that
            the picture says which model, layer, unit, preset and seed made it.
        alpha: (height, width) opacity in [0, 1]; one that is narrower repeats to the picture's width.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in (metadata or {}).items():
        info.add_itxt(key, str(text).encode("utf-8", errors="replace").decode("utf-8"))
    buffer = io.BytesIO()
    picture = to_pillow(image)
    if alpha is not None:
        opacity = to_pillow(alpha)
        wide = np.tile(np.asarray(opacity), (1, picture.width // opacity.width))
        picture.putalpha(to_pillow(wide))
    picture.save(buffer, format="PNG", pnginfo=info, compress_level=6)
    return buffer.getvalue()


def save_npy(path: str | os.PathLike[str], array: np.ndarray) -> Path:
    """Writes one array as .npy (no pickles)."""
    buffer = io.BytesIO()  # straight into a file NumPy says of a full disk only how many values were written
    np.save(buffer, array, allow_pickle=False)
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(buffer.getbuffer())
    return Path(path)


def save_npz(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], durable: bool = False) -> Path:
    """Writes named arrays as an uncompressed .npz (no pickles), the same bytes for the same arrays.

    Not by np.savez: it takes names as keyword arguments, so a layer called "file" would break it, and it
    stamps the time into the file. ``durable`` as for `atomic`.
    """
    with atomic(path, durable) as temporary:
        _write_npz(temporary, arrays)
    return Path(path)


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """What `save_npz` writes."""
    buffer = io.BytesIO()
    _write_npz(buffer, arrays)
    return buffer.getvalue()


def _write_npz(target: Path | io.BytesIO, arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(name.replace("\0", "\N{REPLACEMENT CHARACTER}") + ".npy", NO_DATE)
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # a name that is too long, too
        if temporary.is_dir() and not temporary.is_symlink():  # arrays are gathered in one
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _translated(exc: OSError, path: Path, temporary: Path) -> Exception:
    """What the user reads for a failed write; an OSError about another file goes on unchanged."""
    if exc.errno in _FULL:
        return PartlyDone(
            f"cannot write {path}: the disk is full; files finished before are kept: free some space or "
            "choose another folder"
        )
    ours = (str(temporary), str(path), str(path.parent))
    if exc.filename is not None and str(exc.filename) not in ours and not _is_above(exc.filename, path):
        return exc
    return ConvscopeError(f"cannot write {path}: {exc.strerror or exc}; choose another folder")


def _is_above(name: Any, path: Path) -> bool:
    return Path(os.fsdecode(name)) in path.parents


def unique(stem: str, taken: set[str]) -> str:
    """A file name that is not in ``taken`` yet, on any file system; a second one of that name gets a number."""
    safe = "".join(c if c.isalnum() or c in "-_. " else "_" for c in stem).strip(". ")[:80] or "_"
    name, number = safe, 2
    while name.lower() in taken:
        name, number = f"{safe}-{number}", number + 1
    taken.add(name.lower())
    return name
