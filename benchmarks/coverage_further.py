"""timm beyond the sweep: ``python -m benchmarks.coverage_further [transformers|random]``.

Two sets, measured as `benchmarks.coverage` does: of every module that the sweep leaves out (pure transformers and MLPs)
the smallest variant of every family, and of all of timm sixty variants at random (`SEED`) that are the smallest of no
family. Networks of more than `MAX_PARAMETERS` are in neither.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

from . import coverage
from .coverage_cases import measure
from .coverage_networks import Case, family
from .sweep import Sweep, put_between

SEED = 20261126
NUMBER = 60
MAX_PARAMETERS = 60_000_000
SOURCES = ("transformers", "random")
RESULTS = coverage.ROOT / "build" / "coverage-further.jsonl"
_BEGIN, _END = "<!-- further -->", "<!-- /further -->"


def main() -> None:
    """Sweeps, or reports, as the arguments say."""
    Sweep(__doc__ or "", SOURCES, RESULTS, _prepare, cases, measure, write_report).main()


def _prepare(_: Iterable[str]) -> None:
    coverage.prepare(("timm",))


def cases(sources: Iterable[str]) -> list[Case]:
    """The networks of the named sets, the small ones first."""
    sizes = _sizes()
    smallest: dict[tuple[str, str], str] = {}
    for name, (module, _) in sorted(sizes.items(), key=lambda entry: entry[1][1]):
        smallest.setdefault((module, family(name)), name)
    first = set(smallest.values())
    swept = {case.name for case in coverage.cases(("timm",))}
    fitting = [name for name, (_, size) in sorted(sizes.items()) if size <= MAX_PARAMETERS]
    others = [name for name in fitting if name not in first | swept]
    chosen = {
        "transformers": [n for n in fitting if n in first and sizes[n][0] not in coverage.SWEPT],
        "random": random.Random(SEED).sample(others, NUMBER),
    }
    groups = {"transformers": "timm, transformers and MLPs", "random": "timm, at random"}
    return [
        Case("timm", groups[s], n) for s in sources for n in sorted(chosen[s], key=lambda name: (sizes[name][1], name))
    ]


def _sizes() -> dict[str, tuple[str, int]]:
    """Every name of timm with its module and number of parameters; counted once (minutes), then read from a file."""
    import timm
    import torch
    from timm.models import _registry

    path = RESULTS.with_name(f"timm-{timm.__version__}-sizes.json")
    if not path.exists():
        sizes = {}
        for name in timm.list_models():
            with torch.device("meta"):
                try:
                    size = sum(p.numel() for p in timm.create_model(name).parameters())
                except Exception:  # some builders compute with weights
                    size = sum(p.numel() for p in _on_processor(name).parameters())
            if not name.startswith("test_"):
                sizes[name] = (_registry._model_to_module[name], size)
        path.write_text(json.dumps(sizes))
    return {name: (module, size) for name, (module, size) in json.loads(path.read_text()).items()}


def _on_processor(name: str) -> Any:
    import timm

    return timm.create_model(name)


def write_report(results: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Puts the tables between the two marks of docs/coverage.md."""
    _prepare(SOURCES)
    put_between(coverage.PAGE, _BEGIN, _END, coverage.tables(list(results.values()), cases(SOURCES)))


if __name__ == "__main__":
    main()
