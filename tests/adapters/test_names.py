"""Layer names are those of the source framework's user."""

from __future__ import annotations

import onnx
from onnx import helper

from convscope.adapters.layers.names import human_names


def node(op: str, output: str, name: str = "", scopes: str = "", weight: str = "") -> onnx.NodeProto:
    made = helper.make_node(op, ["x", *([weight] if weight else [])], [output], name)
    if scopes:
        made.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    return made


def names(*nodes: onnx.NodeProto, known: dict[str, str] | None = None) -> list[str]:
    taps = [n.output[0] for n in nodes]
    return list(human_names(nodes, taps, known or {}).values())


def test_torch_legacy_paths_become_module_paths() -> None:
    found = names(
        node("Conv", "a", "/features/features.28/Conv"),
        node("Relu", "b", "/features/features.29/Relu"),
        node("Conv", "c", "/layer4/layer4.1/conv2/Conv"),
        node("Add", "d", "/layer4/layer4.1/Add"),
    )
    assert found == ["features.28", "features.29", "layer4.1.conv2", "layer4.1"]


def test_torch_dynamo_scopes_become_module_paths_and_repeated_calls_are_numbered() -> None:
    found = names(
        node("Conv", "a", "node_Conv_1", "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']"),
        node("Relu", "b", "node_Relu_2", "['', 'layer1', 'layer1.0', 'layer1.0.relu', 'relu']"),
        node("Conv", "c", "node_Conv_3", "['', 'layer1', 'layer1.0', 'layer1.0.conv2', 'conv2d_1']"),
        node("Add", "d", "node_Add_4", "['', 'layer1', 'layer1.0', 'add']"),
        node("Relu", "e", "node_Relu_5", "['', 'layer1', 'layer1.0', 'layer1.0.relu', 'relu_1']"),
    )
    assert found == ["layer1.0.conv1", "layer1.0.relu", "layer1.0.conv2", "layer1.0/Add", "layer1.0.relu_1"]


def test_a_keras_layer_of_two_nodes_is_named_at_its_end() -> None:
    found = names(node("Conv", "a"), node("Relu", "b"), known={"b": "block1_conv1"})
    assert found == ["a", "block1_conv1"]
    scoped = names(
        node("Conv", "a", "functional_1/block1_conv1_1/convolution"),
        node("Relu", "b", "functional_1/block1_conv1_1/Relu"),
        node("Conv", "c", "functional_1/block1_conv2_1/convolution"),
    )
    assert scoped == ["block1_conv1/Conv", "block1_conv1", "block1_conv2"]


def test_paddles_weights_name_the_layers_and_the_counted_names_stay_aliases() -> None:
    def made(op: str, output: str, name: str, *inputs: str) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [output], name)

    nodes = [
        made("Conv", "conv2d_53.tmp_0", "p2o.Conv.0", "x", "conv2d_12.w_0"),
        made("BatchNormalization", "b", "p2o.BatchNormalization.0", "conv2d_53.tmp_0", "batch_norm_3.w_0"),
        made("Conv", "c", "Conv.3", "b", "conv2d_4.w_0_deepcopy_20"),
        made("Conv", "d", "Conv@5", "c", "conv2_expand_weights"),
        made("Relu", "e", "p2o.Relu.0", "d"),
        made("MatMul", "f", "p2o.MatMul.0", "e", "linear_0.w_0"),
        made("Add", "g", "p2o.Add.9", "f", "linear_0.b_0"),
    ]
    taps = [node.output[0] for node in nodes]
    assert list(human_names(nodes, taps, {}).values()) == [
        "conv2d_12", "batch_norm_3", "conv2d_4", "conv2_expand", "p2o.Relu.0", "linear_0/MatMul", "linear_0",
    ]  # fmt: skip
    assert list(human_names(nodes, taps, {}, as_before=True).values()) == [node.name for node in nodes]


def test_weights_name_the_layer_where_nodes_do_not() -> None:
    found = names(
        node("Conv", "12", "Conv_0", weight="features.0.weight"), node("Conv", "r1", "n1", weight="conv1_1_w_0")
    )
    assert found == ["features.0", "conv1_1"]


def test_names_are_unique_whatever_the_file_says() -> None:
    found = names(*(node("Conv", f"t{i}", weight="same.weight") for i in range(4)))
    assert len(set(found)) == 4
    assert found[-1] == "same"


def test_metadata_that_is_not_a_list_is_ignored() -> None:
    assert names(node("Conv", "a", "conv_a", "__import__('os').system('true')")) == ["conv_a"]


def test_torch_s_containers_are_named_once_and_the_old_name_still_works() -> None:
    nodes = [
        node("Conv", "a", "/stages/stages.0/blocks/blocks.0/conv1/Conv"),
        node("Conv", "b", "/stages/stages.0/blocks/blocks.1/conv1/Conv"),
        node("Conv", "c", "/blocks/blocks/blocks.0/conv/Conv"),
    ]
    taps = ["a", "b", "c"]
    found = human_names(nodes, taps, {})
    assert list(found.values()) == ["stages.0.blocks.0.conv1", "stages.0.blocks.1.conv1", "blocks.blocks.0.conv"]
    assert human_names(nodes, taps, {}, as_before=True)["a"] == "stages.0.blocks.blocks.0.conv1"


def test_the_counts_that_keras_3_puts_behind_every_layer_are_no_part_of_its_name() -> None:
    paths = ["block1_conv1_1/Conv", "dense_1/MatMul", "batch_normalization_1/batchnorm/mul_1", "dense_1_2/MatMul"]
    nodes = [node("Conv", name, f"functional_1/{path}") for name, path in zip("abcd", paths, strict=True)]
    found = list(human_names(nodes, list("abcd"), {}).values())
    assert found == ["block1_conv1", "dense", "batch_normalization.batchnorm", "dense_1"]
    own = [node("Conv", name, f"model_1/{layer}/Conv") for name, layer in zip("ab", ["conv_1", "conv_2"], strict=True)]
    assert list(human_names(own, list("ab"), {}).values()) == ["conv_1", "conv_2"]


def test_modules_that_share_an_equal_weight_keep_their_own_names() -> None:
    """torch's newer exporter stores equal weights once, under the first module's name."""
    nodes = []
    for number, scope in enumerate(["e.0.norm1", "e.0.norm2", "e.1.norm1"]):
        node = helper.make_node("LayerNormalization", [f"t{number}", "e.0.norm1.weight"], [f"t{number + 1}"])
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(["", "e", scope, "layer_norm"]))
        nodes.append(node)
    own = helper.make_node("Conv", ["t3", "stem.conv.weight"], ["t4"])  # with the scope of the batch-norm in it
    own.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(["", "stem.bn", "batch_norm"]))
    named = human_names([*nodes, own], ["t1", "t2", "t3", "t4"], {})
    assert list(named.values()) == ["e.0.norm1", "e.0.norm2", "e.1.norm1", "stem.conv"]
