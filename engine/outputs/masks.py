"""Maps over the picture: classes of every pixel, one mask, an alpha matte, regions of text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ...errors import UsageError
from ..graph.index import attributes
from ..graph.labels import class_name, logistic
from ..graph.operators import operator
from .classes import others
from .facts import Facts
from .reading import Answer, Question, Reading
from .reads import Masked, Rows
from .specs import check_no_probability, class_index, is_all, least_probability, top_count
from .target import Target

_TEXT_THRESHOLD, _TEXT_SCORE = 0.3, 0.6  # of DB, Liao et al. 2020, arXiv:1911.08947, as its deployments use them
_TEXT_GROWTH = 1.5  # r' of its section 3.4: the map shows text shrunk, by D' = A' r' / L' (area, perimeter)
_TEXT = re.compile(r"text (\d+)")  # the name of a region
_SMALLEST = 9  # positions; less is a speck
_TELLING = ("seg", "mask", "class", "logit", "prob", "score")  # names of maps of classes
_HEATMAPS = ("heat", "hm", "keypoint", "kpt", "feature", "feat")  # names of maps that are none
_MOST_CLASSES = 200  # ADE20K has 150, COCO-Stuff 182
_BOUNDED = ("Relu", "Softplus", "Exp", "Abs", "Sqrt", "Sigmoid", "HardSigmoid", "Softmax", "Tanh", "Clip")
_COARSE = 8  # pixels a position: class maps that are not enlarged again; coarser ones are features


@dataclass(frozen=True, eq=False)
class Region:
    """A mask that is reported.

    Attributes:
        number: from 1, the largest share first.
        index, name: of its class.
        share: of the picture, in [0, 1].
        mask: (h, w) bool at the output's own size.
        box: (left, top, right, bottom) in pixels of the model's input, for regions of text.
        score: mean probability in a region of text.
    """

    number: int
    index: int
    name: str
    share: float
    mask: np.ndarray
    box: tuple[float, float, float, float] | None = None
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict without the mask."""
        more = {} if self.box is None else {"box": [round(s, 2) for s in self.box], "score": self.score}
        return {"number": self.number, "index": self.index, "name": self.name, "share": self.share, **more}


@dataclass(frozen=True, eq=False)
class Regions(Answer):
    """The masks of one picture."""

    regions: tuple[Region, ...]
    key: str = "masks"

    def to_json(self) -> dict[str, Any]:
        return {self.key: [region.to_json() for region in self.regions]}

    def text(self) -> str:
        if not self.regions:
            return "no text found" if self.key == "regions" else "an empty mask"
        if self.key == "regions":
            count = len(self.regions)
            return f"{count} region{'s' * (count != 1)} of text: " + "; ".join(
                ",".join(f"{s:.0f}" for s in r.box or ()) for r in self.regions[:8]
            )
        return ", ".join(f"{r.name} {r.share:.1%}" for r in self.regions)

    def rows(self) -> list[tuple[str, float | None, str]]:
        shares = [r.share if r.score is None else r.score for r in self.regions]
        found: list[tuple[str, float | None, str]] = [
            (f"{r.number}: {r.name}", share, f"{share:.1%}") for r, share in zip(self.regions, shares, strict=True)
        ]
        return found or super().rows()


@dataclass(frozen=True, eq=False)
class MapReading(Reading):
    """Class maps (K, h, w), or one map (1, h, w) or (h, w) that is positive inside.

    Attributes:
        tensor: of the logits; of probabilities where no logits are known.
        binary: one map; its sign tells inside from outside.
        independent: each of the maps is a mask of its own (a sigmoid each), so that masks overlap or leave gaps.
        level: of a one-channel map and of independent ones, where inside begins.
    """

    tensor: str = field(kw_only=True)
    binary: bool = field(kw_only=True, default=False)
    independent: bool = field(kw_only=True, default=False)
    level: float = field(kw_only=True, default=0.0)

    foreground: ClassVar[str] = "foreground"  # what one map is positive for, where no label says it
    accepts = frozenset({"region", "mask", "against", "box"})
    alternatives: ClassVar[tuple[frozenset[str], ...]] = (frozenset({"box", "target"}), frozenset({"region", "mask"}))

    def answer(self, rows: Rows, *, top: int = 3) -> Regions:
        return Regions(tuple(self.regions(rows)[: max(top, 1)]))

    def regions(self, rows: Rows) -> list[Region]:
        """The predicted masks, the largest first."""
        maps = _planes(rows[self.tensor])
        if self.binary:
            inside = maps[0] > self.level
            return [Region(1, 0, self._inside, float(inside.mean()), inside)] if inside.any() else []
        masks = self._masks(maps)
        shares = masks.mean(axis=(1, 2))
        order = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
        return [
            Region(number, i, class_name(self.graph, i), float(shares[i]), masks[i])
            for number, i in enumerate(order, 1)
        ]

    @property
    def _inside(self) -> str:
        """What one map is positive for."""
        return class_name(self.graph, 0) if self.graph.labels else self.foreground

    def _masks(self, maps: np.ndarray) -> np.ndarray:
        """(K, h, w) bool: where each class is the strongest, or above its level."""
        if self.independent:
            return maps > self.level
        return maps.argmax(axis=0)[None] == np.arange(len(maps))[:, None, None]

    def targets(self, rows: Rows, question: Question) -> list[Target]:
        self.check(question)
        maps, size = _planes(rows[self.tensor]), self.graph.image_size
        given = region_weights(question, maps.shape[1:], size)
        check_no_probability(question.target, "masks")
        if self.binary:
            if question.against is not None:
                raise UsageError(f"against=: {self.graph.name} has one mask, there is no other class to contrast with")
            if question.box is not None and question.box != 1:
                raise UsageError(f"box={question.box} is not there: {self.graph.name} has one mask")
            return [self._one_map(rows[self.tensor], question.target, given)]
        regions = self.regions(rows)
        top, everyone = top_count(question.target), is_all(question.target)
        if question.box is not None:
            if not 1 <= question.box <= len(regions):
                raise UsageError(f"box={question.box} is not there: {len(regions)} masks found")
            chosen = [regions[question.box - 1].index]
        elif question.target is None or top is not None or everyone:
            many = top or (len(maps) if everyone else 1 if given is not None else question.count)
            here = [] if given is None else _strongest_in(self._masks(maps), given, many)
            chosen = here or [r.index for r in regions[:many]] or [int(maps.max(axis=(1, 2)).argmax())]
        else:
            chosen = [class_index(self.graph, question.target, len(maps))]
        return [self._class(maps, index, given, question.against) for index in chosen]

    def _class(self, maps: np.ndarray, index: int, given: np.ndarray | None, against: Any) -> Target:
        mask = given
        if mask is None:
            own = self._masks(maps)[index]
            mask = own if own.any() else np.ones(maps.shape[1:], bool)  # nowhere the strongest: its whole map
        weights = np.asarray(mask, np.float32)
        contrast = _against(self, maps, index, weights, against)
        return Target(
            Masked(self.tensor, index, weights),
            class_name(self.graph, index),
            against=tuple(Target(Masked(self.tensor, i, weights), class_name(self.graph, i)) for i in contrast),
            place=_on_input(mask, self.graph.image_size),
            quantity=f"sum of the class's logits {self._where(given, mask)}",
        )

    def _where(self, given: np.ndarray | None, mask: np.ndarray) -> str:
        """Over which positions a class is summed, in words."""
        if given is not None:
            return "over the region that is asked for"
        if np.all(mask):
            return "over the whole map"
        return "inside the mask" if self.independent or self.binary else "where it is the strongest class"

    def _one_map(self, row: Any, spec: Any, given: np.ndarray | None) -> Target:
        plane, name = _planes(row)[0], self._inside
        inside = plane > self.level
        background = isinstance(spec, str) and spec.strip().lower() in ("background", "not " + name.lower())
        if not background and spec is not None and top_count(spec) is None and not is_all(spec):
            text = str(spec).strip().lower()
            if text not in (name.lower(), "foreground", "0", "1"):
                raise UsageError(f"class '{spec}': {self.graph.name} has one mask; ask for '{name}' or 'background'")
        mask = given if given is not None else (~inside if background else inside)
        if not np.any(mask):
            mask = np.ones(plane.shape, bool)
        return Target(
            Masked(self.tensor, 0 if np.ndim(row) == 3 else None, np.asarray(mask, np.float32)),
            "background" if background else name,
            sign=-1.0 if background else 1.0,
            place=_on_input(mask, self.graph.image_size),
            quantity=f"{'minus the ' if background else ''}sum of the mask's {'values' if self.level else 'logits'} "
            + ("outside the mask" if background and given is None else self._where(given, mask)),
        )


@dataclass(frozen=True, eq=False)
class TextMapReading(MapReading):
    """A map of the probability of text, as DB (differentiable binarization) gives it: regions are its islands.

    Attributes:
        probability: the tensor's values are probabilities, and no logits are known.
    """

    probability: bool = field(kw_only=True, default=False)

    foreground = "text"
    accepts = frozenset({"region", "mask", "box"})
    alternatives = (frozenset({"box", "target", "region", "mask"}),)

    def answer(self, rows: Rows, *, top: int = 3) -> Regions:
        return Regions(tuple(self.regions(rows)), "regions")

    def regions(self, rows: Rows) -> list[Region]:
        """Islands above the threshold with a high mean, from top to bottom and left to right."""
        from scipy import ndimage

        plane = _planes(rows[self.tensor])[0]
        probability = plane if self.probability else logistic(plane)
        islands, _ = ndimage.label(probability > _TEXT_THRESHOLD)
        height, width = self.graph.image_size
        scale = width / plane.shape[1], height / plane.shape[0]
        found = []
        for i, window in enumerate(ndimage.find_objects(islands), 1):
            mask = islands == i
            score = float(probability[mask].mean())
            if mask.sum() >= _SMALLEST and score >= _TEXT_SCORE:
                rows_, columns = window
                box = _grown((columns.start, rows_.start, columns.stop, rows_.stop), plane.shape, scale)
                found.append((box, score, mask))
        found.sort(key=lambda r: (round(r[0][1] / max(r[0][3] - r[0][1], 1)), r[0][0]))
        return [
            Region(number, 0, "text", float(mask.mean()), mask, box, score)
            for number, (box, score, mask) in enumerate(found, 1)
        ]

    def targets(self, rows: Rows, question: Question) -> list[Target]:
        if question.region is not None or question.mask is not None:
            return super().targets(rows, question)
        self.check(question)
        number, spec = question.box, question.target
        if spec is not None and top_count(spec) is None and least_probability(spec) is None:
            match = _TEXT.fullmatch(str(spec).strip())
            if match is None:
                return super().targets(rows, question)
            number = int(match[1])
        regions = self.regions(rows)
        if not regions and number is None:
            return [self._one_map(rows[self.tensor], None, None)]
        if number is not None:
            if not 1 <= number <= len(regions):
                raise UsageError(f"box={number} is not there: {len(regions)} regions of text found")
            regions = [regions[number - 1]]
        least = least_probability(spec)
        if least is not None and not is_all(spec):
            regions = [region for region in regions if (region.score or 0.0) >= least]
            if not regions:
                raise UsageError(f"no region of text of {self.graph.name} reaches a score of {least:g} here")
        top = top_count(spec) or (len(regions) if least is not None else question.count)
        return [
            Target(
                Masked(self.tensor, 0, region.mask.astype(np.float32)),
                f"text {region.number}",
                box=region.box,
                place=_on_input(region.mask, self.graph.image_size),
                quantity=f"sum of the {'probabilities' if self.probability else 'logits'} of text over the region",
            )
            for region in sorted(regions, key=lambda r: -r.share)[:top]
        ]


def _grown(
    box: tuple[int, int, int, int], shape: tuple[int, ...], scale: tuple[float, float]
) -> tuple[float, float, float, float]:
    """A shrunk region's box at the text's own size, in pixels of the model's input, cut to the picture."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    more = width * height * _TEXT_GROWTH / (2 * (width + height))
    return (
        max(left - more, 0) * scale[0],
        max(top - more, 0) * scale[1],
        min(right + more, shape[1]) * scale[0],
        min(bottom + more, shape[0]) * scale[1],
    )


def segmentation(facts: Facts, forced: bool = False) -> MapReading | None:
    """(N, K, h, w) class maps, K >= 2, or an ArgMax of them."""
    found = _maps(facts)
    if found is None or (not forced and _answers_first(facts)):
        return None
    tensor, shape, name = found
    chosen = _behind_argmax(facts, name) is not None
    if shape[1] < 2 or (not forced and not chosen and _is_picture(facts, name, shape)):
        return None
    if not forced and not chosen and not _are_classes(facts, name, shape):
        return None
    independent = not chosen and facts.head(name) == "sigmoid"
    how = (
        ", found before the file's ArgMax" if chosen else ", each a mask of its own (a sigmoid)" if independent else ""
    )
    reason = f"{shape[1]} classes of every position of {shape[2]} x {shape[3]}{how}"
    return MapReading(
        facts.graph, "segmentation", "segmentation", reason, (tensor,), (tensor,), tensor=tensor,
        independent=independent, level=0.5 if facts.is_headed(tensor, name) else 0.0,
    )  # fmt: skip


def mask(facts: Facts, forced: bool = False) -> MapReading | None:
    """(N, 1, h, w): one mask, positive inside, before or after a sigmoid."""
    found = _one_map(facts)
    if found is None or (not forced and _answers_first(facts)):
        return None
    tensor, shape, name = found
    level = 0.5 if tensor == name and facts.saturates(name) else 0.0
    title = "an alpha matte" if facts.named(name, "alpha", "matte", "pha") else "one mask"
    if not forced and (facts.named(name, "depth", "disp") or never_negative(facts, name)):
        return None
    reason = f"{title} of {shape[2]} x {shape[3]} (one channel{', a sigmoid' if facts.head(name) else ''})"
    return MapReading(
        facts.graph, "segmentation", "mask", reason, (tensor,), (tensor,), tensor=tensor, binary=True, level=level
    )


def text_map(facts: Facts, forced: bool = False) -> TextMapReading | None:
    """(N, 1, h, w) after a sigmoid, from a Paddle detector of text."""
    found = _one_map(facts)
    if found is None or facts.head(found[2]) != "sigmoid":
        return None
    tensor, shape, name = found
    first = facts.graph.index.nodes[:4]
    paddle = "sigmoid_0.tmp" in name or any(
        part.startswith("p2o.") for node in first for part in (node.name, *node.output)
    )
    text = facts.named(name, "text", "shrink", "maps") or paddle
    if not forced and not text:
        return None
    reason = f"a map of text (DB) of {shape[2]} x {shape[3]}: {'a Paddle file' if paddle else repr(name)}"
    headed = facts.is_headed(tensor, name)
    return TextMapReading(
        facts.graph, "text regions", "db", reason, (tensor,), (tensor,), tensor=tensor, binary=True, probability=headed,
        level=0.5 if headed else 0.0,
    )  # fmt: skip


def _maps(facts: Facts) -> tuple[str, tuple[int, ...], str] | None:
    """(tensor of the logits, shape, output) of the first output with height and width."""
    for name in facts.names:
        found = _behind_argmax(facts, name)
        if found is not None:
            return (*found, name)
        if not facts.is_float(name):
            continue
        shape = facts.shape(name)
        if len(shape) == 4 and shape[2] > 1 and shape[3] > 1:
            return facts.before_head(name), shape, name
        if is_plane(facts, name, shape):
            return facts.before_head(name), (shape[0], 1, *shape[1:]), name
    return None


def _answers_first(facts: Facts) -> bool:
    """Whether classes with a softmax or sigmoid come before any map, which then only shows what they are made of."""
    name = facts.names[0]
    shape = facts.shape(name)
    is_vector = facts.is_float(name) and len(shape) >= 2 and all(size == 1 for size in shape[2:])
    return is_vector and facts.head(name) is not None


def is_plane(facts: Facts, name: str, shape: tuple[int, ...]) -> bool:
    """Whether (N, h, w) is a map without a channel axis: as large as the picture, and no line of symbols."""
    return (
        len(shape) == 3
        and shape[1:] == facts.size
        and min(facts.size) > 1
        and facts.head(name) not in ("softmax", "log softmax")
    )


def _behind_argmax(facts: Facts, name: str) -> tuple[str, tuple[int, ...]] | None:
    """The class maps (N, K, h, w) that an ArgMax chooses from; of channels last those before they were turned."""
    producer = facts.graph.index.producer
    node = producer.get(name)
    while node is not None and node.op_type in ("Cast", "Squeeze", "Identity", "Reshape", "Unsqueeze"):
        node = producer.get(node.input[0])
    if node is None or node.op_type != "ArgMax":
        return None
    axis = int(attributes(node).get("axis", 0)) % 4
    source = facts.before_head(node.input[0])
    turned = producer.get(source)
    last = axis == 3 and turned is not None and turned.op_type == "Transpose"
    if last and turned is not None and list(attributes(turned).get("perm", ())) == [0, 2, 3, 1]:
        axis, source = 1, facts.before_head(turned.input[0])
    shape = next((layer.shape for layer in facts.graph.layers if layer.tensor == source), ())
    return (source, (1, *(int(s or 1) for s in shape[1:]))) if len(shape) == 4 and axis == 1 else None


def _are_classes(facts: Facts, name: str, shape: tuple[int, ...]) -> bool:
    """Whether (N, K, h, w) may be classes of every position, and not features or a detector's raw grid.

    A softmax or sigmoid, class names and a telling name say so. Without them maps of K classes have both signs, are no
    more than the largest sets of classes, nearly as fine as the picture, and stand in no pyramid.
    """
    told = facts.head(name) is not None or facts.named(name, *_TELLING)
    if told or (facts.labels is not None and abs(len(facts.labels) - shape[1]) <= 1):
        return True
    if facts.named(name, *_HEATMAPS) or shape[1] > _MOST_CLASSES or never_negative(facts, name):
        return False
    if _are_of_several_kinds(facts, name):
        return False
    stride = max(facts.size[0] / shape[2], facts.size[1] / shape[3])
    others = [s for n in facts.names if n != name and len(s := facts.shape(n)) == 4]
    pyramid = any(max(s[2:]) > 1 and s[2:] != shape[2:] for s in others)
    return stride < _COARSE or (stride == _COARSE and not pyramid)


def _are_of_several_kinds(facts: Facts, name: str) -> bool:
    """Whether maps are joined of which some are bounded on one side or both and others not: scores beside distances.

    Two classes may be written as a probability and the rest of it, which both lie in 0..1.
    """
    node = _behind_moves(facts, name)
    if node is None or node.op_type != "Concat" or facts.saturates(name):
        return False
    parts = [_behind_moves(facts, part, scaled=True) for part in node.input]
    kinds = {part.op_type if part.op_type in _BOUNDED else "" for part in parts if part is not None}
    return len(kinds) > 1


def _behind_moves(facts: Facts, name: str, scaled: bool = False) -> Any:
    """The node whose values a tensor holds, moved, picked out and, if asked, scaled at most; None for an input."""
    index = facts.graph.index
    while (node := index.producer.get(name)) is not None:
        row = operator(node)
        times = scaled and node.op_type in ("Mul", "Div", "Add", "Sub")
        varying = [n for n in node.input if n and index.constant(n) is None]
        if not (row.neutral or row.preserves or (times and len(varying) == 1)):
            return node
        name = varying[0] if times and varying else node.input[0]
    return None


def never_negative(facts: Facts, name: str) -> bool:
    """Whether values without a head are never below 0 on the probe and reach beyond 1: no logits, no probabilities."""
    low, high = facts.range(name)
    return low >= 0 and high > 1 and facts.head(name) is None and _behind_argmax(facts, name) is None


def _one_map(facts: Facts) -> tuple[str, tuple[int, ...], str] | None:
    found = _maps(facts)
    return found if found is not None and found[1][1] == 1 else None


def _is_picture(facts: Facts, name: str, shape: tuple[int, ...]) -> bool:
    """Whether three channels are a picture: larger than the input, named so, never below 0, or bounded by -1 and 1."""
    if shape[1] != 3 or facts.head(name) == "softmax" or (facts.labels is not None and len(facts.labels) == 3):
        return False
    larger = shape[2] > facts.size[0]
    low, _ = facts.range(name)
    return larger or facts.named(name, "image", "img", "rgb", "sr", "picture") or low >= 0 or facts.is_tanh(name)


def _planes(row: Any) -> np.ndarray:
    """(K, h, w) from one picture's maps with or without a channel axis."""
    maps = np.asarray(row, np.float64)
    return maps[None] if maps.ndim == 2 else maps


def region_weights(question: Question, shape: tuple[int, ...], size: tuple[int, int]) -> np.ndarray | None:
    """The region or mask of the question at the output's own size, or None."""
    from ..attribution.maps import resized

    if question.mask is not None:
        given = np.asarray(question.mask, np.float32)
        if given.ndim != 2:
            raise UsageError(f"the mask has shape {given.shape}; give (height, width)")
    elif question.region is not None:
        top, left, bottom, right = question.region
        given = np.zeros(size, np.float32)
        given[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
    else:
        return None
    small = resized(given[None], (shape[0], shape[1]))[0]
    if not small.any():
        raise UsageError(f"the region or mask holds nothing of the picture of {size[0]} x {size[1]} pixels")
    return small


def _on_input(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool over the model's input."""
    from ..attribution.maps import resized

    return resized(np.asarray(mask, np.float32)[None], size)[0] >= 0.5


def _strongest_in(masks: np.ndarray, given: np.ndarray, count: int) -> list[int]:
    """The classes whose masks (K, h, w) hold most of a region, none that holds nothing of it."""
    weights = (masks * given).sum(axis=(1, 2))
    return [int(i) for i in np.argsort(-weights, kind="stable")[:count] if weights[i] > 0]


def _against(reading: MapReading, maps: np.ndarray, index: int, weights: np.ndarray, against: Any) -> list[int]:
    if against is None:
        return []
    return others(reading.graph, (maps * weights).sum(axis=(1, 2)), index, against)
