"""An atlas at an address with a scheme (``s3://``, ``gs://``, ``memory://``), through fsspec: the extra ``[cloud]``."""

from __future__ import annotations

import secrets
import time
from typing import Any

from ...errors import ConvscopeError, UsageError


class Cloud:
    """An atlas in an object store. A put there is whole or not at all, so nothing is renamed and nothing left over.

    Args:
        address: as fsspec understands it.

    Raises:
        UsageError: fsspec, or its part for this scheme, is not installed, or takes no such address.
    """

    def __init__(self, address: str) -> None:
        self.place = address.rstrip("/")
        scheme, _, rest = address.partition("://")
        if not rest.strip("/"):
            raise UsageError(f"'{address}' names no place; write like s3://bucket/atlas")
        try:
            import fsspec

            self._store, self._root = fsspec.core.url_to_fs(self.place)
        except (ImportError, ValueError) as exc:
            raise UsageError(f"'{scheme}://' cannot be reached: {exc}; pip install 'convscope[cloud]'") from None
        except Exception as exc:  # every store raises its own
            raise UsageError(
                f"'{self.place[:200]}' cannot be reached: {str(exc)[:200] or type(exc).__name__}"
            ) from None

    def read(self, name: str) -> bytes:
        """A file's bytes; raises FileNotFoundError where there is none."""
        data: bytes = self._asked("read", name, lambda: self._store.cat_file(self._path(name)))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Writes a file."""
        self._asked("write", name, lambda: self._store.pipe_file(self._path(name), data))

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file that is not there yet; where the store knows no such order, two may both do it."""
        if self.has(name):
            return False
        try:
            self._store.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        except (TypeError, NotImplementedError, ValueError):
            self.write(name, data)
        except Exception as exc:  # every store raises its own
            if self.has(name):
                return False
            raise ConvscopeError(f"cannot write {self.place}/{name}: {str(exc)[:200] or type(exc).__name__}") from exc
        return True

    def written(self, name: str) -> float | None:
        """When the store says that a file was written."""
        try:
            return float(self._asked("read", name, lambda: self._store.modified(self._path(name))).timestamp())
        except (ConvscopeError, AttributeError):  # not every store can tell
            return None

    def now(self) -> float:
        """The store's time, from a file written now."""
        name = f"store/clock-{secrets.token_hex(8)}"
        self.write(name, b"")
        found = self.written(name)
        self.remove(name)
        return time.time() if found is None else found

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self._asked("read", name, lambda: self._store.isfile(self._path(name))))

    def names(self, folder: str = "") -> set[str]:
        """Names of all files below a folder."""
        self._store.invalidate_cache()
        root = self._root.rstrip("/") + "/"
        found = self._asked("list", folder, lambda: self._store.find(self._path(folder)))
        return {path[len(root) :] for path in found if path.startswith(root)}

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        if self.has(name):
            self._asked("remove", name, lambda: self._store.rm_file(self._path(name)))

    def tidy(self) -> None:
        """Nothing is ever left half-written."""

    def check(self) -> None:
        """The first write tells whether anything can be written."""

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def _asked(self, verb: str, name: str, question: Any) -> Any:
        try:
            return question()
        except FileNotFoundError:
            raise
        except Exception as exc:  # every store raises its own
            raise ConvscopeError(f"cannot {verb} {self.place}/{name}: {str(exc)[:200] or type(exc).__name__}") from exc
