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
        exec(re.sub(rf"^{indent}", "", block, flags=re.MULTILINE), found)
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


def test_a_preset_of_ones_own_makes_pictures_that_do_not_depend_on_company() -> None:
    graph = convscope.load(tiny.small_cnn(), check=False)
    calm = follow("preset.md")["CALM"]
    together = convscope.filters(graph, "conv2", [0, 1, 2], preset=calm, size=24, steps=6)
    alone = convscope.filters(graph, "conv2", 1, preset=calm, size=24, steps=6)
    assert together.preset == "calm"
    assert np.array_equal(together[1].image, alone[0].image)
    assert alone[0].activation_end > alone[0].activation_start


def test_a_format_of_ones_own_is_told_by_content_and_loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from convscope.adapters import formats
    from convscope.errors import RefusedInput

    monkeypatch.setattr(formats, "FORMATS", list(formats.FORMATS))
    follow("format.md")
    weight = np.random.default_rng(0).normal(size=(1, 3, 3, 3)).astype("<f4")
    (tmp_path / "one.bin").write_bytes(b"KRNL" + weight.tobytes())
    graph = convscope.load(tmp_path / "one.bin", trust=True)
    assert (graph.source.format, graph.layers[0].name) == ("kernel", "filter")
    x = np.random.default_rng(1).normal(size=(1, 3, 3, 3)).astype(np.float32)
    (y,) = graph.session([graph.outputs[0].name]).run(x).values()
    np.testing.assert_allclose(y.ravel(), (x * weight).sum(), rtol=1e-4)
    (tmp_path / "short.bin").write_bytes(b"KRNL" + b"\0" * 8)
    with pytest.raises(RefusedInput, match="8 bytes of weights"):
        convscope.load(tmp_path / "short.bin", trust=True)


def test_a_page_of_ones_own_keeps_the_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from convscope.engine.pages import template

    text = (HOW_TO / "page.md").read_text(encoding="utf-8")
    (markup,) = re.findall(r"^   ```html\n(.*?)^   ```", text, flags=re.DOTALL | re.MULTILINE)
    for page in template.TEMPLATES.glob("*.html"):
        (tmp_path / page.name).write_bytes(page.read_bytes())
    (tmp_path / "counted.html").write_text(re.sub(r"^   ", "", markup, flags=re.MULTILINE), encoding="utf-8")
    template._environment.cache_clear()
    monkeypatch.setattr(template, "TEMPLATES", tmp_path)
    try:
        html = follow("page.md")["counted_page"]("</script><b>x", {"dead units": 3.0})
    finally:
        template._environment.cache_clear()
    assert "<b>x" not in html
    assert "dead units" in html
    assert "script-src &#39;sha256-" in html or "script-src 'sha256-" in html
