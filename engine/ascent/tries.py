"""What is tried to make a silent unit speak, in order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Try:
    """One way to make a unit speak.

    Attributes:
        number: tells its random stream from the others'.
        name: "" for the recipe itself.
        before: maximize the tensor before the activation.
        photograph: start from the reference photograph that excites the unit most.
        loud: start from full-range noise and take twice the steps.
        own: by the recipe `strongest`, whose steps are gentler than the classic ones: these can push a picture out of a
            small region where the unit speaks.
        centre: maximize the middle of the map alone: with ``own`` the strongest try.
    """

    number: int
    name: str = ""
    before: bool = False
    photograph: bool = False
    loud: bool = False
    own: bool = False
    centre: bool = False


RECIPE = Try(0)
PLAN = (
    Try(1, "pre-activation", before=True),
    Try(2, "a photograph's start", photograph=True),
    Try(5, "a photograph's start, by the strongest recipe", photograph=True, own=True),
    Try(3, "another start", before=True, loud=True),
    Try(4, "the middle of its map", before=True, own=True, centre=True),
)
