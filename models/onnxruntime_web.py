"""ONNX Runtime for browsers: three files out of npm's package, fetched when a page is asked for, pinned by sha256."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..adapters.cache import cache_folder
from ..errors import ConvscopeError, RefusedInput
from .download import download

VERSION = "1.30.0"
LICENCE = "MIT, Microsoft Corporation"
_URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
_ARCHIVE_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_SHA256 = {
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}


def folder() -> Path:
    """Where the files are kept."""
    return cache_folder() / f"onnxruntime-web-{VERSION}"


def is_present() -> bool:
    """Whether the files are there already."""
    return all((folder() / name).is_file() for name in _SHA256)


def runtime_files(progress: Callable[[str], None] = lambda stage: None) -> dict[str, bytes]:
    """The files' bytes by name; fetched once, 33 MB, by npm where it is installed, else from npm's registry.

    Raises:
        ConvscopeError: the registry cannot be reached. RefusedInput: a file is not the pinned one.
    """
    if not is_present():
        progress(f"fetching onnxruntime-web {VERSION} from npm (33 MB)")
        with tempfile.TemporaryDirectory() as scratch:
            _unpack(_archive(Path(scratch)))
    found = {name: (folder() / name).read_bytes() for name in _SHA256}
    for name, value in found.items():
        if hashlib.sha256(value).hexdigest() != _SHA256[name]:
            (folder() / name).unlink(missing_ok=True)
            raise RefusedInput(
                f"'{folder() / name}' is not the pinned file and was removed; run the same command again"
            )
    return found


def _archive(scratch: Path) -> Path:
    """npm's package, by npm itself, which knows the user's own registry; else straight from the public one."""
    npm = shutil.which("npm")
    if npm is None:
        return download(_URL, scratch / "package.tgz", _ARCHIVE_SHA256)
    wanted = f"onnxruntime-web@{VERSION}"
    done = subprocess.run(
        [npm, "pack", wanted, "--silent", "--ignore-scripts"], cwd=scratch, capture_output=True, text=True, check=False
    )
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["no package came"])[-1][:200]
        raise ConvscopeError(f"npm did not fetch {wanted}: {reason}; is the registry reachable?")
    return archives[0]


def _unpack(archive: Path) -> None:
    """The three files, each only where its bytes are the pinned ones."""
    folder().mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "r:gz") as package:
        for name, wanted in _SHA256.items():
            try:
                member = package.extractfile(f"package/dist/{name}")
            except KeyError:
                member = None
            value = member.read(2**25) if member is not None else b""
            if hashlib.sha256(value).hexdigest() != wanted:
                raise RefusedInput(f"'{name}' of onnxruntime-web {VERSION} is not the pinned file; nothing was kept")
            part = folder() / f"{name}.part"
            part.write_bytes(value)
            part.replace(folder() / name)
