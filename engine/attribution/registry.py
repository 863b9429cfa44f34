"""The methods by name. Each declares itself where it is written: ``@method(...)`` is all it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar

from ...errors import UnsupportedOperator, UsageError
from ..outputs.reading import Question, Reading
from ..outputs.target import tensors_of
from .batch import Cut, Executors
from .maps import Maps
from .places import chosen_layers
from .targets import direct

F = TypeVar("F", bound=Callable[..., Any])

FAMILIES = ("cam", "gradient", "perturbation")
_CAM_OF_FORM = {"detection": "odam", "text": "hirescam", "text regions": "hirescam"}


@dataclass(frozen=True)
class Method:
    """One way to explain.

    Attributes:
        name: what ``--method`` takes.
        title: for people.
        family: "cam", "gradient" or "perturbation".
        needs_layer: whether it looks at one layer.
        passes: "few" forward passes, or "many" (hundreds), so slow on large models.
        run: (batch, targets[, layer or layers], **options) -> Maps.
        joins_layers: whether it takes all layers at once, in place of a map each that are averaged.
    """

    name: str
    title: str
    family: str
    needs_layer: bool
    passes: str
    run: Callable[..., Maps]
    joins_layers: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the keyword options that it takes."""
        fixed = self.run.keywords if isinstance(self.run, partial) else {}
        parameters = inspect.signature(self.run).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in fixed)

    def kind(self, option: str) -> str:
        """An option's type, as annotated."""
        return str(inspect.signature(self.run).parameters[option].annotation)


class _Methods(Mapping[str, Method]):
    """The declared methods, family by family, in the order of their declaration.

    Their files are imported at the first look: torch comes with them, which what only reads outputs does without.
    """

    def __init__(self) -> None:
        self._declared: dict[str, Method] = {}

    def _all(self) -> dict[str, Method]:
        from . import methods  # noqa: F401  (declares them)

        return self._declared

    def __getitem__(self, name: str) -> Method:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        found = self._all()
        return iter(sorted(found, key=lambda name: FAMILIES.index(found[name].family)))

    def __len__(self) -> int:
        return len(self._all())

    def declare(self, new: Method) -> None:
        """Adds a method; its name must be free and its family known."""
        if new.name in self._declared or new.family not in FAMILIES:
            raise ValueError(f"method '{new.name}' of family '{new.family}' is declared twice, or its family unknown")
        self._declared[new.name] = new


METHODS = _Methods()


def method(name: str, title: str, family: str, *, many: bool = False, **fixed: Any) -> Callable[[F], F]:
    """Declares the function below as a method.

    Its keyword-only parameters are the method's options: ``--set name=value`` and ``explain(..., name=value)`` reach
    them, and help texts and docs name them.

    Args:
        name: what ``--method`` takes.
        title: for people.
        family: one of `FAMILIES`.
        many: it takes hundreds of forward passes.
        **fixed: options that this name fixes, where one function serves several names.
    """

    def declare(function: F) -> F:
        parameters = inspect.signature(function).parameters
        joins = "layers" in parameters
        needs_layer = joins or "layer" in parameters
        run = partial(function, **fixed) if fixed else function
        METHODS.declare(Method(name, title, family, needs_layer, "many" if many else "few", run, joins))
        return function

    return declare


def find_methods(names: str | Sequence[str]) -> list[Method]:
    """Methods by comma-separated names; ``all`` is every one.

    Raises:
        UsageError: unknown name; the closest ones are in the message.
    """
    given = names.split(",") if isinstance(names, str) else list(names) if isinstance(names, Iterable) else [names]
    if wrong := [name for name in given if not isinstance(name, str)]:
        raise UsageError(f"method {wrong[0]!r} is no name; choose of {', '.join(METHODS)}")
    wanted = [n.strip().lower() for n in given]
    found: dict[str, Method] = {}
    for name in filter(None, wanted):
        if name == "all":
            found.update(METHODS)
        elif name in METHODS:
            found[name] = METHODS[name]
        else:
            close = get_close_matches(name, METHODS, n=3, cutoff=0.4)
            hint = f"closest: {', '.join(close)}; " if close else ""
            raise UsageError(f"method '{name}' is unknown; {hint}all: {', '.join(METHODS)}")
    if not found:
        raise UsageError(f"no method named; choose of {', '.join(METHODS)}")
    return list(found.values())


def default_method(executors: Executors, question: Question, layer: Any = None) -> Method:
    """The class activation map of `default_cam`; RISE, or D-RISE of boxes, where a file leaves no way back to it.

    Where nobody names a ``layer`` and the network has no feature map that leads to the answer, saliency.
    """
    known = direct(executors.graph, question)
    reading = None if known is not None else executors.reading
    tensors = tensors_of(known) if known is not None else reading.head or reading.tensors if reading else ()
    form = "" if reading is None else reading.form
    is_closed = reading is not None and form == "detection" and not reading.differentiable
    cut = _default_cut(executors, tensors, reading)
    if is_closed or not _has_gradient(executors, tensors, cut):
        return METHODS["drise" if form == "detection" else "rise"]
    if layer is None and cut is None:
        return METHODS["saliency"]
    return METHODS[default_cam(form)]


def default_cam(form: str) -> str:
    """Grad-CAM; for boxes ODAM, for lines and regions of text HiResCAM.

    Grad-CAM weighs a channel by its mean gradient, and would show every other character that the same channels
    stand for.

    Args:
        form: of the reading, "" for a target that needs none.
    """
    return _CAM_OF_FORM.get(form, "gradcam")


def _default_cut(executors: Executors, tensors: Sequence[str], reading: Reading | None) -> Cut | None:
    """Where a class activation map cuts when nobody names a layer; None without a map that a target depends on."""
    try:
        return executors.cut(chosen_layers(executors.graph, None, tensors, reading), tensors)
    except UsageError:
        return None


def _has_gradient(executors: Executors, tensors: Sequence[str], cut: Cut | None) -> bool:
    """Whether what lies above the cut can be differentiated, or without a cut the whole network."""
    try:
        if cut is None:
            executors.twin(tensors)
        elif cut.computed:
            executors.twin(cut.computed, cut.names, cut.roots)
    except UnsupportedOperator:
        return False
    return True


def methods_in_words() -> list[str]:
    """Every method with its options, a line each, family by family."""
    lines: list[str] = []
    for family in FAMILIES:
        lines.append(f"{family}:")
        for one in METHODS.values():
            if one.family == family:
                options = ", ".join(f"{name} ({one.kind(name)})" for name in one.options)
                lines.append(f"  {one.name:<20} {one.title}" + (f"; settings: {options}" if options else ""))
    return lines
