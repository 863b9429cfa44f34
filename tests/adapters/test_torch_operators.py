"""Which operators a ``.pt2`` file may call: what the layers of networks export to, before and after decomposition."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.adapters.torch.pt2 import _check_operator, _check_size, export_archive
from convscope.errors import UnsafeFile

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch by torch
PATH = Path("model.pt2")


def convolved(x: Tensor) -> Tensor:
    return F.conv_transpose2d(F.conv2d(x, x.new_ones(4, 4, 3, 3)), x.new_ones(4, 2, 2, 2))


def normed(x: Tensor) -> Tensor:
    return F.layer_norm(F.instance_norm(F.group_norm(x, 2)), (8,)) + F.rms_norm(x, (8,)) + F.normalize(x)


def gated(x: Tensor) -> Tensor:
    return F.glu(F.hardswish(F.gelu(F.mish(F.silu(F.relu6(x))), approximate="tanh")), 1)


def in_place(x: Tensor) -> Tensor:
    return F.hardtanh_(x.clone().add_(1).mul_(2).clamp_(0, 1).relu_())


def pooled(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(F.max_pool2d(F.avg_pool2d(x, 2), 2), 1) + F.adaptive_max_pool2d(x, 1)


def resized(x: Tensor) -> Tensor:
    return F.pixel_shuffle(F.interpolate(x, scale_factor=2, mode="bilinear"), 2)[..., ::2].flip(1)


def attended(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x).transpose(1, 2).flatten(2)


def windowed(x: Tensor) -> Tensor:
    return F.unfold(F.pad(torch.roll(x, (1, 1), (2, 3)), (1, 1, 1, 1), mode="reflect"), 3)


def chosen(x: Tensor) -> tuple[Tensor, ...]:
    return torch.where(x > 0, x.topk(2)[0].mean(-1, True), x.cumsum(1)).chunk(2, 1)


def spectral(x: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(x) * 2)


def multiplied(x: Tensor) -> Tensor:
    return torch.einsum("bcij,bckj->bcik", x, x) @ x / x.std()


EVERY = (
    convolved, normed, gated, in_place, pooled, resized, attended, windowed, chosen, spectral, multiplied,
)  # fmt: skip


def parametrized() -> list[nn.Module]:
    """Convolutions and dense layers whose weights are computed from others."""
    made = nn.utils.parametrizations
    maps = ("matrix_exp", "cayley", "householder")
    dense = [made.orthogonal(nn.Linear(8, 8), orthogonal_map=name) for name in maps]
    return [made.weight_norm(nn.Conv2d(4, 4, 3)), made.spectral_norm(nn.Conv2d(4, 4, 3)), *dense, nn.RReLU()]


class All(nn.Module):
    """Each of the functions, and each of the layers, on the same picture."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(parametrized())

    def forward(self, x: Tensor) -> Any:
        return [function(x) for function in (*EVERY, *self.layers)]


def called(program: Any) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize("prepare", [lambda p: p, lambda p: p.run_decompositions()], ids=["as it is", "decomposed"])
def test_what_the_layers_of_networks_export_to_may_be_called(prepare: Callable[[Any], Any]) -> None:
    names = {
        name for name in called(prepare(torch.export.export(All().eval(), (torch.rand(1, 4, 8, 8),)))) if "aten" in name
    }
    assert len(names) > 40
    for name in names:
        _check_operator(f"torch.ops.{name}", PATH)


LARGE = (
    "col2im", "max_unpool2d", "adaptive_avg_pool2d", "conv_transpose2d", "affine_grid_generator", "fft_rfft2", "istft",
    "hann_window", "bincount", "histc", "nonzero_static",
)  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_what_a_call_makes_out_of_numbers_is_bounded(name: str) -> None:
    for sizes, is_absurd in (([7, 7], False), ([2**20, 2**20], True)):
        call = {"target": f"torch.ops.aten.{name}.default", "inputs": [{"arg": {"as_ints": sizes}}]}
        with pytest.raises(UnsafeFile, match="absurd size") if is_absurd else contextlib.nullcontext():
            _check_size(call, PATH)


class Branching(nn.Module):
    """A branch, a weight that is normalized, and a loss as an output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.cond(x.sum() > 0, lambda z: z * 2, lambda z: z - 1, (self.conv(x),))
        return y.mean((2, 3)), F.mse_loss(y, y * 2)


def test_a_program_with_a_branch_is_imported_and_the_operators_in_it_are_looked_at(tmp_path: Path) -> None:
    program = torch.export.export(Branching().eval().requires_grad_(False), (torch.rand(1, 3, 8, 8),))
    torch.export.save(program, tmp_path / "net.pt2")
    assert export_archive(tmp_path / "net.pt2").model.graph.node
    with zipfile.ZipFile(tmp_path / "net.pt2") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "edited.pt2", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data.replace(b"aten.sub.Tensor", b"aten.rand_like.x"))
    with pytest.raises(UnsafeFile, match="rand_like"):
        export_archive(tmp_path / "edited.pt2")


UNLISTED = (
    "resize_.default", "set_.source_Tensor", "from_file.default", "_print.default", "rand.default", "bernoulli.p",
    "record_stream.default", "_foreach_add.List", "to_sparse.default", "_nested_tensor_from_mask.default",
)  # fmt: skip


@pytest.mark.parametrize("name", UNLISTED)
def test_what_is_in_no_network_may_not_be_called(name: str) -> None:
    packet, overload = name.split(".")
    assert getattr(getattr(torch.ops.aten, packet), overload)  # torch has it
    with pytest.raises(UnsafeFile, match="none of the operators that networks are made of"):
        _check_operator(f"torch.ops.aten.{name}", PATH)
