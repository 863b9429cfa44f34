"""A network beside its own quantized form: the layers find each other, and rounding is told from other differences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

import convscope
from tests import tiny


class Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Random ones of the small network."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._left: Iterator[dict[str, Any]] = iter(
            [{"x": rng.random((1, 3, 16, 16), dtype=np.float32)} for _ in range(4)]
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next batch of one."""
        return next(self._left, None)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    onnx.save(tiny.small_cnn(), path)
    return path


def quantized(plain: Path, how: str) -> Path:
    path = plain.with_name(f"{how}.onnx")
    if how == "dynamic":
        quantize_dynamic(plain, path)
    else:
        quantize_static(plain, path, Pictures(), quant_format=QuantFormat.QDQ, per_channel=how == "channels")
    return path


@pytest.mark.parametrize("how", ["layers", "channels", "dynamic"])
def test_a_network_and_its_quantized_form_are_paired_and_the_rounding_is_named(plain: Path, how: str) -> None:
    a, b = convscope.load(plain, check=False), convscope.load(quantized(plain, how), check=False)
    for one, two, where in ((a, b, "B"), (b, a, "A")):
        found = convscope.compare(one, two)
        trained = [layer for layer in a.layers if layer.op in ("Conv", "Gemm")]
        anchors = [pair for pair in found.pairs if pair.a.is_anchor]
        assert len(anchors) == len(trained) and not found.only_a and not found.only_b
        texts = [cause.text for cause in found.first_difference.causes] if found.first_difference else []
        assert any(text.startswith(f"the weights of {where} are the other's rounded to ") for text in texts), texts
        assert any(f"int8 in {where}" in text and "is rounded to" in text for text in texts), texts
        assert not any("no counterpart" in text for text in texts)


def test_weights_that_rounding_does_not_explain_are_counted(plain: Path) -> None:
    model = onnx.load(quantized(plain, "layers"))
    stored = next(t for t in model.graph.initializer if t.name.endswith("_quantized") and len(t.dims) == 4)
    values = numpy_helper.to_array(stored).copy()
    values.reshape(-1)[:5] = np.where(values.reshape(-1)[:5] > 0, -100, 100)
    stored.CopyFrom(numpy_helper.from_array(values, stored.name))
    found = convscope.compare(convscope.load(plain, check=False), convscope.load(model, check=False))
    assert found.first_difference is not None
    assert any(f"but for 5 of {values.size}" in cause.text for cause in found.first_difference.causes)
