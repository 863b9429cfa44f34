"""Regions, chosen boxes, spectra and attention: against ONNX Runtime, and gradients against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import convscope
from convscope.adapters.twin.build import TwinFactory
from convscope.errors import UnsupportedOperator
from tests.single_node import difference, model_of

from .test_converters_matrix import floats, normal, whole


def regions(rng: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """(count, 4) left, top, right, bottom on a map of 9 x 7, partly outside of it, and one without extent."""
    ends = np.sort(rng.uniform(-3, 12, (count, 2, 2)), axis=1).reshape(count, 4) / scale
    ends[-1] = ends[-1, [0, 1, 0, 1]]
    return ends.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    opset=st.sampled_from([10, 16]),
    mode=st.sampled_from(["avg", "max"]),
    points=st.integers(0, 3),
    aligned=st.booleans(),
    scale=st.sampled_from([1.0, 0.5, 0.25]),
)
def test_features_of_regions_are_onnx_runtime_s(
    seed: int, opset: int, mode: str, points: int, aligned: bool, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    inputs = [normal(2, 3, 7, 9, seed=seed), regions(rng, 5, scale), rng.integers(0, 2, 5)]
    attributes: dict[str, Any] = {"mode": mode, "output_height": 3, "output_width": 2}
    attributes |= {"sampling_ratio": points, "spatial_scale": scale}
    if opset >= 16 and not aligned:
        attributes["coordinate_transformation_mode"] = "output_half_pixel"
    assert difference("RoiAlign", inputs, attributes, opset=opset, computed=True) == ""


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), given_inputs=st.integers(3, 5), centred=st.integers(0, 1))
def test_boxes_are_chosen_as_onnx_runtime_chooses_them(seed: int, given_inputs: int, centred: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, scores = rng.random((2, 12, 4), dtype=np.float32), rng.random((2, 3, 12)).round(1).astype(np.float32)
    bounds = [whole(int(rng.integers(0, 6))), floats(float(rng.choice([0, 0.3, 0.6]))), floats(0.2)]
    inputs = [boxes, scores, *bounds][:given_inputs]
    assert difference("NonMaxSuppression", inputs, {"center_point_box": centred}, opset=11, computed=True) == ""


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1.0, 0.5]))
def test_maxima_of_regions_are_onnx_runtime_s(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    picked = np.concatenate([rng.integers(0, 2, (4, 1)), regions(rng, 4, scale)], axis=1).astype(np.float32)
    attributes = {"pooled_shape": [3, 2], "spatial_scale": scale}
    assert difference("MaxRoiPool", [normal(2, 3, 7, 9, seed=seed), picked], attributes, opset=13, computed=True) == ""


SIGNAL, COMPLEX = normal(2, 20, 1), normal(2, 20, 2)
Q, K, V = normal(1, 4, 5, 6), normal(1, 2, 7, 6, seed=1), normal(1, 2, 7, 3, seed=2)
ANGLES = normal(9, 3, seed=3)
PLACES = np.array([[0, 2, 4, 6, 8]])
BOXES = floats(0.5, 1.2, 5.3, 4.1, -1, -1, 2.2, 3.3).reshape(2, 4)

# name -> (operator, inputs, attributes, opset)
FORMS: dict[str, tuple[str, list[np.ndarray | None], dict[str, Any], int]] = {
    "half a spectrum": ("DFT", [SIGNAL], {"axis": 1, "onesided": 1}, 17),
    "a padded spectrum": ("DFT", [COMPLEX, np.array(24)], {"axis": 1}, 17),
    "the way back": ("DFT", [COMPLEX], {"axis": 1, "inverse": 1}, 17),
    "an axis as input": ("DFT", [COMPLEX, None, np.array(1)], {}, 20),
    "frames": ("STFT", [SIGNAL, np.array(4), normal(8), np.array(8)], {}, 17),
    "frames without a window": ("STFT", [SIGNAL, np.array(5), None, np.array(7)], {"onesided": 0}, 17),
    "heads in groups": ("Attention", [Q, K, V], {"scale": 0.3, "softcap": 2.0}, 23),
    "a causal mask": ("Attention", [Q, K, V, normal(5, 7, seed=4)], {"is_causal": 1}, 23),
    "turned pairs": ("RotaryEmbedding", [Q, ANGLES, ANGLES[::-1].copy(), PLACES], {}, 23),
    "turned neighbours": ("RotaryEmbedding", [Q, ANGLES, ANGLES[::-1].copy(), PLACES], {"interleaved": 1}, 23),
    "reversed sequences": ("ReverseSequence", [normal(4, 3, 5), whole(4, 1, 2)], {}, 13),
    "regions, averaged": ("RoiAlign", [Q, BOXES, whole(0, 0)], {"output_height": 2, "output_width": 3}, 16),
    "regions, maxima": ("RoiAlign", [Q, BOXES, whole(0, 0)], {"output_height": 2, "mode": "max"}, 16),
    "whole pixels": ("MaxRoiPool", [Q, np.insert(BOXES, 0, 0, axis=1)], {"pooled_shape": [2, 2]}, 13),
}


@pytest.mark.parametrize("name", FORMS)
def test_values_are_onnx_runtime_s(name: str) -> None:
    op, inputs, attributes, opset = FORMS[name]
    assert difference(op, inputs, attributes, opset=opset, computed=True) == ""


@pytest.mark.parametrize("name", FORMS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    op, inputs, attributes, opset = FORMS[name]
    twin = TwinFactory(model_of(op, inputs, attributes, opset=opset))(("y0",), ("i0",), dtype=torch.float64)
    x = torch.from_numpy(np.asarray(inputs[0])).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: twin(values)["y0"], x, fast_mode=True)


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows_are_onnx_runtime_s(op: str, periodic: int) -> None:
    assert difference(op, [np.array(11)], {"periodic": periodic}, opset=17, computed=True) == ""


@settings(max_examples=20, deadline=None)
@given(bands=st.integers(1, 40), length=st.sampled_from([64, 256, 400]), low=st.sampled_from([0.0, 60.0]))
def test_mel_bands_are_onnx_runtime_s(bands: int, length: int, low: float) -> None:
    inputs = [np.array(bands), np.array(length), np.array(16000), np.array(low, np.float32), np.array(7600, np.float32)]
    assert difference("MelWeightMatrix", inputs, {}, opset=17, computed=True) == ""


def test_a_detector_that_chooses_its_boxes_is_imported_and_the_choice_has_no_gradient() -> None:
    boxes, scores = np.random.default_rng(0).random((1, 6, 4), dtype=np.float32), normal(1, 2, 6)
    graph = convscope.load(model_of("NonMaxSuppression", [scores, boxes], {}, opset=13), check=False)
    assert graph.opaque == {}
    with pytest.raises(UnsupportedOperator, match=r"operator NonMaxSuppression .*has no gradient"):
        graph.require_gradient([graph.outputs[0].name])
