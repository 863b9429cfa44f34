"""What all tests share: a cache folder of their own, so that they neither read nor leave proofs in the user's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from convscope.adapters.cache import cache_folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty cache folder, but for the models that are fetched or built already."""
    users = cache_folder()
    own = tmp_path_factory.mktemp("cache")
    for path in users.iterdir() if users.is_dir() else ():
        if path.is_dir() and path.name != "proofs":
            (own / path.name).symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVSCOPE_CACHE", str(own))
        yield
