"""Receptive fields: for every position of every layer, the extent of the gradient and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

import convscope
from convscope.adapters.layers.fields import RULES, FieldTracker
from convscope.adapters.normalize.draft import Draft
from convscope.adapters.wall.wire import decode_graph, encode_graph
from convscope.engine.executors.session import Session
from convscope.engine.graph.layers import ReceptiveField
from convscope.engine.graph.operators import names
from tests import tiny

Box = tuple[int, int, int, int]


class Chain:
    """A model in the making: operators in a row on a feature map (1, C, H, W)."""

    def __init__(self, channels: int = 1, size: tuple[int, int] = (17, 14)) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.channels: dict[str, int] = {}
        self.tensor, self.shape, self.input = "x", [1, channels, *size], [1, channels, *size]

    def constant(self, value: object, kind: type = np.int64) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(value, kind)
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        self.tensor = names[0]
        return names

    def graph(self, opset: int = 19) -> convscope.Graph:
        model = tiny.model(self.nodes, self.weights, self.input, (self.tensor,), opset=opset)
        return convscope.load(model, check=False, layout="NCHW")


def extents(graph: convscope.Graph, layer: convscope.Layer, row: int, column: int) -> tuple[Box, Box] | None:
    """(what surely has a gradient, what has any at all), of one position of a layer; None where nothing has."""
    torch.manual_seed(0)
    shape = [1, *graph.inputs[0].shape[1:]]
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    value = graph.twin([layer.tensor], dtype=torch.float64, fold=False).only(x)
    axes = [a for a in (1, 2, 3) if a != layer.channel_axis]
    (gradient,) = torch.autograd.grad(value.select(axes[1], column).select(axes[0], row).sum(), x)
    size = gradient[0].abs().sum(0)
    if not size.any():
        return None
    return _hull(size > 1e-6 * size.max()), _hull(size > 0)


def _hull(mask: torch.Tensor) -> Box:
    rows, columns = torch.nonzero(mask, as_tuple=True)
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


def check(graph: convscope.Graph, layer: convscope.Layer, places: int = 5) -> None:
    rows, columns = (s or 1 for a, s in enumerate(layer.shape) if a not in (0, layer.channel_axis))
    height, width = graph.image_size
    rng = np.random.default_rng(rows * columns)
    spots = {(0, 0), (rows - 1, columns - 1), *map(tuple, rng.integers((rows, columns), size=(places, 2)))}
    assert layer.receptive_field is not None
    for row, column in spots:
        found = extents(graph, layer, int(row), int(column))
        if found is None:
            continue
        box = layer.receptive_field.box(int(row), int(column)) or (0, 0, height, width)
        box = (max(box[0], 0), max(box[1], 0), min(box[2], height), min(box[3], width))
        sure, any_at_all = found
        assert box[0] <= sure[0] and box[1] <= sure[1] and box[2] >= sure[2] and box[3] >= sure[3], (layer, row, column)
        assert box[0] >= any_at_all[0] and box[1] >= any_at_all[1], (layer, row, column, box, any_at_all)
        assert box[2] <= any_at_all[2] and box[3] <= any_at_all[3], (layer, row, column, box, any_at_all)


Move = Callable[[Chain, st.DataObject], None]


def convolve(chain: Chain, data: st.DataObject) -> None:
    kernel = [data.draw(st.integers(1, 3)) for _ in range(2)]
    options: dict[str, Any] = {
        "strides": [data.draw(st.integers(1, 2)) for _ in range(2)],
        "dilations": [data.draw(st.integers(1, 2)) for _ in range(2)],
        "pads": [data.draw(st.integers(0, 2)) for _ in range(4)],
    }
    weight = chain.constant(np.ones((2, chain.shape[1], *kernel)), np.float32)
    chain.add("Conv", chain.tensor, weight, **options)


def convolve_same(chain: Chain, data: st.DataObject) -> None:
    kernel = data.draw(st.integers(2, 4))
    weight = chain.constant(np.ones((chain.shape[1], 1, kernel, kernel)), np.float32)
    auto = data.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    chain.add("Conv", chain.tensor, weight, strides=[2, 2], auto_pad=auto, group=chain.shape[1])


def pool(chain: Chain, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, 3))
    chain.add(
        "AveragePool", chain.tensor, kernel_shape=[3, 2], strides=[step, 2], pads=[1, 0, 1, 1],
        ceil_mode=data.draw(st.integers(0, 1)), count_include_pad=1,
    )  # fmt: skip


def transpose_convolve(chain: Chain, data: st.DataObject) -> None:
    kernel, step = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    pads = [data.draw(st.integers(0, (kernel - 1) // 2)) for _ in range(4)]
    weight = chain.constant(np.ones((chain.shape[1], 1, kernel, kernel)), np.float32)
    options: dict[str, Any] = {"pads": pads}
    if data.draw(st.booleans()):
        options = {"auto_pad": "SAME_UPPER"}
    elif step > 1:
        options["output_padding"] = [1, 0]
    chain.add("ConvTranspose", chain.tensor, weight, strides=[step, step], **options)


def resize(chain: Chain, data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    transform = data.draw(st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]))
    options: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transform}
    if mode == "nearest":
        rounding = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]
        options["nearest_mode"] = data.draw(st.sampled_from(rounding))
    elif data.draw(st.booleans()):
        options["antialias"] = 1
    scales = [1.0, 1.0, *(data.draw(st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0, 2.5])) for _ in range(2))]
    chain.add("Resize", chain.tensor, "", chain.constant(scales, np.float32), **options)


def pad(chain: Chain, data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(["constant", "reflect", "edge", "wrap"]))
    amounts = [data.draw(st.integers(-1 if mode == "constant" else 0, 2)) for _ in range(4)]
    chain.add("Pad", chain.tensor, chain.constant([0, 0, *amounts[:2], 0, 0, *amounts[2:]]), mode=mode)


def cut(chain: Chain, data: st.DataObject) -> None:
    axis, step = data.draw(st.sampled_from([2, 3])), data.draw(st.sampled_from([-2, -1, 1, 2]))
    start, end = (data.draw(st.integers(0, 1)), 2**31) if step > 0 else (-1 - data.draw(st.integers(0, 1)), -(2**31))
    values = ([start], [end], [axis], [step])
    chain.add("Slice", chain.tensor, *(chain.constant(v) for v in values))


def focus(chain: Chain, data: st.DataObject) -> None:
    """The stem of YOLOv5 and YOLOX: every second pixel, four times, behind one another."""
    sides = [s // 2 * 2 for s in chain.shape[2:]]
    source, parts = chain.tensor, []
    for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
        values = ([row, column], sides, [2, 3], [2, 2])
        parts += chain.add("Slice", source, *(chain.constant(v) for v in values))
    chain.add("Concat", *parts, axis=1)


def roll(chain: Chain, data: st.DataObject) -> None:
    axis = data.draw(st.sampled_from([2, 3]))
    first = data.draw(st.integers(1, chain.shape[axis] - 1))
    sizes = chain.constant([first, chain.shape[axis] - first])
    head, tail = chain.add("Split", chain.tensor, sizes, axis=axis, outputs=2)
    chain.add("Concat", tail, head, axis=axis)


def swap(chain: Chain, data: st.DataObject) -> None:
    chain.add("Transpose", chain.tensor, perm=[0, 1, 3, 2])


def pick(chain: Chain, data: st.DataObject) -> None:
    axis = data.draw(st.sampled_from([2, 3]))
    places = st.lists(st.integers(-chain.shape[axis], chain.shape[axis] - 1), min_size=2, max_size=5)
    chain.add("Gather", chain.tensor, chain.constant(data.draw(places)), axis=axis)


def blocks(chain: Chain, data: st.DataObject) -> None:
    sides = chain.constant([s // 2 * 2 for s in chain.shape[2:]])
    chain.add("CenterCropPad", chain.tensor, sides, axes=[2, 3])
    chain.add("SpaceToDepth", chain.tensor, blocksize=2)
    if data.draw(st.booleans()):
        chain.add("DepthToSpace", chain.tensor, blocksize=2, mode=data.draw(st.sampled_from(["DCR", "CRD"])))


def flatten_and_back(chain: Chain, data: st.DataObject) -> None:
    """As tokens, and back in another shape: the order of values in memory decides."""
    _, channels, rows, columns = chain.shape
    chain.add("Reshape", chain.tensor, chain.constant([0, channels, rows * columns]))
    chain.add("Transpose", chain.tensor, perm=[0, 2, 1])
    chain.add("Transpose", chain.tensor, perm=[0, 2, 1])
    chain.add("Reshape", chain.tensor, chain.constant([0, channels, columns, rows]))


def tile(chain: Chain, data: st.DataObject) -> None:
    chain.add("Tile", chain.tensor, chain.constant([1, 1, data.draw(st.integers(1, 2)), 2]))


def accumulate(chain: Chain, data: st.DataObject) -> None:
    options = {name: data.draw(st.integers(0, 1)) for name in ("reverse", "exclusive")}
    chain.add("CumSum", chain.tensor, chain.constant(data.draw(st.sampled_from([2, 3]))), **options)


def strip_mean(chain: Chain, data: st.DataObject) -> None:
    source = chain.tensor
    (mean,) = chain.add("ReduceMean", source, chain.constant([data.draw(st.sampled_from([2, 3]))]))
    chain.add("Mul", source, mean)


MOVES: list[Move] = [
    convolve, convolve_same, pool, transpose_convolve, resize, pad, cut, focus, roll, swap, pick, blocks,
    flatten_and_back, tile, accumulate, strip_mean,
]  # fmt: skip


def _grow(chain: Chain, move: Move, data: st.DataObject) -> bool:
    """One move more, if the feature map is still one; its new shape."""
    kept = list(chain.nodes), dict(chain.weights), chain.tensor, chain.shape
    move(chain, data)
    model = tiny.model(chain.nodes, chain.weights, chain.input, (chain.tensor,), opset=19)
    try:
        shapes = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        dims = [d.dim_value for d in shapes.graph.output[0].type.tensor_type.shape.dim]
    except Exception:
        dims = []
    if dims != _real_shape(model):  # shape inference and ONNX Runtime part over ceil_mode
        dims = []
    if len(dims) == 4 and min(dims) > 0 and min(dims[2:]) > 2 and max(dims[2:]) < 50 and dims[1] < 9:
        chain.shape = dims
        return True
    chain.nodes, chain.weights, chain.tensor, chain.shape = kept
    return False


def _real_shape(model: onnx.ModelProto) -> list[int]:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    try:
        return list(next(iter(Session(model, device="cpu").run(np.zeros(shape, np.float32)).values())).shape)
    except convscope.RefusedInput:
        return []


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data())
def test_behind_any_chain_of_moves_a_field_is_the_extent_of_the_gradient(data: st.DataObject) -> None:
    chain = Chain()
    chained = [m for m in MOVES if m is not strip_mean]  # two of them make a number of the whole picture, a gate
    for move in data.draw(st.lists(st.sampled_from(chained), min_size=2, max_size=5)):
        _grow(chain, move, data)
    if not chain.nodes:
        return
    graph = chain.graph()
    assert not any("not known" in note for note in graph.source.notes)
    check(graph, graph.layers[-1])


@pytest.mark.parametrize("move", MOVES, ids=lambda m: m.__name__)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_every_move_by_itself_is_exact_behind_and_before_a_convolution(move: Move, data: st.DataObject) -> None:
    chain = Chain()
    for step in (convolve, move, convolve):
        _grow(chain, step, data)
    graph = chain.graph()
    check(graph, graph.layers[-1], places=3)


def _conv(chain: Chain, source: str, width: int, **options: Any) -> str:
    weight = chain.constant(np.ones((width, chain.channels[source], 3, 3)), np.float32)
    (name,) = chain.add("Conv", source, weight, **{"pads": [1, 1, 1, 1], **options})
    chain.channels[name] = width
    return name


def _up(chain: Chain, source: str, mode: str) -> str:
    scales = chain.constant([1, 1, 2, 2], np.float32)
    (name,) = chain.add("Resize", source, "", scales, mode=mode)
    chain.channels[name] = chain.channels[source]
    return name


def _joined(chain: Chain, *sources: str) -> str:
    (name,) = chain.add("Concat", *sources, axis=1)
    chain.channels[name] = sum(chain.channels[s] for s in sources)
    return name


def _net(size: tuple[int, int] = (64, 48)) -> Chain:
    chain = Chain(1, size)
    chain.channels = {"x": 1}
    return chain


def u_net() -> Chain:
    chain = _net()
    one = _conv(chain, "x", 2)
    two = _conv(chain, one, 2, strides=[2, 2])
    three = _conv(chain, two, 2, strides=[2, 2])
    (up,) = chain.add("ConvTranspose", three, chain.constant(np.ones((2, 2, 2, 2)), np.float32), strides=[2, 2])
    chain.channels[up] = 2
    back = _conv(chain, _joined(chain, up, two), 2)
    _conv(chain, _joined(chain, _up(chain, back, "linear"), one), 1)
    return chain


def feature_pyramid() -> Chain:
    chain = _net()
    two = _conv(chain, _conv(chain, "x", 2, strides=[2, 2]), 2)
    three = _conv(chain, two, 2, strides=[2, 2])
    (sum_,) = chain.add("Add", _up(chain, three, "nearest"), two)
    chain.channels[sum_] = 2
    _conv(chain, sum_, 2)
    return chain


def yolo_neck() -> Chain:
    """A Focus stem, spatial pyramid pooling by pools in a row, and the way up and down again."""
    chain = _net()
    parts = []
    for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
        values = ([row, column], [2**31, 2**31], [2, 3], [2, 2])
        parts += chain.add("Slice", "x", *(chain.constant(v) for v in values))
    chain.channels.update(dict.fromkeys(parts, 1))
    stem = _conv(chain, _joined(chain, *parts), 2)
    low = _conv(chain, stem, 2, strides=[2, 2])
    pools = [low]
    for _ in range(2):
        pools += chain.add("AveragePool", pools[-1], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    chain.channels.update(dict.fromkeys(pools, 2))
    up = _up(chain, _conv(chain, _joined(chain, *pools), 2), "nearest")
    middle = _conv(chain, _joined(chain, up, stem), 2)
    _conv(chain, _joined(chain, _conv(chain, middle, 2, strides=[2, 2]), low), 2)
    return chain


def test_a_gate_on_a_map_whose_places_all_see_the_whole_picture_is_left_out_too() -> None:
    """Squeeze and excitation in a network's last stage; behind it the map goes up again, and its stride with it."""
    chain = _net((32, 32))
    fine = _conv(chain, "x", 2, strides=[2, 2])
    wide = chain.constant(np.ones((2, 2, 9, 9)), np.float32)
    (coarse,) = chain.add("Conv", fine, wide, strides=[4, 4], pads=[4, 4, 4, 4])
    chain.channels[coarse] = 2
    for _ in range(3):
        coarse = _conv(chain, coarse, 2)
    (gate,) = chain.add("GlobalAveragePool", coarse)
    (gated,) = chain.add("Mul", coarse, gate)
    chain.channels[gated] = 2
    (up,) = chain.add("Resize", gated, "", chain.constant([1, 1, 4, 4], np.float32), mode="nearest")
    chain.channels[up] = 2
    _joined(chain, up, fine)
    graph = chain.graph()
    field = {layer.tensor: layer.receptive_field for layer in graph.layers}
    assert field[gate] is not None and field[gate].size is None
    assert field[gated] == field[coarse]
    for name in (up, graph.layers[-1].tensor):
        assert field[name] is not None and field[name].stride == (2.0, 2.0)


@pytest.mark.parametrize("build", [u_net, feature_pyramid, yolo_neck], ids=lambda b: b.__name__)
def test_fields_of_networks_that_go_up_again_are_exact_in_every_layer(build: Callable[[], Chain]) -> None:
    graph = build().graph()
    for layer in graph.layers:
        check(graph, layer, places=2)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_map_brought_to_another_s_size_is_followed_with_an_open_batch(mode: str) -> None:
    """As torch's older exporter writes `interpolate(y, size=x.shape[2:])`: the sizes begin with an open batch."""
    chain = _net((32, 24))
    chain.input = ["N", 1, 32, 24]  # type: ignore[list-item]
    fine = _conv(chain, "x", 2)
    coarse = _conv(chain, fine, 2, strides=[2, 2])
    sides = {}
    for source in (coarse, fine):
        (sides[source],) = chain.add("Shape", source)
    zero, two, four = (chain.constant([place]) for place in (0, 2, 4))
    (front,) = chain.add("Slice", sides[coarse], zero, two)
    (rear,) = chain.add("Slice", sides[fine], two, four)
    (sizes,) = chain.add("Concat", front, rear, axis=0)
    (up,) = chain.add("Resize", coarse, "", "", sizes, mode=mode, coordinate_transformation_mode="half_pixel")
    chain.channels[up] = 2
    _joined(chain, up, fine)
    graph = chain.graph()
    layer = next(layer for layer in graph.layers if layer.tensor == up)
    assert layer.receptive_field is not None and layer.receptive_field.size is not None
    check(graph, layer)


def test_a_white_spot_behind_a_focus_stem_is_found_where_it_is() -> None:
    graph = yolo_neck().graph()
    stem = next(layer for layer in graph.layers if layer.op == "Concat")
    assert stem.receptive_field is not None and stem.receptive_field.size == (2, 2)
    assert stem.receptive_field.stride == (2.0, 2.0)
    assert stem.receptive_field.box(25, 20) == (50.0, 40.0, 52.0, 42.0)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_of_older_opsets_is_exact(mode: str) -> None:
    chain = Chain(size=(7, 9))
    convolve_weight = chain.constant(np.ones((1, 1, 3, 3)), np.float32)
    chain.add("Conv", "x", convolve_weight)
    chain.add("Upsample", chain.tensor, chain.constant([1, 1, 2, 3], np.float32), mode=mode)
    graph = chain.graph(opset=9)
    check(graph, graph.layers[-1])


def test_patches_and_the_windows_that_attend_to_one_another_see_their_own_pixels() -> None:
    """Tokens of patches of 4; attention within windows of 2 x 2 patches, by reshaping as Swin does."""
    chain = Chain(size=(16, 24))
    chain.add("Conv", "x", chain.constant(np.ones((3, 1, 4, 4)), np.float32), strides=[4, 4])
    chain.add("Transpose", chain.tensor, perm=[0, 2, 3, 1])
    chain.add("Reshape", chain.tensor, chain.constant([-1, 2, 2, 3, 2, 3]))
    chain.add("Transpose", chain.tensor, perm=[0, 1, 3, 2, 4, 5])
    (tokens,) = chain.add("Reshape", chain.tensor, chain.constant([-1, 4, 3]))
    (keys,) = chain.add("Transpose", tokens, perm=[0, 2, 1])
    (attention,) = chain.add("MatMul", tokens, keys)
    chain.add("MatMul", attention, tokens)
    chain.add("Reshape", chain.tensor, chain.constant([-1, 2, 3, 2, 2, 3]))
    chain.add("Transpose", chain.tensor, perm=[0, 1, 3, 2, 4, 5])
    chain.add("Reshape", chain.tensor, chain.constant([-1, 4, 6, 3]))
    chain.add("Transpose", chain.tensor, perm=[0, 3, 1, 2])
    graph = chain.graph()
    last = graph.layers[-1]
    assert last.shape == (None, 3, 4, 6) and last.receptive_field is not None
    assert last.receptive_field.box(3, 2) == (8, 8, 16, 16)
    check(graph, last)


def test_fields_travel_from_the_process_that_imports_unchanged() -> None:
    graph = u_net().graph()
    text, _ = encode_graph(graph)
    there = decode_graph(text, graph.model, graph.twin_factory)
    fields = [layer.receptive_field for layer in there.layers]
    assert any(field is not None and field.table is not None for field in fields)
    for field, layer in zip(fields, graph.layers, strict=True):
        assert field == layer.receptive_field and field is not None
        assert layer.receptive_field is not None and field.table == layer.receptive_field.table


@pytest.mark.parametrize("sides", [("H", "W"), (15, "W"), (None, 12)], ids=str)
def test_a_size_that_the_file_leaves_open_changes_no_field(sides: tuple[int | str | None, int | str | None]) -> None:
    def fields(shape: tuple[int | str | None, ...]) -> list[tuple[str, tuple[int | None, ...], object]]:
        weight = np.ones((4, 3, 3, 3), np.float32)
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("GlobalAveragePool", ["b"], ["y"]),
        ]
        graph = convscope.load(tiny.model(nodes, {"w": weight}, shape), check=False, size=(15, 12))
        return [(layer.name, layer.shape, layer.receptive_field) for layer in graph.layers]

    fixed = fields(("N", 3, 15, 12))
    assert fixed[0][2] == ReceptiveField((3, 3), (2.0, 2.0), (-1.0, -1.0))
    assert fields(("N", 3, *sides)) == fixed


def test_what_has_no_rule_counts_as_seeing_everything_and_that_is_said() -> None:
    chain = Chain(size=(8, 8))
    chain.add("Conv", "x", chain.constant(np.ones((1, 1, 3, 3)), np.float32))
    chain.add("GridSample", chain.tensor, chain.constant(np.zeros((1, 8, 8, 2)), np.float32))
    graph = chain.graph()
    assert graph.layers[-1].receptive_field is not None and graph.layers[-1].receptive_field.size is None
    assert not any("not known" in note for note in graph.source.notes)  # it may look anywhere, which is known
    model = tiny.model(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Unheard", ["a"], ["y"], domain="com.example")], {}
    )
    draft = Draft.of(model)
    draft.shapes.update(dict.fromkeys(("x", "a", "y"), (None, 3, 16, 16)))
    tracker = FieldTracker(draft, "x", (8, 8))
    for node in model.graph.node:
        tracker.visit(node)
    found = tracker.field("y", 1)
    assert list(tracker.unknown) == ["Unheard"] and found is not None and found.size is None


@pytest.mark.parametrize(
    "op", names(lambda row: row.positions in ("window", "moved") and row.family != "selection"), ids=str
)
def test_every_operator_that_moves_positions_has_a_rule(op: str) -> None:
    assert ("", op) in RULES


def test_places_are_told_one_by_one_for_a_bounded_number_and_then_said_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from convscope.adapters.layers import fields

    whole = convscope.load(tiny.small_cnn(), check=False)
    monkeypatch.setattr(fields, "_MOST_TABLED", 40)
    graph = convscope.load(tiny.small_cnn(), check=False)
    known = [layer.receptive_field for layer in graph.layers if layer.has_maps]
    assert known[0] == whole.layers[0].receptive_field
    assert known[-1] is not None and known[-1].size is None
    assert any("very large maps" in note for note in graph.source.notes)


def test_channels_that_see_other_parts_do_not_count_as_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where branches of other sizes are put together, in all of a DenseNet."""
    from convscope.adapters.layers import fields

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["a", "x"], ["b"], axis=1),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    net = tiny.model(nodes, {"w": np.ones((500, 3, 3, 3), np.float32)}, ("N", 3, 16, 16))
    monkeypatch.setattr(fields, "_MOST_TABLED", 200)  # 32 of each of the maps, 16,000 of the channels of one
    graph = convscope.load(net, check=False)
    found = graph.layers[-1].receptive_field
    assert found is not None and found.size is not None
    assert not any("very large maps" in note for note in graph.source.notes)


@pytest.mark.parametrize("meets", ["Add", "Concat"])
def test_a_way_that_cannot_be_followed_is_not_left_out_where_it_meets_one_that_can(meets: str) -> None:
    """As the windows of a Swin block beside what goes past them."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("GatherElements", ["a", "places"], ["b"], axis=2),
        helper.make_node(meets, ["a", "b"], ["y"]),
    ]
    if meets == "Concat":
        nodes[-1].attribute.append(helper.make_attribute("axis", 1))
    rows = np.random.default_rng(0).integers(0, 8, (1, 4, 8, 8))
    net = tiny.model(nodes, {"w": np.ones((4, 3, 3, 3), np.float32), "places": rows}, (1, 3, 8, 8))
    graph = convscope.load(net, check=False)
    found = next(layer for layer in graph.layers if layer.tensor == "y").receptive_field
    assert found is not None and found.size is None
