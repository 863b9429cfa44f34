"""Every pass of normalization finds what it relies on, and leaves what it promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from convscope.adapters.normalize import normalize, passes
from tests import tiny, zoo

CASES = sorted((Path(__file__).resolve().parents[1] / "cases").glob("*.onnx"))


def test_what_a_pass_relies_on_was_ensured_and_not_undone_since() -> None:
    known = {passes.ORDERED}
    for step in passes.PASSES:
        assert set(step.requires) <= known, step.why
        assert step.why and not set(step.undoes) & set(step.ensures), step.why
        known = (known - set(step.undoes)) | set(step.ensures)
    promised = {passes.ORDERED, passes.ONE_PICTURE, passes.FLOAT32, passes.ALIVE, passes.ALIASES, passes.CHANNELS_FIRST}
    assert promised <= known  # of the canonical graph


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_facts_hold_between_the_passes_on_odd_files(path: Path) -> None:
    normalize(onnx.load(path), check=True)


@pytest.mark.parametrize("name", ["shufflenet", "squeezenet"])
def test_facts_hold_between_the_passes_on_exporters_graphs(name: str) -> None:
    normalize(zoo.light_model(name), check=True)


@pytest.mark.parametrize("number", range(len(passes.PASSES)))
def test_a_pass_that_does_nothing_is_noticed_or_had_nothing_to_do(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one pass, the check fails behind it, or the graph is in canonical form already as far as it goes."""
    lazy = replace(passes.PASSES[number], run=lambda draft, request: None)
    without = (*passes.PASSES[:number], lazy, *passes.PASSES[number + 1 :])
    expected = normalize(tiny.small_cnn(), check=True)[1].SerializeToString()
    monkeypatch.setattr(passes, "PASSES", without)
    try:
        found = normalize(tiny.small_cnn(), check=True)[1].SerializeToString()
    except AssertionError as error:
        assert f"behind pass {number} " in str(error)
    else:
        assert found == expected or not lazy.ensures, lazy.why


def test_a_wrong_order_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "PASSES", passes.PASSES[1:])
    with pytest.raises(AssertionError, match="relies on what nobody ensured"):
        normalize(tiny.small_cnn())
