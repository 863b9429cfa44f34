"""What a comparison answers, as an object and as JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .agreement import LayerAgreement
from .align import Pair
from .cause import Cause

IDENTICAL, UNSEEN = "identical", "identical on these pictures, weights differ"
PERMUTED, REORDERED = "equal up to permutation", "same network, classes in another order"
PREPROCESSED, DIFFERENT = "equal up to preprocessing", "different"


@dataclass(frozen=True)
class FirstDifference:
    """Where the two models part."""

    layer_a: str
    layer_b: str
    rel: float
    causes: tuple[Cause, ...]

    def to_json(self) -> dict[str, Any]:
        """With ``cause``, the first cause in words, and all of them in ``causes``."""
        return {
            "layer_a": self.layer_a,
            "layer_b": self.layer_b,
            "rel": self.rel,
            "cause": self.causes[0].text if self.causes else "no cause found in settings or weights",
            "causes": [c.to_json() for c in self.causes],
        }


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The answer of `compare`.

    Attributes:
        verdict: "identical", "identical on these pictures, weights differ", "equal up to permutation", "same network,
            classes in another order", "equal up to preprocessing" or "different".
        max_rel: the bound that equal means.
        first_difference: None where the verdict is identical; where only weights differ, the first such layer.
        pairs: aligned layers; ``rel``, ``cause`` by index.
        rel: relative difference per pair, each model with its own preprocessing.
        cause: what differs in each pair's settings and weights.
        agreement: by index of the pair, for convolutions and dense layers.
        cka_matrix: rows and columns are the pairs in ``agreement``, or None.
        permutations: layer of A -> channel i of A is channel ``[i]`` of B.
        only_a, only_b: layers without a partner.
        notes: what was assumed.
        images: how many pictures were compared.
    """

    verdict: str
    max_rel: float
    first_difference: FirstDifference | None
    pairs: tuple[Pair, ...]
    rel: tuple[float, ...]
    cause: tuple[tuple[Cause, ...], ...]
    agreement: dict[int, LayerAgreement] = field(default_factory=dict)
    cka_matrix: np.ndarray | None = None
    permutations: dict[str, list[int]] = field(default_factory=dict)
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    images: int = 0

    def __repr__(self) -> str:
        part = self.first_difference
        where = f", parts at {part.layer_a!r} / {part.layer_b!r}" if part else ""
        return f"<Comparison: {self.verdict}{where}; {len(self.pairs)} layers, {self.images} pictures>"

    def _repr_html_(self) -> str:
        from ..render.notebook import table

        rows = (
            (pair.a.name, pair.b.name, pair.a.kind, f"{rel:.1e}", "; ".join(cause.text for cause in causes))
            for pair, rel, causes in zip(self.pairs, self.rel, self.cause, strict=True)
        )
        return table(repr(self).strip("<>"), ("layer of A", "layer of B", "op", "difference", "cause"), rows)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes every number as a JSON file; returns its path."""
        from ..render.artifacts import write_json

        return write_json(path, {"schema_version": 1, **self.to_json(matches=True)})

    @property
    def where(self) -> str:
        """Where the two part, as a sentence without its full stop; "" where they are identical."""
        part = self.first_difference
        if part is None:
            return ""
        layer = part.layer_a if part.layer_a == part.layer_b else f"{part.layer_a} | {part.layer_b}"
        if self.verdict == UNSEEN:
            pictures = "the picture" if self.images == 1 else f"any of the {self.images} pictures"
            return f"weights differ first at {layer}; not seen on {pictures}: none reaches what they act on"
        return f"first difference at {layer}: {part.rel:.2g} relative"

    @property
    def lines(self) -> list[str]:
        """The verdict, where the two part and why, and the layers in pairs, as a terminal shows them."""
        found = [self.verdict]
        if self.first_difference is not None:
            found.append(self.where)
            for cause in self.first_difference.causes:
                proof = " (confirmed by recomputation)" if cause.confirmed else ""
                found.append(f"cause             {cause.text}{proof}")
            if not self.first_difference.causes:
                found.append("cause             none found in settings or weights")
        for name, order in self.permutations.items():
            shown = ",".join(map(str, order[:8])) + (",..." if len(order) > 8 else "")
            found.append(f"permuted          {name}: channels of A are {shown} of B")
        a = max((len(pair.a.name) for pair in self.pairs), default=1)
        b = max((len(pair.b.name) for pair in self.pairs), default=1)
        found.append(f"{'A':<{a}}  {'B':<{b}}  found by      relative  matched    CKA")
        for i, pair in enumerate(self.pairs):
            measured = self.agreement.get(i)
            numbers = f"{measured.matching.share:7.0%}  {measured.cka:5.3f}" if measured else ""
            names = f"{pair.a.name:<{a}}  {pair.b.name:<{b}}  {pair.found_by:<12}"
            found.append(f"{names}  {self.rel[i]:8.1e}  {numbers}".rstrip())
        for missing, where in ((self.only_a, "A"), (self.only_b, "B")):
            if missing:
                found.append(f"only in {where}         {', '.join(missing[:12])}" + " ..." * (len(missing) > 12))
        return found

    def to_json(self, matches: bool = False) -> dict[str, Any]:
        """Every number; with ``matches`` also each unit's counterpart."""
        return {
            "verdict": self.verdict,
            "max_rel": self.max_rel,
            "images": self.images,
            "first_difference": self.first_difference.to_json() if self.first_difference else None,
            "layers": [self._layer(i, matches) for i in range(len(self.pairs))],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "permutations": self.permutations,
            "cka_matrix": self._matrix(),
            "notes": list(self.notes),
        }

    def _layer(self, i: int, matches: bool) -> dict[str, Any]:
        pair, measured = self.pairs[i], self.agreement.get(i)
        empty = dict.fromkeys(("matched_share", "matched_share_weights", "cka", "svcca", "pwcca", "procrustes"))
        return {
            "a": pair.a.name,
            "b": pair.b.name,
            "op": pair.a.kind,
            "found_by": pair.found_by,
            "rel": self.rel[i],
            **(measured.to_json() if measured else empty),
            "causes": [c.to_json() for c in self.cause[i]],
            **({"matching": measured.matching.to_json()} if matches and measured else {}),
        }

    def _matrix(self) -> dict[str, Any] | None:
        if self.cka_matrix is None:
            return None
        names = [self.pairs[i] for i in sorted(self.agreement)]
        return {"a": [p.a.name for p in names], "b": [p.b.name for p in names], "values": self.cka_matrix.tolist()}
