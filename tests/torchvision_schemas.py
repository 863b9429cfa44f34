"""Makes torchvision (and timm, grad-cam, lucent, which import it) importable beside a CPU build of torch.

torchvision wheels hold a compiled extension that such a torch cannot load, and then the import fails because
two operators have no schema. Declaring the schemas is enough for everything that never runs them. For tests
and benchmarks only: where the extension does load, it could not register its own operators afterwards.
"""

from __future__ import annotations

import importlib.util
from typing import Any

_kept: list[Any] = []  # a torch.library.Library withdraws its operators when it is collected


def declare() -> None:
    """Declares what torchvision needs; call before the first import of torchvision, timm or grad-cam."""
    if _kept or importlib.util.find_spec("torchvision") is None:
        return
    import torch

    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms"):
        return  # the extension loads beside PyPI's own torch, and would end the process if its operators were there
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)
