"""Which operators does the twin compute, and are they right? ``python -m benchmarks.operators``.

Runs ONNX's node tests of every operator that occurs in CNNs, the operator x opset matrix, random forms of single nodes
and the planted faults, prints the results and writes them into docs/operators.md. Exit code 1 where anything is wrong.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

import convscope
from tests.adapters.test_converters_matrix import CASES, NEWEST
from tests.adapters.test_converters_matrix import outcome as matrix_outcome
from tests.adapters.test_converters_random import FAMILIES as RANDOM_FAMILIES
from tests.adapters.test_planted_faults import FAULTS, named_tensor, network
from tests.node_tests import FAMILIES, FORMS, outcomes
from tests.single_node import difference

from .sweep import put_between

PAGE = Path(__file__).parents[1] / "docs" / "operators.md"
_BEGIN, _END = "<!-- measured -->", "<!-- /measured -->"

Counts = dict[str, dict[str, Counter[str]]]  # form -> operator -> outcome -> tests


def main() -> None:
    """Measures, prints and writes the page."""
    torch.set_num_threads(1)
    counts, reasons, others = node_test_counts()
    matrix = matrix_counts()
    random, differences = random_counts()
    lines = [*_versions(), *_summary(counts), *_tables(counts), *_refusals(reasons), *_others(others)]
    lines += [*_matrix(matrix), *_random(random, differences), *_faults()]
    text = "\n".join(lines)
    print(text)
    put_between(PAGE, _BEGIN, _END, text)
    wrong = any(c["wrong"] for form in counts.values() for c in form.values())
    sys.exit(1 if wrong or differences or any(c["wrong"] for c in matrix.values()) else 0)


def node_test_counts() -> tuple[Counts, Counter[str], dict[str, set[str]]]:
    """Outcomes by form and operator; why the form "constant" refuses; names of the contested and the wrong tests."""
    counts: Counts = {form: defaultdict(Counter) for form in FORMS}
    reasons: Counter[str] = Counter()
    others: dict[str, set[str]] = defaultdict(set)
    for form in FORMS:
        for test, text in outcomes(form):
            kind, _, why = text.partition(": ")
            counts[form][test.op][kind] += 1
            if kind == "refused" and form == "constant":
                reasons[_reason(test.op, why)] += 1
            if kind in ("contested", "wrong"):
                others[kind].add(test.name)
    return counts, reasons, others


def _reason(op: str, why: str) -> str:
    """Refusals in groups: a data type, an operator without a converter, or a form of an operator."""
    if "data type" in why or "cast to ONNX type" in why or "not implemented for" in why:
        return "a data type that torch lacks (4-bit, 2-bit and 8-bit floats, or arithmetic on uint16, uint32, uint64)"
    return f"{op}: {why.rpartition('): ')[2]}"


def matrix_counts() -> dict[str, Counter[str]]:
    """Operator -> outcome -> (form, opset) pairs, from opset 7 to the newest."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in CASES:
        for opset in range(case.first, case.last + 1):
            found = matrix_outcome(case, opset)
            counts[case.op][found if found in ("equal", "unsupported", "no oracle") else "wrong"] += 1
    return counts


def random_counts(seeds: int = 5, rounds: int = 60) -> tuple[Counter[str], list[str]]:
    """Operator -> random forms that were compared with ONNX Runtime; and what differs."""
    counts: Counter[str] = Counter()
    differences: list[str] = []
    for seed in range(seeds):
        rng = np.random.default_rng(100 + seed)  # other seeds than the tests'
        for family in RANDOM_FAMILIES:
            for op, inputs, attributes, outputs, opset in (form for _ in range(rounds) for form in family(rng)):
                counts[op] += 1
                found = difference(op, inputs, attributes, outputs, opset, computed=bool(rng.random() < 0.5))
                differences += [found] if found else []
    return counts, differences


def _versions() -> list[str]:
    return [f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, torch {torch.__version__}.", ""]


def _summary(counts: Counts) -> Iterator[str]:
    yield "| form | tests | passed | refused by name | as ONNX Runtime | wrong |"
    yield "|---|---|---|---|---|---|"
    for form, operators in counts.items():
        total = sum(operators.values(), Counter[str]())
        yield f"| {form} | {total.total()} | {_row(total)} |"
    yield ""


def _row(counts: Counter[str]) -> str:
    return " | ".join(str(counts[kind]) for kind in ("passed", "refused", "contested", "wrong"))


def _tables(counts: Counts) -> Iterator[str]:
    for family, operators in FAMILIES.items():
        yield from (f"### {family.capitalize()}", "")
        yield "| operator | tests | passed | refused | as ONNX Runtime | wrong | passed, imported | passed, computed |"
        yield "|---|---|---|---|---|---|---|---|"
        for op in operators.split():
            found = counts["constant"].get(op)
            if found is None:
                yield f"| {op} | 0 | | | | | | |"
                continue
            further = " | ".join(str(counts[form][op]["passed"]) for form in ("imported", "computed"))
            yield f"| {op} | {found.total()} | {_row(found)} | {further} |"
        yield ""


def _refusals(reasons: Counter[str]) -> Iterator[str]:
    yield from ("### What is refused, and why", "", "| tests | why (form: constant) |", "|---|---|")
    yield from (f"| {count} | {why} |" for why, count in sorted(reasons.items(), key=lambda r: (-r[1], r[0])))
    yield ""


def _others(others: dict[str, set[str]]) -> Iterator[str]:
    for kind, title in (("contested", "As ONNX Runtime, not as the test"), ("wrong", "Wrong")):
        yield from (f"### {title}", "", ", ".join(f"`{n}`" for n in sorted(others[kind])) or "None.", "")


def _matrix(counts: dict[str, Counter[str]]) -> Iterator[str]:
    total = sum(counts.values(), Counter[str]())
    share = 100 * total["equal"] / total.total()
    yield from (f"## Operator x opset, 7 to {NEWEST}", "")
    rest = ", ".join(f"{kind} {total[kind]}" for kind in ("unsupported", "wrong", "no oracle"))
    yield f"**{total['equal']} of {total.total()} ({share:.1f} %) equal**; {rest}."
    yield f"{len(CASES)} forms of {len(counts)} operators, each at every opset that has it."
    yield from (
        "",
        "| operator | pairs of form and opset | equal | unsupported | wrong | no oracle |",
        "|---|---|---|---|---|---|",
    )
    for op, found in counts.items():
        cells = " | ".join(str(found[kind]) for kind in ("equal", "unsupported", "wrong", "no oracle"))
        yield f"| {op} | {found.total()} | {cells} |"
    yield ""


def _random(counts: Counter[str], differences: list[str]) -> Iterator[str]:
    yield from ("## Random forms", "")
    yield f"**{counts.total()} random single nodes, {len(differences)} differ from ONNX Runtime**:"
    yield ", ".join(f"{op} {count}" for op, count in sorted(counts.items())) + "."
    yield from ("", *(f"- {text}" for text in differences))


def _faults() -> Iterator[str]:
    graph = convscope.load(network())
    named = {fault: named_tensor(graph, edit) for fault, (_, edit) in FAULTS.items()}
    right = sum(named[fault] == tensor for fault, (tensor, _) in FAULTS.items())
    yield from ("## Planted faults", "")
    yield f"**The first wrong tensor named {right} of {len(FAULTS)} times**, in {len(graph.layers)} layers."
    yield from ("", "| fault | planted at | named |", "|---|---|---|")
    yield from (f"| {fault} | {tensor} | {named[fault]} |" for fault, (tensor, _) in FAULTS.items())


if __name__ == "__main__":
    main()
