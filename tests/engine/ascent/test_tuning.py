"""Settings over presets: what the recipe has is replaced, what it has not is added, 0 takes it away."""

from __future__ import annotations

import pytest

from convscope.engine.ascent.recipe.presets import preset
from convscope.engine.ascent.recipe.regularizers import ClipSmallNorm, Decay, GaussianBlur, TotalVariation
from convscope.engine.ascent.recipe.steps import Adam, Normalized
from convscope.engine.ascent.recipe.transforms import Robust, Roll
from convscope.engine.ascent.recipe.tuning import tuned
from convscope.errors import UsageError


def test_what_a_recipe_has_is_replaced_and_the_order_is_yosinski_s() -> None:
    found = tuned(preset("yosinski-a"), {"clip_norm": 20, "blur": 1.5, "decay": 0.1})
    assert found.regularizers == (Decay(0.1), GaussianBlur(1.5, 4), ClipSmallNorm(20))
    assert tuned(found, {"blur": 0, "clip_norm": 0, "decay": 0}).regularizers == ()
    assert tuned(preset("chollet"), {"blur": 1, "blur_every": 3}).regularizers == (GaussianBlur(1, 3),)


@pytest.mark.parametrize("name", ["blur_every", "jitter"])
def test_what_counts_is_a_whole_number_and_never_rounded(name: str) -> None:
    assert tuned(preset("yosinski-a"), {"blur": 1, name: 2.0}) == tuned(preset("yosinski-a"), {"blur": 1, name: 2})
    with pytest.raises(UsageError, match=f"{name}.* is not a whole number"):
        tuned(preset("yosinski-a"), {"blur": 1, name: 2.5})


def test_rate_penalty_and_jitter_fit_every_kind_of_recipe() -> None:
    ours, lesson = preset("convscope"), preset("chollet")
    assert tuned(ours, {"learning_rate": 0.5}).rule == Adam(0.5, beta1=0.8, beta2=0.98, anneal=0.05)
    assert tuned(lesson, {"learning_rate": 2}).rule == Normalized(2.0)
    assert tuned(ours, {"total_variation": 3}).penalties == (TotalVariation(3.0),)
    assert tuned(ours, {"jitter": 12}).transform == Robust()
    assert tuned(lesson, {"jitter": 5}).transform == Roll(5)
    assert tuned(preset("dream"), {"jitter": 0}).transform != Roll(0)


@pytest.mark.parametrize(
    ("name", "tuning", "message"),
    [
        ("chollet", {"blurr": 1}, "ascent has no such setting; it has learning_rate, decay, blur"),
        ("chollet", {"decay": 2}, "give a number from 0 to 1"),
        ("chollet", {"decay": "much"}, "give a number"),
        ("chollet", {"blur_every": 2}, "set blur first"),
        ("convscope", {"blur": 1}, "does not change pixels but the spectrum"),
        ("maco", {"jitter": 4}, "random crops already"),
        ("maco", {"decay": 0.1}, "phases"),
    ],
)
def test_what_a_recipe_cannot_have_is_said(name: str, tuning: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tuned(preset(name), tuning)
