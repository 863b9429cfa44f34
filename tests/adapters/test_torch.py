"""Torch models: every way in gives the same graph, with the modules' own names."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import convscope
from convscope.adapters.torch.load import example_for, export_torch, load_torch_file
from convscope.engine.executors.session import Session
from convscope.engine.runs import predict
from convscope.errors import RefusedInput, UsageError

ARCH = f"{__file__}:build"


class Block(nn.Module):
    """A residual block that calls one ReLU twice, as ResNet does, and adds functionally."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.relu(self.bn(self.conv(x))) + x)


class Net(nn.Module):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.layer1 = nn.Sequential(Block(6), Block(6))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(torch.flatten(self.pool(self.layer1(self.stem(x))), 1)))


def build() -> nn.Module:
    return Net()


def seeded() -> Net:
    torch.manual_seed(0)
    net = Net().eval()
    for sub in net.modules():
        if isinstance(sub, nn.BatchNorm2d):
            assert sub.running_mean is not None and sub.running_var is not None
            sub.running_mean.uniform_(-0.5, 0.5)
            sub.running_var.uniform_(0.5, 2)
    return net


def outputs(model: object, x: Tensor) -> np.ndarray:
    session = Session(model, device="cpu")  # type: ignore[arg-type]
    return session.run({session.input_names[0]: x.numpy()})[session.output_names[0]]


@pytest.fixture(scope="module")
def net() -> Net:
    return seeded()


@pytest.fixture
def image() -> Tensor:
    return torch.rand((3, 3, 24, 24), generator=torch.Generator().manual_seed(1))


def test_a_live_module_computes_the_same_at_another_batch_size(net: Net, image: Tensor) -> None:
    exported = export_torch(net, image[:1])
    np.testing.assert_allclose(outputs(exported.model, image), net(image).detach().numpy(), atol=1e-5)


def test_modules_name_their_outputs_and_repeated_calls_are_numbered(net: Net, image: Tensor) -> None:
    exported = export_torch(net, image[:1])
    names = set(exported.names.values())
    assert {"stem.0", "stem.1", "stem.2", "layer1.0.conv", "layer1.0.relu", "layer1.0.relu_1", "pool", "fc"} <= names


def test_blocks_are_aliases_of_the_module_that_ends_them(net: Net, image: Tensor) -> None:
    exported = export_torch(net, image[:1])
    by_name = {name: tensor for tensor, name in exported.names.items()}
    assert exported.aliases["stem"] == by_name["stem.2"]
    assert exported.aliases["layer1"] == exported.aliases["layer1.1"] == by_name["layer1.1.relu_1"]


def test_batch_norm_stays_a_layer(net: Net, image: Tensor) -> None:
    exported = export_torch(net, image[:1])
    assert sum(n.op_type == "BatchNormalization" for n in exported.model.graph.node) == 3


def test_the_export_leaves_no_mark_behind(net: Net, image: Tensor) -> None:
    exported = export_torch(net, image[:1])
    assert {n.domain for n in exported.model.graph.node} == {""}
    assert all(o.domain == "" for o in exported.model.opset_import)


def test_mode_hooks_and_weights_of_the_module_are_left_as_they_were(image: Tensor) -> None:
    net = seeded().train()
    net.stem.eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    export_torch(net, image[:1])
    assert net.training and not net.stem.training and net.layer1.training
    assert not any(sub._forward_hooks for sub in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_an_export_that_computes_something_else_is_refused(image: Tensor) -> None:
    class Branching(nn.Module):
        """Python decides by the batch size: a trace keeps one side only."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y * 2 if x.shape[0] == 1 else y

    with pytest.raises(RefusedInput, match="differs from the module's"):
        export_torch(Branching().eval(), image[:1])


@pytest.mark.parametrize("source", ["torch", "numpy", "python", "memory"])
def test_a_module_that_answers_otherwise_each_time_is_refused(image: Tensor, source: str) -> None:
    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.runs = nn.Conv2d(3, 2, 3), 0

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            drawn = {
                "torch": lambda: float(torch.multinomial(torch.ones(9), 1)),
                "numpy": lambda: np.random.rand(),
                "python": random.random,
                "memory": lambda: 0.1 * self.runs,
            }
            return self.conv(x) * (1 + 0.03 * drawn[source]())

    with pytest.raises(RefusedInput, match="gives another answer each time that it runs"):
        export_torch(Restless().eval(), image[:1])


def test_an_input_that_the_module_refuses_is_named_with_its_shape(net: Net) -> None:
    with pytest.raises(RefusedInput, match=r"fails on an input of shape \(1, 1, 8, 8\)"):
        export_torch(net, torch.rand(1, 1, 8, 8))


@pytest.mark.parametrize("nested", ["plain", "checkpoint", "parallel"])
def test_a_state_dict_is_found_wherever_training_left_it(net: Net, image: Tensor, tmp_path: Path, nested: str) -> None:
    state = net.state_dict()
    content = {
        "plain": state,
        "checkpoint": {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        "parallel": {"model": {f"module.{k}": v for k, v in state.items()}},
    }[nested]
    torch.save(content, tmp_path / "weights.bin")
    exported = load_torch_file(tmp_path / "weights.bin", arch=ARCH, size=(24, 24))
    np.testing.assert_allclose(outputs(exported.model, image), net(image).detach().numpy(), atol=1e-5)


def test_safetensors_load_like_a_state_dict(net: Net, image: Tensor, tmp_path: Path) -> None:
    save_file(net.state_dict(), tmp_path / "weights")
    exported = load_torch_file(tmp_path / "weights", arch=ARCH, size=(24, 24))
    np.testing.assert_allclose(outputs(exported.model, image), net(image).detach().numpy(), atol=1e-5)


def test_an_exported_program_loads_with_its_module_paths(net: Net, image: Tensor, tmp_path: Path) -> None:
    program = torch.export.export(net, (image[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "net.pt2")
    exported = load_torch_file(tmp_path / "net.pt2")
    np.testing.assert_allclose(outputs(exported.model, image), net(image).detach().numpy(), atol=1e-5)
    scopes = [p.value for n in exported.model.graph.node for p in n.metadata_props if "name_scopes" in p.key]
    assert any("layer1.0.conv" in scope for scope in scopes)


def test_weights_without_arch_ask_for_it(net: Net, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UsageError, match=r"weights alone .* arch="):
        load_torch_file(tmp_path / "weights.pt")


def test_missing_and_unexpected_weights_are_named_in_one_line(net: Net, tmp_path: Path) -> None:
    state = net.state_dict()
    state["stem.0.bias"] = torch.zeros(6)
    del state["fc.weight"]
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(RefusedInput, match=r"missing 'fc.weight'; unexpected 'stem.0.bias'") as caught:
        load_torch_file(tmp_path / "weights.pt", arch=ARCH)
    assert "\n" not in str(caught.value)


def test_a_weight_of_another_shape_is_named_with_both_shapes(net: Net, tmp_path: Path) -> None:
    torch.save(net.state_dict() | {"fc.bias": torch.zeros(9)}, tmp_path / "weights.pt")
    with pytest.raises(RefusedInput, match=r"'fc.bias' is \(9,\), the network's is \(4,\)"):
        load_torch_file(tmp_path / "weights.pt", arch=ARCH)


def test_weights_of_absent_parts_are_left_out_with_a_note(net: Net, tmp_path: Path) -> None:
    torch.save(net.state_dict() | {"aux.fc.bias": torch.zeros(9)}, tmp_path / "weights.pt")
    exported = load_torch_file(tmp_path / "weights.pt", arch=ARCH, size=(24, 24))
    assert any("aux.fc.bias" in note for note in exported.notes)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("no_such_package:Net", "importing 'no_such_package' failed"),
        (f"{__file__}:nothing", "has no 'nothing'"),
        (f"{__file__}:ARCH", "is not callable"),
        ("nowhere.py:build", "there is no file"),
        (f"{__file__}:Path", "not a torch.nn.Module"),
    ],
)
def test_a_wrong_arch_says_what_is_wrong(net: Net, tmp_path: Path, arch: str, message: str) -> None:
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UsageError, match=message):
        load_torch_file(tmp_path / "weights.pt", arch=arch)


@pytest.mark.parametrize("side", [28, 32, 224])
def test_the_image_size_is_inferred_from_the_head(side: int) -> None:
    head = nn.Linear(2 * (side // 4) ** 2, 3)
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(4), nn.Flatten(), head)
    assert example_for(module).shape == (1, 1, side, side)


def test_a_network_without_convolution_asks_for_an_example() -> None:
    with pytest.raises(RefusedInput, match=r"give load\(example_input=\)"):
        example_for(nn.Sequential(nn.Linear(4, 2)))


def test_timm_names_its_network_and_its_preprocessing(tmp_path: Path) -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    from tests.torchvision_schemas import declare

    declare()
    import timm

    torch.manual_seed(0)
    model: Any = timm.create_model("test_resnet", num_classes=7)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    exported = load_torch_file(tmp_path / "weights.pth", arch="timm:test_resnet")
    assert exported.preprocessing is not None and exported.preprocessing.found == "family"
    assert exported.preprocessing.mean == tuple(model.pretrained_cfg["mean"])
    x = torch.rand(2, 3, 160, 160)
    np.testing.assert_allclose(outputs(exported.model, x), model.eval()(x).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("wrapper", "beside"),
    [
        ("module.", {"n_averaged": torch.tensor(3)}),  # torch.optim.swa_utils.AveragedModel
        ("model.", {"loss.weight": torch.ones(5)}),  # Lightning, with a loss that keeps weights
        ("module._orig_mod.", {}),
        ("student.encoder.", {"teacher.encoder.0.bias": torch.ones(4)}),
    ],
)
def test_a_wrappers_prefix_is_found_beside_names_that_do_not_bear_it(
    wrapper: str, beside: dict[str, torch.Tensor]
) -> None:
    from convscope.adapters.torch.files import fit

    torch.manual_seed(0)
    trained, empty = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)) for _ in range(2))
    state = {wrapper + name: value for name, value in trained.state_dict().items()}
    notes = fit(empty, {**beside, **state}, Path("file.pth"), "net")
    assert all(torch.equal(value, empty.state_dict()[name]) for name, value in trained.state_dict().items())
    assert f"the prefix '{wrapper}' was removed from the weights' names" in notes
    assert not beside or any("left out" in note and next(iter(beside)) in note for note in notes)


def test_sizes_that_differ_are_named_key_by_key() -> None:
    from convscope.adapters.torch.files import fit

    state = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)).state_dict()
    with pytest.raises(RefusedInput) as refusal:
        fit(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)), state, Path("file.pth"), "net")
    assert "'1.weight' is (5, 4, 3, 3), the network's is (6, 4, 3, 3)" in str(refusal.value)
    assert "'1.bias' is (5,), the network's is (6,)" in str(refusal.value)


def test_the_channels_are_those_of_the_convolution_that_is_called_first_not_declared_first() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.stem = nn.Conv2d(16, 4, 1), nn.Conv2d(3, 16, 3)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.head(torch.relu(self.stem(x))).mean((2, 3))
            return found

    assert example_for(Backwards()).shape == (1, 3, 224, 224)


def test_a_network_that_transforms_its_input_before_its_first_convolution_needs_no_example() -> None:
    """As timm's CSATv2, which takes a cosine transform of colour pictures: its convolution has 12 channels here."""

    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(12, 4, 3)
            self.register_buffer("mean", torch.rand(1, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.stem(nn.functional.pixel_unshuffle(x - self.mean, 2)).mean((2, 3))
            return found

    module = Shuffled()
    assert example_for(module).shape == (1, 3, 224, 224)
    assert example_for(module, (64, 48)).shape == (1, 3, 64, 48)


class Reported(nn.Module):
    """The network of the checkpoints that users of neighbouring tools reported (grad-cam#481 and others)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.fc = nn.Conv2d(8, 16, 3, padding=1), nn.Linear(16, 5)

    def maps(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.conv2(nn.functional.relu(self.bn(self.conv(x)), inplace=True)))

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.maps(x).mean((2, 3)))


class ReportedDictionary(Reported):
    """The classifier is the second of two named outputs."""

    def forward(self, x: Tensor) -> Any:
        maps = self.maps(x)
        return {"aux": self.fc(maps.amax((2, 3))), "logits": self.fc(maps.mean((2, 3)))}


class ReportedNested(Reported):
    """The classifier is inside a tuple in a list, between a map and a number."""

    def forward(self, x: Tensor) -> Any:
        maps = self.maps(x)
        return [maps, (self.fc(maps.mean((2, 3))), maps.sum((1, 2, 3)))]


class ReportedNorms(nn.Module):
    """Spectral and weight norm keep a weight as other tensors than ``weight``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.spectral_norm(nn.Conv2d(3, 8, 3, padding=1))
        self.c2, self.fc = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(nn.functional.relu(self.c2(nn.functional.relu(self.conv(x)))).mean((2, 3)))
        return found


class Reader(nn.Module):
    """Columns of a map, read one after another: the LSTM gives states beside its output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn, self.fc = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.LSTM(4, 5, bidirectional=True),
            nn.Linear(10, 7),
        )

    def forward(self, x: Tensor) -> Tensor:
        columns, _ = self.rnn(self.conv(x).mean(2).permute(2, 0, 1))
        found: Tensor = self.fc(columns)
        return found


def test_a_recurrent_layer_bears_its_own_name_and_not_that_of_what_follows() -> None:
    graph = convscope.load(Reader().eval(), example_input=torch.rand(1, 1, 8, 16), check=False)
    assert {"conv", "rnn", "fc"} <= {layer.name for layer in graph.layers}
    (lstm,) = (layer for layer in graph.layers if layer.op == "LSTM")
    assert lstm.name.startswith("rnn/")
    assert graph.layer("rnn").tensor in graph.index.descendants([lstm.tensor])


ARCHITECTURES = """
import torch
from torch import nn


def of_classes(**options):
    head = nn.Linear(4, options.get("num_classes", 9))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def fixed():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 9))
"""
NEEDS_TORCHVISION = """
import torch
from torch import nn

if not hasattr(torch.ops.torchvision, "nms"):  # as torchvision itself, where its compiled part does not load
    raise RuntimeError("operator torchvision::nms does not exist")


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3))
"""


def test_a_network_is_built_with_the_files_number_of_classes_where_its_code_takes_one(tmp_path: Path) -> None:
    (tmp_path / "arch.py").write_text(ARCHITECTURES)
    trained = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    torch.save({f"module.{name}": value for name, value in trained.state_dict().items()}, tmp_path / "two.pth")
    exported = load_torch_file(tmp_path / "two.pth", arch=f"{tmp_path}/arch.py:of_classes", size=(8, 8))
    x = torch.rand(1, 3, 8, 8)
    np.testing.assert_allclose(outputs(exported.model, x), trained(x).detach().numpy(), atol=1e-5)
    with pytest.raises(RefusedInput, match=r"'3.weight' is \(2, 4\), the network's is \(9, 4\)"):
        load_torch_file(tmp_path / "two.pth", arch=f"{tmp_path}/arch.py:fixed", size=(8, 8))


def test_names_of_another_library_are_said_to_be_such(tmp_path: Path) -> None:
    (tmp_path / "arch.py").write_text(ARCHITECTURES)
    torch.save({"stem.kernel": torch.ones(4, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(RefusedInput, match=r"no name is the same.*arch=torchvision\.models:NAME"):
        load_torch_file(tmp_path / "other.pth", arch=f"{tmp_path}/arch.py:fixed")


@pytest.mark.skipif(torch.version.cuda is not None, reason="torchvision's compiled part may load and declare them")
def test_code_that_imports_torchvision_builds_where_its_operators_do_not_load(tmp_path: Path) -> None:
    (tmp_path / "arch.py").write_text(NEEDS_TORCHVISION)
    torch.save({"0.weight": torch.ones(4, 3, 3, 3), "0.bias": torch.zeros(4)}, tmp_path / "net.pth")
    assert load_torch_file(tmp_path / "net.pth", arch=f"{tmp_path}/arch.py:net", size=(8, 8)).names


def averaged(state: dict[str, Tensor]) -> dict[str, Any]:
    """As torch.optim.swa_utils.AveragedModel saves it."""
    return {"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in state.items()}}


def lightning(state: dict[str, Tensor]) -> dict[str, Any]:
    """As Lightning saves a module whose loss keeps a buffer."""
    inner = {f"model.{name}": value for name, value in state.items()}
    return {"state_dict": {**inner, "criterion.pos_weight": torch.ones(5)}, "epoch": 3, "optimizer_states": []}


@pytest.mark.parametrize(
    ("network", "saved", "notes"),
    [
        (Reported, dict, ()),
        (Reported, averaged, ("the prefix 'module.' was removed", "'n_averaged'")),
        (Reported, lightning, ("taken from 'state_dict'", "the prefix 'model.'", "'criterion.pos_weight'")),
        (ReportedDictionary, dict, ()),
        (ReportedNested, dict, ()),
        (ReportedNorms, dict, ()),
    ],
)
def test_checkpoints_of_users_load_and_say_what_the_trained_network_says(
    network: type[nn.Module], saved: Any, notes: tuple[str, ...], tmp_path: Path
) -> None:
    """The right class scores are those of the network with its own weights, asked by torch."""
    torch.manual_seed(5)
    trained = network()
    trained(torch.rand(4, 3, 32, 32))  # batch statistics, and spectral norm's own vectors
    trained.eval()
    torch.save(saved(trained.state_dict()), tmp_path / "weights.ckpt")
    graph = convscope.load(tmp_path / "weights.ckpt", arch=f"{__file__}:{network.__name__}", size=32)
    said = " ".join(graph.source.notes)
    assert all(note in said for note in notes), said
    picture = np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)
    asked = "logits" if network is ReportedDictionary else None  # of two outputs of one form the first is read
    options = predict.Options(top=5, decoder="softmax", output=asked)
    found = predict.run(graph, picture, options).content["images"][0]["predictions"]
    with torch.no_grad():
        output = trained(torch.from_numpy(picture.transpose(2, 0, 1)[None]))
    scores = output["logits"] if isinstance(output, dict) else output[1][0] if isinstance(output, list) else output
    expected = {i: float(value) for i, value in enumerate(scores[0])}
    assert {row["index"]: pytest.approx(row["logit"], abs=1e-4) for row in found} == expected
