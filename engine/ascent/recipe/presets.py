"""Named recipes: the classics with their sources' own numbers, and ours. docs/presets.md explains each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ....errors import UsageError
from .canvases import Canvas, FourierCanvas, MacoCanvas, Noise, PixelCanvas
from .parameterizations import Parameterization
from .regularizers import (
    BoxBlur,
    ClipSmallContribution,
    ClipSmallNorm,
    ClipSmallValues,
    ClipToRange,
    Decay,
    GaussianBlur,
    Penalty,
    Regularizer,
    WeightedMean,
)
from .show import Clip, Percentile, Show, Standard, Stretch
from .steps import Adam, Forecast, Normalized, StepRule
from .transforms import Crops, Plain, Robust, Roll, Transform, Zoom

AUTO = "convscope"  # the recipe that suits the layer


@dataclass(frozen=True)
class Stage:
    """A part of the steps at one size: ``size`` and ``steps`` as shares of the whole, the last stage has size 1."""

    size: float
    steps: float


@dataclass(frozen=True)
class Aim:
    """What of a unit is maximized.

    Attributes:
        neuron: its value in the middle of the map, instead of the mean over positions.
        matching: besides, features distributed as in photographs (`matching`).
    """

    neuron: bool = False
    matching: bool = False


@dataclass(frozen=True)
class Preset:
    """A complete recipe.

    Attributes:
        name: as for ``--preset``.
        source: where its numbers come from.
        picture: what is changed, see `canvases`.
        rule: how a gradient becomes a step.
        steps: how many.
        size: side of the picture where the user names none.
        transform: random views.
        regularizers: applied to the parameters after every step.
        before: applied to the parameters before every step.
        penalties: taken off the objective, functions of the picture.
        stages: sizes on the way.
        redirect: number of first steps with redirected ReLU gradients.
        objective: what of a unit is maximized.
        show: how pixels become the picture shown, see `show`.
        noise: the start of pixel recipes.
        skip_last: take no step and no regularization after the last gradient.
        patience: stop a picture in the last stage when the mean of so many steps is less than ``gain`` above that
            of the same number before; 0 never stops.
        gain: see ``patience``.
        insist: give a weak unit a second chance, from the photograph that excites it most.
        exact: compute gradients in float32 also where bfloat16 is faster, as the source does.
        rectify: at a layer of signed values maximize a unit's positive part (`objectives.excitation`).
        gives_up: make no further try of a unit that stays silent, and call none dead. Left out of the text that
            pictures' hashes are made of, which is older: a recipe with it has a name of its own.
    """

    name: str
    source: str
    picture: Canvas
    rule: StepRule
    steps: int
    size: int = 128
    transform: Transform = field(default_factory=Plain)
    regularizers: tuple[Regularizer, ...] = ()
    before: tuple[Regularizer, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    stages: tuple[Stage, ...] = (Stage(1.0, 1.0),)
    redirect: int = 0
    objective: Aim = Aim()
    show: Show = field(default_factory=Clip)
    noise: Noise = field(default_factory=Noise)
    skip_last: bool = False
    patience: int = 0
    gain: float = 0.005
    insist: bool = False
    rectify: bool = False
    exact: bool = False
    gives_up: bool = field(default=False, repr=False)

    def parameterization(self, channels: int, size: tuple[int, int], origin: np.ndarray) -> Parameterization:
        """The map from parameters to pictures.

        Args:
            channels: of the picture.
            size: (height, width) of the picture.
            origin: the picture value (0..255) of the model's mean, one per channel.
        """
        return self.picture.parameterization(channels, size, origin, self.noise)


def preset(name: str | Preset) -> Preset:
    """The preset of that name; a `Preset` passes through.

    ``convscope`` stands for the recipe that suits a layer (`suited`); where no layer is at hand it is `strongest`.

    Raises:
        UsageError: no such preset; the names are in the message.
    """
    if isinstance(name, Preset):
        return name
    if name not in names():
        raise UsageError(f"preset '{name}' is unknown; choose one of {', '.join(names())}")
    return PRESETS["strongest" if name == AUTO else name]


def names() -> tuple[str, ...]:
    """Names of the presets, the default first."""
    return (AUTO, *PRESETS)


def _yosinski(
    row: str, steps: int, rule: Forecast, decay: float = 0.0, regularizers: Sequence[Regularizer] = ()
) -> Preset:
    decays: tuple[Regularizer, ...] = (Decay(decay),) if decay else ()
    return Preset(
        name=f"yosinski-{row}",
        source=f"Yosinski et al. 2015, arXiv:1506.06579, table 1 row {row}, and their toolbox's settings for it",
        picture=PixelCanvas(centred=True),
        rule=rule,
        steps=steps,
        regularizers=(*decays, *regularizers),
        objective=Aim(neuron=True),
        show=Stretch(),
        noise=Noise("normal", None, 10),
        skip_last=True,
        exact=True,
    )


_STRONGEST = Preset(
    name="strongest",
    source="measured here, docs/presets.md",
    picture=FourierCanvas(),
    rule=Adam(0.2, beta1=0.8, beta2=0.98, anneal=0.05),
    steps=256,
    transform=Robust(),
    redirect=16,
    patience=64,
    gain=0.0,
    insist=True,
    rectify=True,
)

# What convscope makes where no preset is named: see `suited`.
_OURS = (
    _STRONGEST,
    replace(
        _STRONGEST,
        name="objects",
        picture=FourierCanvas(1.75, 1 / 8),
        rule=Adam(0.2, beta1=0.8, beta2=0.98, anneal=0.05, hold=0.7),
        stages=(Stage(2 / 7, 0.3), Stage(1 / 2, 0.4), Stage(1.0, 0.3)),
        transform=Zoom(0.6, 1.2),
    ),
    replace(
        _STRONGEST,
        name="parts",
        picture=FourierCanvas(1.5),
        stages=(Stage(1 / 2, 1 / 2), Stage(1.0, 1 / 2)),
    ),
    replace(_STRONGEST, name="tile", transform=Robust(pad=4, jitters=(4, 2))),
)

_ALL = (
    *_OURS,
    Preset(
        name="lucid",
        source="Olah et al. 2017, doi:10.23915/distill.00007, Lucid 0.3.10",
        picture=FourierCanvas(),
        rule=Adam(0.05),
        steps=512,
        transform=Robust(),
        redirect=16,
    ),
    Preset(
        name="maco",
        source="Fel et al. 2023, arXiv:2306.06805; crops and noise of Horama 0.3.0, steps of Xplique 2.0",
        picture=MacoCanvas(),
        rule=Adam(1.0, nesterov=True),
        steps=256,
        size=256,
        transform=Crops(),
        redirect=16,
        show=Percentile(),
    ),
    replace(
        _STRONGEST,
        name="vital",
        source="Gorgun et al. 2025, arXiv:2503.22399 (sort matching), with our own picture, steps and views",
        picture=FourierCanvas(1.5),
        transform=Roll(30),
        objective=Aim(matching=True),
        patience=0,
        insist=False,
    ),
    Preset(
        name="chollet",
        source="Chollet 2016, How convolutional neural networks see the world",
        picture=PixelCanvas(),
        rule=Normalized(1.0),
        steps=20,
        show=Standard(),
        exact=True,
    ),
    Preset(
        name="jacobgil",
        source="Gildenblat 2016, keras-filter-visualization",
        picture=PixelCanvas(),
        rule=Normalized(0.9),
        steps=20,
        regularizers=(WeightedMean((BoxBlur(3), Decay(0.2), ClipSmallValues(1.0)), (3, 3, 1)),),
        show=Standard(),
        exact=True,
        noise=Noise("uniform", 138, 10),
    ),
    _yosinski("a", 500, Forecast(100, 2), 0.0, (GaussianBlur(0.5, 4), ClipSmallNorm(50))),
    _yosinski("b", 750, Forecast(100), 0.3, (ClipSmallNorm(20),)),
    _yosinski("c", 1000, Forecast(100), 1e-4, (GaussianBlur(1.0, 4),)),
    _yosinski("d", 1000, Forecast(1e8, 2), 0.0, (GaussianBlur(0.5, 4), ClipSmallContribution(90))),
    Preset(
        name="accent",
        source="Hamblin et al. 2024, arXiv:2402.10039, with Adam; rate and views measured here",
        picture=FourierCanvas(1.5),
        rule=Adam(0.05, beta1=0.8, beta2=0.98, anneal=0.05),
        steps=96,
        size=224,
        transform=Zoom(0.5, 1.0),
        redirect=16,
    ),
    Preset(
        name="dream",
        source="Mordvintsev et al. 2015, DeepDream notebook: 4 octaves of scale 1.4, 10 steps each",
        picture=PixelCanvas(),
        rule=Normalized(1.5, "mean", 1e-30),
        steps=40,
        transform=Roll(32),
        stages=tuple(Stage(1.4**-k, 0.25) for k in (3, 2, 1, 0)),
        regularizers=(ClipToRange((0.0,)),),
        noise=Noise("uniform", 100.5, 0.5),
        exact=True,
    ),
)

PRESETS: dict[str, Preset] = {p.name: p for p in _ALL}


def in_place(chosen: Preset) -> Preset:
    """The recipe for one position of a picture: its views lie on the picture, at its full size."""
    still = replace(chosen.transform, keep=True) if isinstance(chosen.transform, Robust) else Plain()
    return replace(chosen, transform=still, stages=(Stage(1.0, 1.0),))


def hastened(chosen: Preset) -> Preset:
    """The recipe for a first look in a few steps, as "NAME, coarse": no second chances, and views with little beside.

    Of ours larger steps as well: with twice the rate twelve reached what sixteen did (docs/atlas.md).
    """
    if isinstance(chosen.transform, Robust):
        chosen = replace(chosen, transform=PRESETS["tile"].transform)
    if chosen.name in (one.name for one in _OURS) and isinstance(chosen.rule, Adam):
        chosen = replace(chosen, rule=replace(chosen.rule, rate=2 * chosen.rule.rate))
    return replace(chosen, name=f"{chosen.name}, coarse", insist=False, gives_up=True, patience=0)


def fitted(chosen: Preset, origin: np.ndarray) -> Preset:
    """The preset with what depends on the model filled in: the limits of its picture."""
    limits = chosen.picture.limits(origin)
    return replace(chosen, before=limits) if limits else chosen
