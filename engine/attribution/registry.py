"""The table of methods: name, title, family, what it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

from ...errors import UsageError
from ..outputs.reading import Question
from .batch import Executors
from .maps import Maps
from .methods.fullgrad import full_grad
from .methods.gradient import GRADIENT_METHODS
from .methods.layer_methods import LAYER_METHODS
from .methods.perturbation import PERTURBATION_CAMS, PERTURBATION_METHODS
from .targets import direct


@dataclass(frozen=True)
class Method:
    """One way to explain.

    Attributes:
        name: what ``--method`` takes.
        title: for people.
        family: "cam", "gradient" or "perturbation".
        needs_layer: whether it looks at one layer.
        passes: "few" forward passes, or "many" (hundreds), so slow on large models.
        run: (batch, targets[, layer], **options) -> Maps.
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


def _table() -> dict[str, Method]:
    titles = {
        "gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "hirescam": "HiResCAM", "xgradcam": "XGrad-CAM",
        "layercam": "LayerCAM", "eigencam": "Eigen-CAM", "eigengradcam": "EigenGrad-CAM", "cam": "CAM",
        "guidedgradcam": "Guided Grad-CAM", "scorecam": "Score-CAM", "ablationcam": "Ablation-CAM",
        "fullgrad": "FullGrad", "saliency": "Saliency", "inputxgradient": "Input x gradient",
        "smoothgrad": "SmoothGrad", "smoothgrad-squared": "SmoothGrad squared", "vargrad": "VarGrad",
        "integratedgradients": "Integrated Gradients", "guidedbackprop": "Guided backprop",
        "deconvnet": "Deconvnet", "deeplift": "DeepLIFT rescale", "occlusion": "Occlusion", "rise": "RISE",
        "odam": "ODAM", "drise": "D-RISE",
    }  # fmt: skip
    many = {"occlusion", "rise", "scorecam", "ablationcam", "drise"}
    families: list[tuple[str, bool, dict[str, Any]]] = [
        ("cam", True, LAYER_METHODS),
        ("cam", True, PERTURBATION_CAMS),
        ("cam", False, {"fullgrad": full_grad}),
        ("gradient", False, GRADIENT_METHODS),
        ("perturbation", False, PERTURBATION_METHODS),
    ]
    return {
        name: Method(name, titles[name], family, needs_layer, "many" if name in many else "few", run)
        for family, needs_layer, group in families
        for name, run in group.items()
    }


METHODS: dict[str, Method] = _table()


def default_method(executors: Executors, question: Question) -> Method:
    """Grad-CAM; for a detector ODAM, and D-RISE where its file leaves no way back from the boxes."""
    if direct(executors.graph, question) is None and executors.reading.form == "detection":
        return METHODS["odam" if executors.reading.differentiable else "drise"]
    return METHODS["gradcam"]


def find_methods(names: str | Sequence[str]) -> list[Method]:
    """Methods by comma-separated names; ``all`` is every one.

    Raises:
        UsageError: unknown name; the closest ones are in the message.
    """
    wanted = [n.strip().lower() for n in (names.split(",") if isinstance(names, str) else names)]
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
