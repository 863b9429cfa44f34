"""The folder of what can be fetched or made again: models, and the proofs of earlier imports."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where both are kept: ``$CONVSCOPE_CACHE``, or the platform's own cache folder."""
    if chosen := os.environ.get("CONVSCOPE_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("convscope")
