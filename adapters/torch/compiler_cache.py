"""torch's compiler makes an empty folder among the temporary files as soon as it is imported; nothing here compiles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


@contextmanager
def no_compiler_cache() -> Iterator[None]:
    """For what imports the compiler: its folder is removed again where it is empty and nobody named it."""
    is_named = _VARIABLE in os.environ
    try:
        yield
    finally:
        if not is_named and (made := os.environ.pop(_VARIABLE, None)):
            with suppress(OSError):  # somebody else's, and in use
                os.rmdir(made)
