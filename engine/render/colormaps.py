"""Colormaps as 256 x 3 tables, so that no drawing library is needed at run time.

viridis, magma and inferno: S. van der Walt and N. Smith 2015, CC0. turbo: A. Mikhailov 2019, Apache-2.0.
RdBu: the 11 anchors of ColorBrewer (C. Brewer), linear between them. jet: piecewise linear, the breakpoints
that every lecture's heatmap uses. The tests compare each table with matplotlib's.
"""

from __future__ import annotations

import base64
import zlib
from functools import cache

import numpy as np

from ...errors import UsageError

# Each table: zlib of the 768 first differences (int8, red then green then blue) of the 8-bit colours.
_TABLES = {
    "viridis": (
        "c-n<hi4lY#3{0@KE8+St<xsL4Sjp&Rzu+jyOg`opECkc)X`Q6qnhK3HNo_OG;RhV>kb4UegZDb1pdhW1hA(9608i7%o<`5u+"
        "O6#W6MI|R-q~_nLKyo3Fq1@l=e3($blyl0DjP1z=#&|HsQxfvb9OjPgHv1mpkyG8q{bp%?-(;)vb7T{kBAB"
    ),
    "magma": (
        "c-nnZ0TRO?2ov1@zwB-SL$G!b1Lv7mfnj3+W>_$1*l-6$vculB^q1sG_f&LnT*IwwB;bXl<Uh79*?xVvf`0)m>K0|9YP!<*p"
        "nj$WHo~<BT6(W=N!o!IuJjWh_vy5m1SCzK_+2Be79*q0Xg#o_&`SykB*7c7NQn@fO{<x$$z{pxF?9O+h+oRdEx7"
    ),
    "inferno": (
        "c-nnYff9uv2!rhX{~u?`HW6PJ%pqLTG0e>d{DJHs!U>Qs;e$R4<q|F;;(*eOB!nkOv@Yrca*^RRewRH^w6*urP6u^geWN|py"
        "nv!x9d(YM%G6!t7O)v|#%cbNLw)LdoUU&gNobki>0F5>sw(}<pOS}zaOtF1yLP_vOejQK(?U6N(<p5Kb`Gcg5T42nM;>jU"
    ),
    "turbo": (
        "c-mc(TNcA02t@Ijes?AP@BVjXw88+=3?t_>G4=v}a*850CxSK6LRzee*jiZo7kj@Ye33Fo;n=DiRhFt$dA8r>V-L0oCpnyiX"
        "(5zK(GH#vLN{CDmc<&f#=DrZ=UgIHL<=FD0k<%$5N}*C=SN=+KN-K5;Pj3j=&giMgjeyWd1J#vcHpu>P3;ux`?^HEU%mD1)>"
        "_@hn6xE23yeU4^$vvAn(@#O$MMj%V;}DV(n1?la`8^0)2uV<>Fx4jre6Y5<4`x9zaYQZ=?AISX^{"
    ),
}

_RDBU = "67001f b2182b d6604d f4a582 fddbc7 f7f7f7 d1e5f0 92c5de 4393c3 2166ac 053061"

# (position, level) of red, green and blue.
_JET = (
    ((0, 0), (0.35, 0), (0.66, 1), (0.89, 1), (1, 0.5)),
    ((0, 0), (0.125, 0), (0.375, 1), (0.64, 1), (0.91, 0), (1, 0)),
    ((0, 0.5), (0.11, 1), (0.34, 1), (0.65, 0), (1, 0)),
)

_NAMES = ("viridis", "magma", "inferno", "turbo", "jet", "RdBu", "gray")
_MISSING = 0.5  # NaN is drawn mid-grey: visible, and no colour of a sequential map


def names() -> tuple[str, ...]:
    """The names that `colorize` takes."""
    return _NAMES


@cache
def table(name: str) -> np.ndarray:
    """The (256, 3) float64 table of a colormap, in [0, 1]; read-only.

    Raises:
        UsageError: no such colormap.
    """
    if name not in _NAMES:
        raise UsageError(f"colormap '{name}' is unknown; choose one of {', '.join(_NAMES)}")
    colours = _build(name)
    colours.setflags(write=False)
    return colours


def colorize(values: np.ndarray, name: str = "viridis") -> np.ndarray:
    """Values as colours.

    Args:
        values: (H, W); clipped to [0, 1]. NaN becomes mid-grey.
        name: see `names`.

    Returns:
        (H, W, 3) float32 in [0, 1]. Value v takes entry floor(256 v) of the table, and 1 the last one.
    """
    values = np.asarray(values, dtype=np.float64)
    missing = np.isnan(values)
    index = np.clip(np.where(missing, 0.0, values) * 256, 0, 255).astype(np.uint8)
    colours = table(name)[index].astype(np.float32)
    colours[missing] = _MISSING
    return colours


def _build(name: str) -> np.ndarray:
    positions = np.linspace(0.0, 1.0, 256)
    if name == "gray":
        return np.repeat(positions[:, None], 3, axis=1)
    if name == "jet":
        channels = [np.array(points, dtype=np.float64).T for points in _JET]
        return np.stack([np.interp(positions, at, levels) for at, levels in channels], axis=1)
    if name == "RdBu":
        anchors = np.array([list(bytes.fromhex(colour)) for colour in _RDBU.split()]) / 255
        at = np.linspace(0.0, 1.0, len(anchors))
        return np.stack([np.interp(positions, at, channel) for channel in anchors.T], axis=1)
    steps = np.frombuffer(zlib.decompress(base64.b85decode(_TABLES[name])), dtype=np.int8)
    return steps.reshape(3, 256).astype(np.int64).cumsum(axis=1).T / 255.0
