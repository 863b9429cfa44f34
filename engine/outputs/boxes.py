"""Boxes of a detector: candidates, non-maximum suppression, numbered detections, and the numbers asked of each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.labels import class_name
from .entries import logit_place, movers
from .reading import Answer, Question, Reading
from .reads import SIDES, Box, Entry, Function, Read, Rows
from .specs import class_index, least_probability, top_count
from .target import SidesBox, Target

if TYPE_CHECKING:
    from .selection import ScoreList

CONFIDENCE = 0.25  # the frameworks' common default of what is reported
OVERLAP = 0.45  # above this a weaker box of the same class is the same object (ultralytics, YOLOv5)
OF = ("score", "class", *SIDES, "iou")
_SHOWN = 10  # of them in a line
_MOST = 300  # detections of one picture


@dataclass(frozen=True, eq=False)
class Candidates:
    """Everything that a detector's outputs propose for one picture.

    Attributes:
        boxes: (A, 4) float: left, top, right, bottom in pixels of the model's input.
        scores: (A, K) in [0, 1], objectness times class probability; (A, 1) of the one class in ``classes`` where the
            file has chosen already.
        classes: (A,) class of each candidate, or None where ``scores`` has one column a class.
        masks: from a candidate's number to its (H, W) bool mask over the model's input, or None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray | None = None
    masks: Callable[[int], np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class Detection:
    """One box that is reported.

    Attributes:
        number: from 1, the surest first.
        box: (left, top, right, bottom) in pixels of the model's input.
        score: in [0, 1].
        index, name: of its class.
        place: its row in the candidates.
        mask: (H, W) bool over the model's input, or None.
    """

    number: int
    box: SidesBox
    score: float
    index: int
    name: str
    place: int
    mask: np.ndarray | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        share = {} if self.mask is None else {"mask_share": float(self.mask.mean())}
        box = [round(float(side), 2) for side in self.box]
        return {
            "number": self.number, "index": self.index, "name": self.name, "score": self.score, "box": box, **share,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Detections(Answer):
    """The boxes of one picture, the surest first."""

    boxes: tuple[Detection, ...]

    def to_json(self) -> dict[str, Any]:
        return {"boxes": [detection.to_json() for detection in self.boxes]}

    def text(self) -> str:
        if not self.boxes:
            return f"no box above {CONFIDENCE:.0%}"
        shown = ", ".join(
            f"{d.number}: {d.name} {d.score:.1%} at {d.box[0]:.0f},{d.box[1]:.0f},{d.box[2]:.0f},{d.box[3]:.0f}"
            for d in self.boxes[:_SHOWN]
        )
        return shown + (f", and {len(self.boxes) - _SHOWN} boxes more" if len(self.boxes) > _SHOWN else "")

    def rows(self) -> list[tuple[str, float | None, str]]:
        found: list[tuple[str, float | None, str]] = [
            (f"{d.number}: {d.name}", d.score, f"{d.score:.1%}") for d in self.boxes
        ]
        return found or super().rows()


@dataclass(frozen=True, eq=False)
class BoxTable:
    """Where the numbers of the boxes lie in the outputs, so that each can be asked about.

    Attributes:
        tensor: of the coordinates.
        place: candidate -> the four places of its coordinates, without batch axis.
        form: as for `reads.Box`.
        scale: as for `reads.Box`.
    """

    tensor: str
    place: Callable[[int], tuple[tuple[int, ...], ...]]
    form: str
    scale: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Where the scores lie in one tensor (N, A, C) or (N, C, A), also (N, C) and (N, C, h, w), a column a class.

    Attributes:
        tensor: of the scores.
        candidates_first: whether it is (N, A, C).
        first: column of class 0.
        classes: how many columns are classes.
        objectness: its column, or None.
        probability: whether the values are probabilities already.
        softmax: whether a softmax over all columns makes probabilities of them; else a sigmoid each.
        log_odds: whether `DetectionReading.score` means log(p / (1 - p)) of the values themselves; else the tensor's
            own values, or what the sigmoids were given from which they only moved.
    """

    tensor: str
    candidates_first: bool
    first: int
    classes: int
    objectness: int | None = None
    probability: bool = True
    softmax: bool = False
    log_odds: bool = False


@dataclass(frozen=True, eq=False)
class DetectionReading(Reading):
    """A detector: how its outputs become candidates, and which entries score each.

    Attributes:
        decode: rows -> candidates.
        score: (rows, candidate, class) -> the read of that score before its sigmoid (LookupError where it is not
            found); None for files whose last operators choose the boxes, and that keep no tensor from before.
        table: where the coordinates lie, or None where they cannot be asked about.
        scores: where the scores lie, or None where they are no one table.
        chosen: where they lie in a file that gives a list of chosen boxes, or None.
        grid: (A, 2) cells and (A, 1) strides, where coordinates are offsets in cells and logarithms of sizes.
        anywhere: class -> the read of the class's evidence wherever it may be, or None.
        thin: whether overlapping boxes are still to be thinned out.
        classes: number of classes, or None where unknown.
    """

    decode: Callable[[Rows], Candidates] = field(kw_only=True)
    score: Callable[[Rows, int, int], Read] | None = field(kw_only=True, default=None)
    table: BoxTable | None = field(kw_only=True, default=None)
    scores: ScoreTable | None = field(kw_only=True, default=None)
    chosen: ScoreList | None = field(kw_only=True, default=None)
    grid: tuple[np.ndarray, np.ndarray] | None = field(kw_only=True, default=None)
    anywhere: Callable[[int], Read] | None = field(kw_only=True, default=None)
    thin: bool = field(kw_only=True, default=True)
    classes: int | None = field(kw_only=True, default=None)

    accepts = frozenset({"box", "of", "against"})
    alternatives = (frozenset({"box", "target"}),)

    def answer(self, rows: Rows, *, top: int = 3) -> Detections:
        return Detections(tuple(self.detections(rows)))

    def detections(self, rows: Rows, least: float = CONFIDENCE) -> list[Detection]:
        """The boxes above a score, thinned out, ordered by score and then by place."""
        found = self.decode(rows)
        best, classes = _best(found)
        keep = np.flatnonzero(best >= least)
        order = keep[np.lexsort((keep, -best[keep]))]
        if self.thin:
            order = order[suppressed(found.boxes[order], classes[order])]
        return [
            Detection(
                number=number,
                box=_four(found.boxes[i]),
                score=float(best[i]),
                index=int(classes[i]),
                name=class_name(self.graph, int(classes[i])),
                place=int(i),
                mask=found.masks(int(i)) if found.masks else None,
            )
            for number, i in enumerate(order[:_MOST].tolist(), 1)
        ]

    def targets(self, rows: Rows, question: Question) -> list[Target]:
        self.check(question)
        if question.of not in OF:
            raise UsageError(f"of={question.of} is unknown; choose one of {', '.join(OF)}")
        if question.against is not None and question.of not in ("score", "class"):
            raise UsageError(f"against= contrasts a box's classes, which has no meaning for of={question.of}")
        chosen = self._chosen(rows, question)
        if isinstance(chosen, Target):
            if given := [f"{name}=" for name in ("of", "against") if name in question.given()]:
                raise UsageError(
                    f"{given[0]} is asked of a box, and none of class '{chosen.name}' above {CONFIDENCE:.0%} is found"
                )
            return [replace(chosen, name=f"{chosen.name} anywhere")]
        return [self._target(rows, detection, question) for detection in chosen]

    def _chosen(self, rows: Rows, question: Question) -> list[Detection] | Target:
        found = self.detections(rows) or self.detections(rows, 0.0)[:1]
        if not found:
            raise UsageError(f"{self.graph.name} proposes no box at all in this picture")
        if question.box is not None:
            if not 1 <= question.box <= len(found):
                raise UsageError(
                    f"box={question.box} is not there: {len(found)} "
                    f"box{'es' if len(found) > 1 else ''} found (convscope predict lists them)"
                )
            return [found[question.box - 1]]
        if question.target is None:
            return found[: question.count]
        top = top_count(question.target)
        if top is not None:
            return found[:top]
        least = least_probability(question.target)
        if least is not None:
            if not (sure := self.detections(rows, least)):
                raise UsageError(f"no box of {self.graph.name} reaches a score of {least:g} here")
            return sure
        index = class_index(self.graph, question.target, self.classes)
        mine = [d for d in found if d.index == index]
        if mine or self.anywhere is None:
            if not mine:
                raise UsageError(f"no box of class '{class_name(self.graph, index)}' above {CONFIDENCE:.0%} is found")
            return mine[: question.count]
        return Target(
            self.anywhere(index), class_name(self.graph, index),
            quantity="log-sum-exp of the class's scores over all boxes, a smooth maximum",
        )  # fmt: skip

    def _target(self, rows: Rows, detection: Detection, question: Question) -> Target:
        name = f"box {detection.number}: {detection.name}"
        place = detection.mask
        if question.of in ("score", "class"):
            against = self._against(rows, detection, question)
            read = self._score(rows, detection)
            return Target(
                read, name, against=against, box=detection.box, place=place, class_index=detection.index,
                quantity=_of_score(read),
            )  # fmt: skip
        if self.table is None:
            raise UsageError(
                f"of={question.of}: the coordinates of {self.graph.name} pass no gradient on; use of=score"
            )
        read = Box(
            self.table.tensor,
            self.table.place(detection.place),
            self.table.form,
            question.of,
            self.table.scale,
            detection.box if question.of == "iou" else None,
        )
        return Target(
            read, f"{name}, {question.of}", box=detection.box, place=place, class_index=detection.index,
            quantity="overlap (IoU) with the box where it is now" if question.of == "iou" else None,
        )  # fmt: skip

    def _score(self, rows: Rows, detection: Detection) -> Read:
        if self.score is not None:
            with suppress(LookupError):
                return self.score(rows, detection.place, detection.index)
        return self.match(detection.box, detection.index)

    def match(self, box: SidesBox, index: int | None, probabilities: np.ndarray | None = None) -> Function:
        """The read of how well the outputs still show a box, see `Match`."""
        single = None in self.axes.values()  # the file holds one picture's boxes, without a batch axis
        names = tuple(self.axes) if single else self.tensors
        return Function(names, Match(self, box, index, probabilities), batch_axis=None if single else 0)

    def _against(self, rows: Rows, detection: Detection, question: Question) -> tuple[Target, ...]:
        """Other classes of the same box."""
        if question.against is None:
            return ()
        if self.score is None or self.classes is None or self.classes < 2:
            raise UsageError(f"against=: {self.graph.name} gives one score a box, so there is no class to contrast")
        top = top_count(question.against)
        if top is None:
            others = [class_index(self.graph, question.against, self.classes)]
            if others == [detection.index]:
                raise UsageError(f"against= names class {others[0]}, the box's own; name another, or top:3")
        else:
            scores = self.decode(rows).scores[detection.place]
            others = [int(i) for i in np.argsort(-scores, kind="stable") if i != detection.index][:top]
        return tuple(
            Target(self.score(rows, detection.place, other), class_name(self.graph, other)) for other in others
        )


@dataclass(frozen=True, eq=False)
class Match:
    """How well the outputs still show a box: the largest overlap times score over all candidates.

    D-RISE's similarity (Petsiuk et al. 2021, "Black-box Explanation of Object Detectors via Saliency Maps",
    arXiv:2006.03204): s = max_j IoU(box, box_j) * O_j * cos(P, P_j) with objectness O and class probabilities P. Here
    the score of candidate j for the box's class stands for O_j * cos(P, P_j) where P is one class alone, which the
    file's outputs after suppression are.

    Attributes:
        reading: decodes.
        box: that is looked for.
        index: its class.
        probabilities: (K,) class probabilities of the box, or None for the class alone.
    """

    reading: DetectionReading
    box: SidesBox
    index: int | None
    probabilities: np.ndarray | None = None

    def __call__(self, rows: Rows) -> Any:
        if not all(isinstance(value, np.ndarray) for value in rows.values()):
            raise UsageError(
                f"the outputs of {self.reading.graph.name} pass no gradient on: its last operators choose the boxes; "
                "use a method that needs none: drise, rise, occlusion"
            )
        found = self.reading.decode(rows)
        if not len(found.boxes):
            return np.float64(0.0)
        overlaps = iou(np.asarray(self.box, np.float64)[None], found.boxes)[0]
        return np.float64((overlaps * self._alike(found)).max())

    def _alike(self, found: Candidates) -> np.ndarray:
        if found.classes is not None:
            return np.where(found.classes == self.index, found.scores[:, 0], 0.0)
        if self.probabilities is None:
            return found.scores[:, min(self.index or 0, found.scores.shape[1] - 1)]
        norms = np.linalg.norm(found.scores, axis=1) * np.linalg.norm(self.probabilities)
        cosine = found.scores @ self.probabilities / np.where(norms > 0, norms, 1.0)
        return found.scores.max(axis=1) * cosine


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, B) intersection over union of boxes (A, 4) and (B, 4), left, top, right, bottom; 0 for empty boxes."""
    left_top = np.maximum(a[:, None, :2], b[None, :, :2])
    right_bottom = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(right_bottom - left_top, 0, None), axis=2)
    areas = [np.prod(np.clip(x[:, 2:] - x[:, :2], 0, None), axis=1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return shared / np.where(union > 0, union, 1.0)


def suppressed(boxes: np.ndarray, classes: np.ndarray, overlap: float = OVERLAP) -> np.ndarray:
    """Which of the boxes (surest first) stay: none overlaps a surer one of its class by more than ``overlap``."""
    kept: list[int] = []
    alive = np.ones(len(boxes), dtype=bool)
    for i in range(len(boxes)):
        if not alive[i] or len(kept) >= _MOST:
            continue
        kept.append(i)
        rest = np.flatnonzero(alive & (classes == classes[i]))
        rest = rest[rest > i]
        alive[rest[iou(boxes[i : i + 1], boxes[rest])[0] > overlap]] = False
    return np.asarray(kept, dtype=int)


def corners(boxes: np.ndarray, form: str, scale: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """(A, 4) left, top, right, bottom in pixels, from the file's own form; see `reads.Box`."""
    a, b, c, d = np.asarray(boxes, np.float64).T
    if form == "cxcywh":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    elif form == "tlbr":
        a, b, c, d = b, a, d, c
    return np.stack([a * scale[0], b * scale[1], c * scale[0], d * scale[1]], axis=1)


class ScoreReads:
    """The read of a score that lies at a place of an output: before its sigmoid where index arithmetic finds it.

    Args:
        graph: the model.
        tensor: the output.
        probability: whether the output's scores are probabilities.
        shapes: of every tensor that `movers` names, batch axis included (for one picture).
    """

    def __init__(self, graph: Graph, tensor: str, probability: bool, shapes: dict[str, tuple[int, ...]]) -> None:
        self.graph, self.tensor, self.probability, self.shapes = graph, tensor, probability, shapes

    def __call__(self, *places: tuple[int, ...]) -> Entry:
        """The sum of the logits at these places (without the batch axis)."""
        found = [logit_place(self.graph, self.tensor, (0, *place), self.shapes) for place in places]
        known = [place for place in found if place is not None]
        if self.probability and len(known) == len(places):
            return Entry(tuple((tensor, place[1:]) for tensor, place in known))
        return Entry(tuple((self.tensor, place) for place in places), log_odds=self.probability)


def score_reads(graph: Graph, tensor: str, probability: bool) -> ScoreReads:
    """`ScoreReads` with the shapes of the graph's own layer table, or of one pass where it leaves some open."""
    names = movers(graph, tensor) if probability else []
    return ScoreReads(graph, tensor, probability, shapes_of(graph, names))


def shapes_of(graph: Graph, names: list[str]) -> dict[str, tuple[int, ...]]:
    """The tensors' shapes for one picture of the graph's size."""
    table = {layer.tensor: layer.shape for layer in graph.layers}
    shapes = {name: (1, *(s or 0 for s in table[name][1:])) for name in names if table.get(name)}
    if all(name in shapes and all(shapes[name]) for name in names):
        return shapes
    x = np.zeros((1, graph.channels, *graph.image_size), dtype=np.float32)
    return {name: value.shape for name, value in graph.session(names, device="cpu").run(x).items()}


def _of_score(read: Read) -> str:
    """What a box's score is where a gradient can reach it."""
    if isinstance(read, Function):
        return "overlap with the box times its score, of the box that fits best"
    if isinstance(read, Entry) and len(read.entries) > 1:
        return "sum of the box's logits of an object and of its class"
    return "log-odds of the box's score" if isinstance(read, Entry) and read.log_odds else "logit of the box's score"


def _best(found: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Each candidate's score and class."""
    if found.classes is not None:
        return found.scores[:, 0], found.classes
    if not len(found.scores):
        return np.zeros(0), np.zeros(0, int)
    return found.scores.max(axis=1), found.scores.argmax(axis=1)


def _four(box: np.ndarray) -> SidesBox:
    left, top, right, bottom = (float(side) for side in box)
    return left, top, right, bottom
