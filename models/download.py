"""Downloads that resume, are verified, and leave nothing behind that was not."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from ..engine.render.artifacts import sha256_of, write_text
from ..errors import ConvscopeError, RefusedInput

Progress = Callable[[int, int | None], None]
MAX_BYTES = 2**31  # of one model
_CHUNK = 2**18
_LOCAL = {"localhost", "127.0.0.1", "::1"}


def download(url: str, target: Path, sha256: str, progress: Progress = lambda done, total: None) -> Path:
    """A verified file at ``target``.

    What an interrupted download left in ``target.part`` is continued where the server allows it. The file
    gets its final name only after its sum has been found right, and its sum is found again whenever its size or time
    is no longer what it was then.

    Args:
        url: https, or http on this machine.
        target: final path; nothing is fetched where a right file is there already.
        sha256: of the whole file, hex.
        progress: called with (bytes so far, bytes in total or None).

    Raises:
        ConvscopeError: the server cannot be reached or refuses.
        RefusedInput: the sum is wrong, the server sends more than `MAX_BYTES` or leads elsewhere than to https, and
            nothing is left behind; or what is under the names used is no file.
    """
    if not _is_allowed(url):
        raise RefusedInput(f"'{url}' is not fetched: only https is")
    with _locked(target):
        part, stamp = (target.with_name(target.name + end) for end in (".part", ".stamp"))
        for path in (target, part, stamp):
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise RefusedInput(f"'{path}' is no plain file, and is not written over; remove it")
        if not _is_right(target, stamp, sha256):
            _fetch(url, part, progress)
            found = sha256_of(part)
            if found != sha256:
                part.unlink(missing_ok=True)
                raise RefusedInput(f"'{url}' has the sha256 {found[:16]}..., expected {sha256[:16]}...; it was removed")
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(target)
            write_text(stamp, _stamp(target, sha256))
    return target


def _is_right(target: Path, stamp: Path, sha256: str) -> bool:
    """Whether the file is the wanted one: by its stamp, or else by reading it; a wrong one is fetched again."""
    if not target.exists():
        return False
    if stamp.exists() and stamp.read_text(errors="replace") == _stamp(target, sha256):
        return True
    if sha256_of(target) != sha256:
        return False
    with suppress(ConvscopeError):  # a cache that is read only is right all the same
        write_text(stamp, _stamp(target, sha256))
    return True


def _stamp(target: Path, sha256: str) -> str:
    status = target.stat()
    return f"{sha256} {status.st_size} {status.st_mtime_ns}\n"


def _is_allowed(url: str) -> bool:
    """https anywhere, http on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One process at a time; the lock file is removed while it is held, since filelock then knows a stale one."""
    lock = target.with_name(target.name + ".lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows lets nobody remove an open file; filelock does it there itself
                    lock.unlink()
    except OSError as error:
        raise ConvscopeError(f"'{target}' cannot be written: {error.strerror or error}") from None


class _OnlyAllowed(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https alone: whoever sits between must not turn the download into plain http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not _is_allowed(newurl):
            raise RefusedInput(f"'{req.full_url}' leads to '{newurl}', which is not fetched: only https is")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, part: Path, progress: Progress) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.build_opener(_OnlyAllowed).open(request, timeout=60) as response:
            if done and response.status != 206:
                done = 0  # the server sends the whole file again
            length = response.headers.get("Content-Length")
            total = done + int(length) if length and length.isdigit() and len(length) < 16 else None
            if (total or 0) > MAX_BYTES:
                raise RefusedInput(f"'{url}' has {total:,} bytes; at most {MAX_BYTES:,} are fetched")
            with part.open("ab" if done else "wb") as file:
                progress(done, total)
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    if done > MAX_BYTES:
                        raise RefusedInput(f"'{url}' sends more than {MAX_BYTES:,} bytes")
                    progress(done, total)
            if total is not None and done < total:
                raise ConvscopeError(f"'{url}' broke off after {done:,} of {total:,} bytes; the same command resumes")
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send: the part is whole, or from another file
            return
        raise ConvscopeError(f"'{url}' cannot be fetched: HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors too
        reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        raise ConvscopeError(f"'{url}' cannot be fetched: {reason[:200]}; the same command resumes") from None
