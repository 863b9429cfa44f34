"""Changes to any recipe by name: ``tuning=decay=0.1``, ``tuning={"blur": 0.5}``.

What a recipe has of the kind is replaced, what it has not is added, and 0 takes it away; blur_every and jitter are
whole numbers. Decay, blur and the two clippings are those of Yosinski et al. 2015 (arXiv:1506.06579), in the order of
their toolbox.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real

from ....errors import UsageError
from ...whole import whole
from .presets import Preset
from .regularizers import ClipSmallContribution, ClipSmallNorm, Decay, GaussianBlur, Regularizer, TotalVariation
from .steps import Adam, Forecast, Normalized
from .transforms import Plain, Robust, Roll

_ORDER: tuple[type, ...] = (Decay, GaussianBlur, ClipSmallNorm, ClipSmallContribution)


def tuned(recipe: Preset, tuning: Mapping[str, float]) -> Preset:
    """The recipe with these settings in place of its own.

    Raises:
        UsageError: an unknown setting, a value out of range, or one that this recipe cannot have.
    """
    if not isinstance(tuning, Mapping):
        raise UsageError(f"tuning={tuning!r} is no mapping of settings to numbers; write tuning={{'decay': 0.1}}")
    for name, value in tuning.items():
        if name not in SETTINGS:
            raise UsageError(f"tuning['{name}']: ascent has no such setting; it has {', '.join(SETTINGS)}")
        change, low, high = SETTINGS[name]
        is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not low <= value <= high:
            raise UsageError(f"tuning['{name}']={value}: give a number from {low:g} to {high:g}")
        recipe = change(recipe, float(value))
    return recipe


def _learning_rate(recipe: Preset, value: float) -> Preset:
    rule = recipe.rule
    if isinstance(rule, Adam):
        return replace(recipe, rule=replace(rule, rate=value))
    if isinstance(rule, Normalized):
        return replace(recipe, rule=replace(rule, size=value))
    assert isinstance(rule, Forecast)
    return replace(recipe, rule=replace(rule, limit=value))


def _decay(recipe: Preset, value: float) -> Preset:
    if not recipe.picture.decays:
        raise UsageError(f"tuning['decay']: {recipe.name} changes phases alone, which do not decay; use another preset")
    return _regularized(recipe, Decay, Decay(value) if value else None)


def _blur(recipe: Preset, value: float) -> Preset:
    every = next((r.every for r in recipe.regularizers if isinstance(r, GaussianBlur)), 1)
    return _of_pixels(recipe, "blur", GaussianBlur, GaussianBlur(value, every) if value else None)


def _blur_every(recipe: Preset, value: float) -> Preset:
    blur = next((r for r in recipe.regularizers if isinstance(r, GaussianBlur)), None)
    if blur is None:
        raise UsageError(f"tuning['blur_every']: {recipe.name} has no blur; set blur first")
    return _of_pixels(recipe, "blur_every", GaussianBlur, replace(blur, every=whole(value, "tuning['blur_every']")))


def _clip_norm(recipe: Preset, value: float) -> Preset:
    return _of_pixels(recipe, "clip_norm", ClipSmallNorm, ClipSmallNorm(value) if value else None)


def _clip_contribution(recipe: Preset, value: float) -> Preset:
    clip = ClipSmallContribution(value) if value else None
    return _of_pixels(recipe, "clip_contribution", ClipSmallContribution, clip)


def _total_variation(recipe: Preset, value: float) -> Preset:
    others = tuple(p for p in recipe.penalties if not isinstance(p, TotalVariation))
    return replace(recipe, penalties=(*others, *((TotalVariation(value),) if value else ())))


def _jitter(recipe: Preset, value: float) -> Preset:
    pixels, transform = whole(value, "tuning['jitter']"), recipe.transform
    if isinstance(transform, Robust):  # before and after scaling, in the shares of its own 8 and 4
        after = pixels // 3
        return replace(recipe, transform=replace(transform, jitters=(pixels - after, after)))
    if isinstance(transform, Plain | Roll):
        return replace(recipe, transform=Roll(pixels) if pixels else Plain())
    raise UsageError(f"tuning['jitter']: {recipe.name} looks at random crops already; use another preset")


def _of_pixels(recipe: Preset, name: str, kind: type, wanted: Regularizer | None) -> Preset:
    if not recipe.picture.of_pixels:
        raise UsageError(
            f"tuning['{name}']: {recipe.name} does not change pixels but the spectrum; use total_variation, "
            "or a preset of pixels like chollet or yosinski-a"
        )
    return _regularized(recipe, kind, wanted)


def _regularized(recipe: Preset, kind: type, wanted: Regularizer | None) -> Preset:
    """The recipe with ``wanted`` as its only regularizer of a kind, in the order of Yosinski's toolbox."""
    kept = [r for r in recipe.regularizers if not isinstance(r, kind)] + ([wanted] if wanted is not None else [])
    place = {one: i for i, one in enumerate(_ORDER)}
    return replace(recipe, regularizers=tuple(sorted(kept, key=lambda r: place.get(type(r), len(_ORDER)))))


# name -> (the change, least and largest value)
SETTINGS: dict[str, tuple[Callable[[Preset, float], Preset], float, float]] = {
    "learning_rate": (_learning_rate, 1e-12, 1e12),
    "decay": (_decay, 0, 1),
    "blur": (_blur, 0, 64),
    "blur_every": (_blur_every, 1, math.inf),
    "clip_norm": (_clip_norm, 0, 100),
    "clip_contribution": (_clip_contribution, 0, 100),
    "total_variation": (_total_variation, 0, 1e6),
    "jitter": (_jitter, 0, 24),
}
