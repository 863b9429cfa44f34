"""Activations on disk, streamed: as many images as the disk holds, in the memory of one batch.

An array per layer, keyed by the layer's name, (images, channels, height, width) float32 (dense layers: (images,
channels)). The store appears under its final name when it is whole.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from ...errors import UsageError
from .artifacts import NO_DATE, atomic, check_no_device, refusals_told, temporary_name

FORMATS = ("npz", "zarr")


class Store(Protocol):
    """What `open_store` yields."""

    def append(self, values: Mapping[str, np.ndarray]) -> None:
        """Adds a batch: layer name -> (n, C, H, W) or (n, C)."""


@contextmanager
def open_store(path: Path, kind: str) -> Iterator[Store]:
    """A store under ``path`` for the length of a ``with`` block; nothing is left of it when the block raises.

    Args:
        path: the final name.
        kind: "npz" (NumPy's archive) or "zarr" (chunked, one chunk per image; needs convscope[index]).

    Raises:
        UsageError: an unknown kind, a device under the name, or zarr is not installed.
    """
    if kind not in FORMATS:
        raise UsageError(f"save='{kind}' is unknown; choose {' or '.join(FORMATS)}")
    check_no_device(path)
    with _npz(path) if kind == "npz" else _zarr(path) as store:
        yield store


class _Npz:
    """Raw values go to one scratch file per layer; the headers need the final number of images."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.files: dict[str, IO[bytes]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def append(self, values: Mapping[str, np.ndarray]) -> None:
        with refusals_told(self.path, self.folder):
            for name, batch in values.items():
                if name not in self.files:
                    self.files[name] = (self.folder / str(len(self.files))).open("w+b")
                    self.shapes[name] = (0, *batch.shape[1:])
                self.files[name].write(np.ascontiguousarray(batch, np.float32).tobytes())
                self.shapes[name] = (self.shapes[name][0] + len(batch), *self.shapes[name][1:])

    def close(self) -> None:
        """Lets go of the scratch files; what is still to be written of them is not missed."""
        for file in self.files.values():
            with suppress(OSError):
                file.close()


@contextmanager
def _npz(path: Path) -> Iterator[Store]:
    folder = path.with_name(temporary_name())
    with refusals_told(path, folder):
        folder.mkdir(parents=True)
    store = _Npz(path, folder)
    try:
        yield store
        _archive(path, store)
    finally:
        store.close()
        shutil.rmtree(folder, ignore_errors=True)


def _archive(path: Path, store: _Npz) -> None:
    """The scratch files as one uncompressed .npz, copied piece by piece; the same values give the same bytes."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, file in store.files.items():
            member = zipfile.ZipInfo(name.replace("\0", "\N{REPLACEMENT CHARACTER}") + ".npy", NO_DATE)
            header = {"descr": "<f4", "fortran_order": False, "shape": store.shapes[name]}
            file.seek(0)
            with archive.open(member, "w", force_zip64=True) as into:
                np.lib.format.write_array_header_1_0(into, header)
                shutil.copyfileobj(file, into, 1 << 20)


class _Zarr:
    def __init__(self, path: Path, folder: Path, group: Any) -> None:
        self.path, self.folder, self.group = path, folder, group
        self.arrays: dict[str, Any] = {}

    def append(self, values: Mapping[str, np.ndarray]) -> None:
        with refusals_told(self.path, self.folder):
            for name, batch in values.items():
                if name not in self.arrays:
                    rest = batch.shape[1:]
                    member = _member(name, {array.basename for array in self.arrays.values()})
                    self.arrays[name] = self.group.create_array(
                        member, shape=(0, *rest), chunks=(1, *rest), dtype="float32", attributes={"layer": name}
                    )
                self.arrays[name].append(batch.astype(np.float32, copy=False), axis=0)


@contextmanager
def _zarr(path: Path) -> Iterator[Store]:
    try:
        import zarr
    except ImportError:
        raise UsageError("save=zarr needs zarr; install it: pip install 'convscope[index]'") from None
    temporary = path.with_name(temporary_name())
    try:
        with refusals_told(path, temporary):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            group = zarr.open_group(str(temporary), mode="w")
        yield _Zarr(path, temporary, group)
        with refusals_told(path, temporary):
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _member(name: str, taken: set[str]) -> str:
    """A layer's name as an array's: a slash would nest it under another layer; ``layer`` in its attributes is exact."""
    safe = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in name)
    safe = safe if safe.strip(".") and not safe.startswith("__") else f"layer_{safe}"
    while safe in taken:
        safe += "_"
    return safe
