"""Which of keras.applications' families a model belongs to, by its layers' names, and so its preprocessing.

The preprocessing is not in a Keras file. The layer names of the well-known networks are peculiar enough to tell
them apart, also after a new head was put on; a network that is not among them stays unknown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ...engine.graph.preprocessing import Preprocessing, preprocessing_of

# family -> (layers that it has, preset of its preprocess_input); keras.applications, module by module. Networks
# that scale their own input ("raw") have a Rescaling or Normalization layer inside.
_FAMILIES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("VGG", ("block1_conv1", "block3_conv3", "block5_conv3", "block5_pool"), "caffe"),
    ("ResNet V2", ("conv1_conv", "conv2_block1_preact_bn", "post_relu"), "tf"),
    ("ResNet", ("conv1_conv", "conv1_bn", "conv2_block1_1_conv", "conv5_block3_out"), "caffe"),
    ("MobileNetV3", ("expanded_conv_project", "expanded_conv_1_expand", "expanded_conv_1_depthwise"), "raw"),
    ("MobileNetV2", ("Conv1", "expanded_conv_depthwise", "block_16_project"), "tf"),
    ("MobileNet", ("conv1", "conv_dw_1", "conv_pw_1", "conv_pw_13"), "tf"),
    ("DenseNet", ("conv1_conv", "pool2_conv", "conv2_block1_0_bn", "conv5_block1_concat"), "torch"),
    ("InceptionResNetV2", ("mixed_5b", "mixed_6a", "mixed_7a", "conv_7b_bn"), "tf"),
    ("InceptionV3", ("mixed0", "mixed4", "mixed10"), "tf"),
    ("Xception", ("block1_conv1", "block2_sepconv1", "block14_sepconv2"), "tf"),
    ("EfficientNet", ("stem_conv", "block1a_project_conv", "block2a_expand_conv", "top_conv"), "raw"),
    ("NASNet", ("stem_conv1", "normal_conv_1_0", "adjust_relu_1_stem_1"), "tf"),
)
# networks that have their Rescaling or Normalization inside unless they were built without it
SCALE_THEMSELVES = frozenset(title for title, _, scheme in _FAMILIES if scheme == "raw") | {"ConvNeXt"}
_CONVNEXT = ("_stem", "_stage_0_block_0_depthwise_conv", "_stage_3_block_0_layer_scale")


def family(layers: Collection[str], scales_itself: bool) -> tuple[str, Preprocessing] | None:
    """The family's name and its preprocessing, or None.

    Args:
        layers: the layers' own names, without the names of models around them.
        scales_itself: the network has a Rescaling or Normalization layer, so it wants pixels from 0 to 255.
    """
    names = set(layers)
    for title, needed, scheme in _FAMILIES:
        if names.issuperset(needed):
            return title, _found("raw" if scales_itself else "tf" if scheme == "raw" else scheme)
    if all(any(name.endswith(tail) for name in names) for tail in _CONVNEXT):
        return "ConvNeXt", _found("raw" if scales_itself else "torch")
    return None


def _found(name: str) -> Preprocessing:
    return replace(preprocessing_of(name), found="family", layout="NHWC")
