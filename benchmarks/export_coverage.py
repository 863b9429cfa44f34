"""Which networks can be exported with their explanation inside? ``python -m benchmarks.export_coverage [SOURCE ...]``.

The networks are those of `benchmarks.coverage`, at the layer that Grad-CAM looks at by default. Each is imported, its
backward pass is written, and the file is compared with the twin on four pictures and three classes each. Results go
line by line into a JSONL file, so that a sweep that was stopped goes on where it was; ``--report`` writes the table
into docs/coverage.md, ``--retry`` measures again what was not equal.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import coverage
from .coverage_networks import Case, calibrate, keras_network, smallest_input, torch_network
from .sweep import Sweep, put_between

RESULTS = coverage.ROOT / "build" / "export-coverage.jsonl"
_BEGIN, _END = "<!-- export -->", "<!-- /export -->"
_PICTURES = 4


def main() -> None:
    """Sweeps, or reports, as the arguments say."""
    Sweep(__doc__ or "", coverage.SOURCES, RESULTS, _prepare, coverage.cases, measure, write_report).main()


def _prepare(sources: Iterable[str]) -> None:
    coverage.prepare(sources)
    import convscope.engine.export.export  # noqa: F401  (once, for all the forked processes)


def measure(case: Case) -> dict[str, Any]:
    """Imports and exports one network; never raises."""
    from convscope.engine.export.build import Request, build, layers_for
    from convscope.engine.export.export import serialized
    from convscope.engine.export.scores import score_of
    from convscope.engine.export.verification import Question, verify
    from convscope.errors import UnsupportedOperator

    try:
        graph = _graph(case)
        score = score_of(graph, decoder="softmax")
        layers = layers_for(graph, "gradcam", None, score)
        built = build(graph, Request(score, layers))
        serialized(built.model)
        check = verify(graph, built.model, Question(score, "gradcam", layers), pictures=_PICTURES)
    except UnsupportedOperator as error:
        return {"status": "refused", "why": str(error)[:300]}
    except Exception as error:
        return {"status": "failed", "why": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}
    added = {n.op_type for n in built.model.graph.node if n.name.startswith("heatmap/")}
    return {
        "status": "equal" if check.ok else "different",
        "why": "" if check.ok else f"map {check.difference:.1e}, outputs {check.output_difference:.1e}",
        "layer": layers[0].name,
        "closed": "Gather" in added and "OneHot" not in added,
        "nodes": len(graph.model.graph.node),
        "added": built.added,
        "difference": check.difference,
        "at_kinks": check.at_kinks,
        "kink_difference": check.kink_difference,
        "time_ratio": round(check.time_ratio, 3),
    }


def _graph(case: Case) -> Any:
    """The imported network, its image size the smallest that it takes."""
    from dataclasses import replace

    import convscope

    if case.source == "light":
        from tests.zoo import light_model

        return convscope.load(light_model(case.name), check=False)
    if case.source == "keras":
        from convscope.adapters.keras.load import import_keras

        model, side = keras_network(import_keras(), case.name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{case.name}.keras"
            model.save(path)
            graph = convscope.load(path, check=False)
    else:
        module, sides = torch_network(case.name)
        x = smallest_input(module, sides)
        calibrate(module, x)
        side = x.shape[-1]
        graph = convscope.load(module, example_input=x[:1], check=False)
    return replace(graph, preprocessing=replace(graph.preprocessing, size=(side, side)))


def write_report(results: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Puts the table between the two marks of docs/coverage.md."""
    put_between(coverage.PAGE, _BEGIN, _END, _tables(list(results.values())))


def _tables(results: list[dict[str, Any]]) -> str:
    lines = [
        "| group | measured | equal | different | refused | failed | maps at kinks | closed form | worst difference "
        "| nodes added, median |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for group in dict.fromkeys(r["group"] for r in results):
        own = [r for r in results if r["group"] == group]
        counts = Counter(r["status"] for r in own)
        equal = [r for r in own if r["status"] == "equal"]
        worst = max((r["difference"] for r in equal), default=float("nan"))
        added = sorted(r["added"] for r in equal)
        lines.append(
            f"| {group} | {len(own)} | {counts['equal']} | {counts['different']} | {counts['refused']} "
            f"| {counts['failed']} | {sum(r['at_kinks'] for r in equal)} | {sum(r['closed'] for r in equal)} "
            f"| {worst:.1e} | {added[len(added) // 2] if added else ''} |"
        )
    rest = [r for r in results if r["status"] != "equal"]
    if rest:
        lines += ["", "| network | status | why |", "|---|---|---|"]
        lines += [f"| {r['source']} {r['name']} | {r['status']} | {r['why'].replace('|', '/')} |" for r in rest]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
