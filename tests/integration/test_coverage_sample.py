"""Twenty networks, as different as timm has them: imported, equal in every tensor, with the right gradient.

The whole sweep is ``python -m benchmarks.coverage``; docs/coverage.md has its tables.
"""

from __future__ import annotations

import importlib.util

import pytest

from benchmarks.coverage_cases import measure
from benchmarks.coverage_networks import SAMPLE, Case
from tests.torchvision_schemas import declare


@pytest.fixture(scope="module", autouse=True)
def timm() -> None:
    """Skips where timm is missing; `make test` installs it."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    declare()


@pytest.mark.parametrize("name", SAMPLE)
def test_a_network_imports_equal(name: str) -> None:
    result = measure(Case("timm", "", name))
    assert result["status"] == "equal", result
