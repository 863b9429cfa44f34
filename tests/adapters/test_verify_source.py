"""The comparison with the source file, whichever input is the picture and whatever type the file computes in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from convscope.adapters import formats
from convscope.adapters.check import random_inputs
from convscope.adapters.load import load, load_here
from convscope.adapters.source import MAX_REL, Compared, source_difference
from convscope.adapters.verify import verify

SIDE = 12
Dims = list[int | str]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def file(
    folder: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    before: dict[str, Dims] | None = None,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """A file whose picture 'x' follows other inputs; its output is 'y'."""
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, dims) for n, dims in (before or {}).items()]
    infos.append(helper.make_tensor_value_info("x", kind, ["N", 3, SIDE, SIDE]))
    graph = helper.make_graph(
        nodes,
        "g",
        infos,
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def compared(path: Path) -> Compared:
    graph = load_here(path, check=False)
    return source_difference(graph, random_inputs(graph, (SIDE, SIDE), 2, 0))


def test_a_number_before_the_picture_and_a_state_of_two_rows_leave_the_batch_the_picture_s(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["c"])
    weights = {"w": normal(4, 3, 3, 3)}
    scaled = file(tmp_path, [conv, helper.make_node("Mul", ["c", "s"], ["y"])], weights, {"s": []})
    assert compared(scaled)[:2] == (pytest.approx(0, abs=1e-5), 2)
    recurrent = [
        conv,
        helper.make_node("ReduceMean", ["c"], ["r"], axes=[2], keepdims=0),
        helper.make_node("Transpose", ["r"], ["t"], perm=[2, 0, 1]),
        helper.make_node(
            "RNN", ["t", "W", "R", "", "", "h0"], ["Y", "y"], hidden_size=4, direction="bidirectional"
        ),
    ]  # fmt: skip
    weights |= {"W": normal(2, 4, 4), "R": normal(2, 4, 4)}
    difference, tensors, *_ = compared(file(tmp_path, recurrent, weights, {"h0": [2, 1, 4]}))
    assert tensors == 5
    assert difference == pytest.approx(0, abs=1e-5)


def halves(folder: Path, kind: int, shift: float = 0.0) -> Path:
    """A convolution behind a cast to a type of 16 bits; the file's own bias is off by ``shift``."""
    nodes = [
        helper.make_node("Cast", ["x"], ["coarse"], to=kind),
        helper.make_node("Cast", ["coarse"], ["fine"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["fine", "w", "b"], ["y"]),
    ]
    return file(folder, nodes, {"w": normal(4, 3, 3, 3), "b": np.full(4, shift, np.float32)})


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_a_file_of_16_bits_is_judged_by_what_its_own_rounding_does(kind: int, tmp_path: Path) -> None:
    difference, _, bound, *_ = compared(halves(tmp_path, kind))
    assert difference is not None and 0 < difference <= bound
    assert MAX_REL < bound <= 0.05


def test_a_wrong_bias_is_seen_through_the_rounding_of_16_bits(tmp_path: Path) -> None:
    graph = load_here(halves(tmp_path, TensorProto.BFLOAT16), check=False)
    halves(tmp_path, TensorProto.BFLOAT16, shift=2.0)  # the file is another now
    difference, _, bound, *_ = source_difference(graph, random_inputs(graph, (SIDE, SIDE), 1, 0))
    assert difference is not None and difference > bound


def test_a_file_in_double_is_not_compared_where_the_runtime_has_no_convolution_in_it(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    path = file(tmp_path, [conv], {"w": normal(4, 3, 3, 3).astype(np.float64)}, kind=TensorProto.DOUBLE)
    found = verify(load_here(path, check=False))
    assert found.ok and found.source_rel is None and found.source_tensors == 0
    assert any("source" in line and "not compared" in line for line in found.lines)


class Net(nn.Module):
    """A picture, and a number beside it where it is asked for."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.conv(x).relu()
        return features.mean((2, 3)), features


def archive(path: Path, seed: int, batch: int | None = None) -> Path:
    """A ``.pt2`` whose batch is fixed, or open."""
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    torch.export.save(
        torch.export.export(Net(seed).eval(), (torch.rand(batch or 2, 3, SIDE, SIDE),), dynamic_shapes=shapes), path
    )
    return path


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_the_program_of_a_pt2_is_run_behind_the_wall_and_compared(
    tmp_path: Path, batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = load(archive(tmp_path / "net.pt2", 0, batch), check=False)
    feeds = random_inputs(graph, (SIDE, SIDE), 2, 0)
    monkeypatch.setattr(formats, "format_of", lambda path: pytest.fail("read in this process"))
    found = source_difference(graph, feeds)
    assert found.rel == pytest.approx(0, abs=1e-5)
    assert found[1:] == (2, MAX_REL, None, "torch.export's program")
    archive(tmp_path / "net.pt2", 1, batch)  # another network in its place
    assert (source_difference(graph, feeds).rel or 0) > 0.1


def test_why_the_source_is_not_compared_is_said(tmp_path: Path) -> None:
    live = load_here(Net(0), example_input=torch.rand(1, 3, SIDE, SIDE), check=False)
    found = verify(live, batch=1)
    assert found.ok and found.source_rel is None and "there is no file" in str(found.source_reason)
    assert any(line.startswith("source") and "there is no file" in line for line in found.lines)


def test_weights_are_compared_with_the_module_that_arch_builds(tmp_path: Path) -> None:
    torch.save(Net(0).state_dict(), path := tmp_path / "weights.pt")
    arch = f"{__file__}:built"
    graph = load(path, arch=arch, check=False)
    feeds = random_inputs(graph, (SIDE, SIDE), 1, 0)
    found = source_difference(graph, feeds)
    assert found.rel == pytest.approx(0, abs=1e-5) and found[1:] == (2, MAX_REL, None, arch)
    torch.save(Net(1).state_dict(), path)  # other weights in their place
    assert (source_difference(graph, feeds).rel or 0) > 0.1


def test_what_is_said_of_a_file_that_does_not_concern_it_is_said_to_be_of_no_use(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.pt2", 0)
    graph = load(path, arch="nowhere:built", trust=True, example_input=torch.rand(1, 3, 4, 4), check=False)
    told = " ".join(graph.source.notes)
    for words in ("trust= is of no use", "example_input= is of no use", "arch=nowhere:built is not used"):
        assert words in told
    assert not graph.source.trusted
    live = load(Net(0), example_input=torch.rand(1, 3, SIDE, SIDE), max_memory=2, trust=True, check=False)
    told = " ".join(live.source.notes)
    assert "max_memory= has no effect: a live object" in told and "trust= is of no use" in told
    assert "example_input" not in told


def built() -> nn.Module:
    """What `test_why_the_source_is_not_compared_is_said` names as the code."""
    return Net(0)


@pytest.mark.parametrize(("shift", "right"), [(0.003, True), (0.05, False)])
def test_a_quantized_file_may_part_by_a_step_of_8_bits_and_no_more(shift: float, right: bool, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    weights = {"w": normal(4, 3, 3, 3), "s": np.array(0.02, np.float32), "z": np.array(0, np.int8)}
    graph = load_here(file(tmp_path, nodes, weights), check=False)
    file(tmp_path, nodes, {**weights, "w": weights["w"] * np.float32(1 + shift)})  # as if imported a little wrong
    difference, _, bound, *_ = source_difference(graph, random_inputs(graph, (SIDE, SIDE), 2, 0))
    assert difference is not None and difference > MAX_REL
    assert (difference <= bound) == right


class _Number(nn.Module):
    """One number for each picture, whose axis torch's squeeze() drops for a picture alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.head(self.conv(x).relu().mean((2, 3))).squeeze())


def test_a_number_that_has_no_axis_for_one_picture_is_the_same_in_a_batch() -> None:
    found = verify(load(_Number().eval(), example_input=torch.zeros(1, 3, SIDE, SIDE), check=False))
    assert found.ok and found.batch_rel < 1e-5
