"""Do two networks differ only in what happens to the picture before the first convolution?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .align import Pair
from .cause import Cause
from .difference import Bench
from .operations import CONVOLUTION


@dataclass(frozen=True, eq=False)
class Stem:
    """A way to feed B so that it might agree with A.

    Attributes:
        tensor: B's tensor to start from.
        x: (N, C, H, W) what to feed there.
        causes: what that says about the difference.
        seen: from the pictures as both get them; False where it is guessed from the first convolution's weights.
    """

    tensor: str
    x: np.ndarray
    causes: tuple[Cause, ...]
    seen: bool = False


def stems(bench: Bench, pairs: tuple[Pair, ...], x_a: np.ndarray, x_b: np.ndarray) -> Iterator[Stem]:
    """Hypotheses, the simplest first: B fed with what A's first convolution sees, as it is, reversed, scaled.

    Args:
        bench: both models.
        pairs: aligned layers.
        x_a: model A's own input of the pictures.
        x_b: model B's own input of the same pictures.
    """
    first = next((p for p in pairs if p.a.kind == CONVOLUTION and p.a.weight is not None), None)
    if first is None or first.b.weight is None or first.a.weight is None:
        return
    start_a, start_b = first.a.inputs[0], first.b.inputs[0]
    u_a, u_b = _seen(bench, "a", start_a, x_a), _seen(bench, "b", start_b, x_b)
    if u_a.ndim != 4 or u_a.shape[1] != u_b.shape[1]:
        return
    seen = tuple(preprocessing_causes(u_a, u_b)) if u_a.shape == u_b.shape else ()
    if u_a.shape != u_b.shape or not np.allclose(u_a, u_b, rtol=1e-4, atol=1e-4 * np.abs(u_a).max()):
        yield Stem(start_b, u_a, seen or (Cause("preprocessing", _geometry(bench)),), seen=True)
    w_a, w_b = first.a.weight, first.b.weight
    if w_a.shape != w_b.shape or first.a.attributes.get("group") != 1:
        return
    if w_a.shape[1] == 3:
        text = "the first layer's input channels are reversed: one model expects RGB, the other BGR"
        yield Stem(start_b, u_a[:, ::-1].copy(), (Cause("channel order", text),))
    raw_a, raw_b = first.a.raw, first.b.raw
    normed = first.a.norm is not None and first.b.norm is not None
    if normed and raw_a is not None and raw_b is not None and np.allclose(raw_a, raw_b, rtol=1e-5):
        return  # what differs is the batch-norm
    axes = (0, 2, 3)
    below = (w_b**2).sum(axis=axes)
    scale = np.divide((w_a * w_b).sum(axis=axes), below, out=np.ones_like(below), where=below > 0)
    if not np.allclose(scale, 1, rtol=1e-5) and np.allclose(
        w_b * scale.reshape(1, -1, 1, 1), w_a, rtol=1e-4, atol=1e-6
    ):
        text = f"the first layer expects another range: values {_listed(scale)} times those of A"
        yield Stem(start_b, (u_a * scale.reshape(1, -1, 1, 1)).astype(np.float32), (Cause("range", text),))


def preprocessing_causes(u_a: np.ndarray, u_b: np.ndarray) -> list[Cause]:
    """What turns A's values (N, C, H, W) into B's: an order of channels, a scale and a shift, if these do.

    The fit u_b[c] = scale[c] * u_a[order[c]] + shift[c] is by least squares and must be exact.
    """
    channels = u_a.shape[1]
    for order in (list(range(channels)), list(range(channels))[::-1]):
        fit = _affine(u_a[:, order], u_b)
        if fit is None:
            continue
        scale, shift = fit
        found = []
        if order != list(range(channels)):
            found.append(Cause("channel order", "one model gets RGB, the other BGR", True))
        if not np.allclose(scale, 1, rtol=1e-3):
            found.append(Cause("range", f"range or std: B's input is {_listed(scale)} times A's", True))
        level = np.abs(u_b).max()
        if not np.allclose(shift, 0, atol=1e-3 * level):
            found.append(Cause("mean", f"mean subtraction: B's input is shifted by {_listed(shift)} against A's", True))
        return found
    return []


def _affine(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    p = np.moveaxis(x.astype(np.float64), 1, 0).reshape(x.shape[1], -1)
    q = np.moveaxis(y.astype(np.float64), 1, 0).reshape(y.shape[1], -1)
    mean_p, mean_q = p.mean(axis=1), q.mean(axis=1)
    p, q = p - mean_p[:, None], q - mean_q[:, None]
    spread = (p * p).sum(axis=1)
    if not np.all(spread > 0):
        return None
    scale = (p * q).sum(axis=1) / spread
    left = np.abs(q - scale[:, None] * p).max()
    return (scale, mean_q - scale * mean_p) if left <= 1e-3 * np.abs(q).max() else None


def _seen(bench: Bench, side: str, tensor: str, x: np.ndarray) -> np.ndarray:
    network = bench.a if side == "a" else bench.b
    if tensor == network.graph.inputs[0].name:
        return x
    return np.concatenate([v[tensor] for v in bench.run(network, x, [tensor])])


def _geometry(bench: Bench) -> str:
    one, two = bench.a.graph.preprocessing, bench.b.graph.preprocessing
    told = [
        f"{key} {getattr(one, key)} in A, {getattr(two, key)} in B"
        for key in ("resize", "crop", "interpolation", "size")
        if getattr(one, key) != getattr(two, key)
    ]
    return "the pictures are prepared otherwise: " + (", ".join(told) or "no single scale and shift explains it")


def _listed(values: np.ndarray) -> str:
    close = np.allclose(values, values[0], rtol=1e-3, atol=1e-6)
    return f"{values[0]:.4g}" if close else "(" + ", ".join(f"{v:.4g}" for v in values) + ")"
