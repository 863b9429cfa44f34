"""Every how-to, followed from outside the package: the code that it shows is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convscope
from convscope.engine.attribution import METHODS, explain, find_methods
from convscope.errors import UsageError
from tests import tiny

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"


def follow(name: str) -> dict[str, Any]:
    """Runs the Python blocks of a how-to, in their order; gives what they define."""
    text = (HOW_TO / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^( *)```python\n(.*?)^\1```", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks, f"{name} shows no code"
    found: dict[str, Any] = {"__name__": f"how_to_{Path(name).stem}"}
    for indent, block in blocks:
        exec(re.sub(rf"^{indent}", "", block, flags=re.MULTILINE), found)  # noqa: S102
    return found


def test_a_declared_cam_is_a_method_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_declared", dict(METHODS._declared))
    formula = follow("cam.md")["positive_cam"]
    graph = convscope.load(tiny.small_cnn(), check=False)
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    (method,) = find_methods("positivecam")
    assert method.options == ("power",)
    assert method in find_methods("all")
    found = explain(graph, x, "positivecam", 1, preprocessed=True, power=2.0)
    (layer,) = found[0].layers
    from convscope.engine.attribution import Batch, Executors
    from convscope.engine.attribution.capture import capture

    expected = formula(*capture(Batch(Executors(graph), x), [f.target for f in found], graph.layer(layer)), power=2.0)
    np.testing.assert_allclose([f.values for f in found], expected.numpy(), rtol=1e-5)
    with pytest.raises(UsageError, match="option power=x"):
        explain(graph, x, "positivecam", 1, preprocessed=True, power="x")


def test_a_converter_of_ones_own_is_used_by_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from onnx import helper

    from convscope.adapters.twin import converters
    from convscope.adapters.twin.build import TwinFactory

    monkeypatch.setitem(converters.CONVERTERS, ("example.wobble", "Wobble"), None)  # and so taken out again
    own = follow("converter.md")
    assert own["CONVERTERS"]["example.wobble", "Wobble"] is own["wobble"]
    node = helper.make_node("Wobble", ["x"], ["y"], domain="example.wobble", gain=2.0)
    model = tiny.model([node], {}, ("N", 3, 4, 4))
    model.opset_import.append(helper.make_opsetid("example.wobble", 1))
    twin = TwinFactory(model)(("y",), ("x",))
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(twin(x)["y"], 2 * torch.sin(x))
