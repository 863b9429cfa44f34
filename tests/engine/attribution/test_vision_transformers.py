"""Tokens of vision transformers: their grid is known, and what is shown of it is what independent code shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import convscope

from ...torchvision_schemas import declare

declare()
pytest.importorskip("timm")
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

ROWS, COLUMNS = 4, 6
KINDS: dict[str, tuple[dict[str, Any], int, str]] = {
    "class token": ({}, 1, "blocks.1.norm1"),
    "mean of tokens": ({"global_pool": "avg", "class_token": False}, 0, "blocks.1"),
    "registers": ({"reg_tokens": 4, "no_embed_class": True}, 5, "blocks.1.norm1"),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    options, prefix, layer = KINDS[request.param]
    torch.manual_seed(0)
    net = VisionTransformer((32, 48), 8, embed_dim=32, depth=2, num_heads=4, num_classes=5, **options).eval()
    for parameter in net.parameters():  # timm begins with weights so small that every map is flat
        torch.nn.init.normal_(parameter, std=0.3)
    return net, convscope.load(net, size=(32, 48)), prefix, layer


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((2, 3, 32, 48)).astype(np.float32)


def test_every_layer_of_tokens_knows_its_grid_and_its_prefix(kind):
    _, graph, prefix, _ = kind
    for name in ("blocks.0", "blocks.0.norm1", "blocks.0.attn.proj", "blocks.1.mlp.act"):
        layer = graph.layer(name)
        assert (layer.tokens.rows, layer.tokens.columns, layer.tokens.prefix) == (ROWS, COLUMNS, prefix)
        assert layer.channels == (128 if "mlp" in name else 32)


def test_no_tensor_inside_attention_counts_as_a_feature_map(kind):
    _, graph, _, _ = kind
    assert [la.name for la in graph.layers if la.is_spatial] == ["patch_embed.proj"]


@pytest.mark.parametrize("method", ["gradcam", "layercam", "hirescam", "eigengradcam"])
def test_a_cam_of_tokens_is_pytorch_grad_cams_with_its_reshape_transform(kind, x, method):
    grad_cam = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net, graph, prefix, layer = kind
    names = {
        "gradcam": "GradCAM",
        "layercam": "LayerCAM",
        "hirescam": "HiResCAM",
        "eigengradcam": "EigenGradCAM",
    }

    def reshape(tokens):
        return tokens[:, prefix:].reshape(len(tokens), ROWS, COLUMNS, -1).permute(0, 3, 1, 2)

    with getattr(grad_cam, names[method])(net, [net.get_submodule(layer)], reshape_transform=reshape) as cam:
        cam(torch.from_numpy(x), [ClassifierOutputTarget(2)] * 2)
        activations = cam.activations_and_grads.activations[0].numpy()
        gradients = cam.activations_and_grads.gradients[0].numpy()
        theirs = cam.get_cam_image(
            torch.from_numpy(x),
            net.get_submodule(layer),
            [ClassifierOutputTarget(2)] * 2,
            activations,
            gradients,
            False,
        )
    ours = convscope.explain(graph, x, method, target=2, preprocessed=True)
    for found, expected in zip(ours, theirs, strict=True):
        assert found.layers == (layer,)
        assert found.values.shape == (ROWS, COLUMNS)
        sign = np.sign((found.values * expected).sum()) if method == "eigengradcam" else 1
        assert np.abs(found.values - sign * expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "eigencam", "shapleycam"])
def test_the_other_cams_give_a_map_of_the_grid(kind, x, method):
    assert convscope.explain(kind[1], x[:1], method, target=2, preprocessed=True).values.shape == (ROWS, COLUMNS)


def test_activations_of_tokens_are_the_grid_of_a_hook(kind, x):
    net, graph, prefix, _ = kind
    seen = {}
    handle = net.blocks[0].register_forward_hook(lambda module, inputs, output: seen.update(value=output))
    with torch.no_grad():
        net(torch.from_numpy(x))
    handle.remove()
    expected = seen["value"][:, prefix:].reshape(2, ROWS, COLUMNS, 32).permute(0, 3, 1, 2).numpy()
    from convscope.engine.runs.activations import Options, run

    found = run(graph, x, Options(layer="blocks.0", preprocessed=True))["blocks.0"]
    assert np.allclose(found, expected, atol=1e-4)


def test_the_place_of_a_units_largest_value_is_a_place_of_the_grid(kind, x):
    from convscope.engine.activations.reductions import output_name, with_reductions

    graph = kind[1]
    layer = graph.layer("blocks.0.norm1")
    maps = layer.maps(graph.session([layer.tensor]).run(x)[layer.tensor])
    reduced = with_reductions(graph, [layer], ("max", "argmax"))
    import onnxruntime

    session = onnxruntime.InferenceSession(reduced.SerializeToString(), providers=["CPUExecutionProvider"])
    most, place = session.run([output_name(layer, "max"), output_name(layer, "argmax")], {graph.inputs[0].name: x})
    assert np.allclose(most, maps.max(axis=(2, 3)), atol=1e-5)
    assert (place == maps.reshape(2, 32, -1).argmax(axis=2)).all()


def test_a_units_goal_is_the_mean_over_the_grid_alone(kind, x):
    from convscope.engine.ascent.recipe.objectives import channel

    _, graph, prefix, _ = kind
    layer = graph.layer("blocks.0.norm1")
    values = torch.from_numpy(graph.session([layer.tensor]).run(x)[layer.tensor])
    goal = channel(layer, 3)
    assert torch.allclose(goal({layer.tensor: values}), values[:, prefix:, 3].mean(1), atol=1e-5)


def test_a_layer_of_windows_has_no_units_and_swins_blocks_have_all_of_theirs():
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "embed_dim": 32,
        "depths": (2, 1),
        "num_heads": (2, 4),
        "window_size": 4,
        "num_classes": 5,
    }
    graph = convscope.load(SwinTransformer(64, 4, **options).eval(), size=(64, 64))
    for name, units in (("layers.0.blocks.0", 32), ("layers.0.blocks.1", 32), ("layers.1.blocks.0", 64)):
        layer = graph.layer(name)
        assert (layer.channels, layer.channel_axis, layer.is_spatial) == (units, 3, True)
    assert graph.last_spatial_layer().name == "norm"
    sizes = {32, 64, 96, 128, 192, 256, 5}
    assert {la.channels for la in graph.layers if la.has_maps} <= sizes
    places = [(la.name, la.shape) for la in graph.layers if la.has_maps and 4 in la.shape[1:3]]
    assert not places, "windows are no feature maps"


def test_tokens_of_windows_have_no_units_and_a_block_of_them_sees_a_window():
    torch.manual_seed(0)
    options: dict[str, Any] = {"embed_dim": 32, "depths": (1,), "num_heads": (2,), "window_size": 4, "num_classes": 5}
    graph = convscope.load(SwinTransformer(32, 4, **options).eval(), size=(32, 32))
    windows = [la for la in graph.layers if len(la.shape) == 3 and la.shape[1] == 16]
    assert windows and not [la.name for la in windows if la.channels or la.tokens]
    layer = graph.layer("layers.0.blocks.0")
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    found = graph.twin([layer.tensor], device="cpu")({graph.inputs[0].name: x})[layer.tensor]
    found[0, 1, 1].sum().backward()
    seen = torch.nonzero(x.grad.abs().sum((0, 1)))  # a window of 4 x 4 patches of 4 pixels
    assert (seen.amin(0).tolist(), seen.amax(0).tolist()) == ([0, 0], [15, 15])
    assert layer.receptive_field.size == (16, 16)


class _MaskedWindows(torch.nn.Module):
    """Windows with a mask that is made of the picture's size alone, as torchvision's Swin makes it."""

    def __init__(self):
        super().__init__()
        self.conv, self.mix = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Linear(8, 8)
        self.norm, self.head = torch.nn.LayerNorm(8), torch.nn.Linear(8, 5)

    def forward(self, x):
        x = self.conv(x).permute(0, 2, 3, 1)
        count, height, width, channels = x.shape
        windows = (height // 4) * (width // 4)
        rows = x.view(count, height // 4, 4, width // 4, 4, channels).permute(0, 1, 3, 2, 4, 5)
        rows = rows.reshape(count * windows, 16, channels)
        mask = x.new_zeros((height, width)).view(height // 4, 4, width // 4, 4).permute(0, 2, 1, 3).reshape(windows, 16)
        rows = rows.view(rows.size(0) // windows, windows, 16, channels) + mask[None, :, :, None]
        rows = self.mix(rows.view(-1, 16, channels)).view(count, height // 4, width // 4, 4, 4, channels)
        x = rows.permute(0, 1, 3, 2, 4, 5).reshape(count, height, width, channels)
        return self.head(self.norm(x).permute(0, 3, 1, 2).mean((2, 3)))


def test_a_mask_made_of_sizes_does_not_hide_the_channels_of_what_it_is_added_to():
    graph = convscope.load(_MaskedWindows().eval(), example_input=torch.rand(1, 3, 16, 16))
    last = graph.last_spatial_layer()
    assert (last.op, last.shape, last.channel_axis) == ("Transpose", (None, 8, 16, 16), 1)
