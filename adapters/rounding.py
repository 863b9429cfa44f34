"""How far two right float32 computations of one network may lie apart.

A network with random weights can amplify the last bit of its input ten-thousandfold, and the roundings of two
executors with it. How much it does is measured: by what one bit of noise on the input does to each tensor.
"""

from __future__ import annotations

NOISE = 2.0**-23  # relative, of the input: the last bit of a float32
_LAYERS = 10.0  # every layer rounds, and not the input alone
_MOST = 0.05  # a difference above it is a wrong import, however the network amplifies


def rounding_bound(tolerance: float, moved: float) -> float:
    """The largest relative difference that rounding explains.

    Args:
        tolerance: what passes for any network.
        moved: relative change of the same tensor when `NOISE` comes to the input.
    """
    return max(tolerance, min(_LAYERS * moved, _MOST))
