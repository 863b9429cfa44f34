"""Keras models: .keras, both HDF5 forms and live models give one graph with the Keras layers' own names."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

import h5py

from convscope.adapters.keras.family import family
from convscope.adapters.keras.load import export_keras, import_keras, load_keras_file
from convscope.adapters.source import source_difference
from convscope.engine.executors.session import Session
from convscope.errors import RefusedInput, UsageError

keras = import_keras()
ARCH = f"{__file__}:build"


def build() -> Any:
    """A small functional network: padding, depthwise and plain convolution, a branch, a nested model, dropout."""
    layers = keras.layers
    x = image = keras.Input((20, 20, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="block1_conv1")(x)
    x = layers.ZeroPadding2D(1, name="pad")(x)
    x = layers.DepthwiseConv2D(3, strides=2, use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(6.0, name="relu6")(x)
    x = layers.Add(name="join")([x, layers.Conv2D(4, 1, name="shortcut")(x)])
    nested = [keras.Input((9, 9, 4)), layers.Conv2D(5, 3, name="conv"), layers.MaxPooling2D(name="pool")]
    inner = keras.Sequential(nested, name="inner")
    x = layers.GlobalAveragePooling2D(name="gap")(inner(x))
    x = layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="predictions")(x), name="small")


@pytest.fixture(scope="module")
def model() -> Any:
    keras.utils.set_random_seed(0)
    return build()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(3, 20, 20, 3)).astype(np.float32)


def outputs(exported: Any, pixels: np.ndarray) -> np.ndarray:
    session = Session(exported.model, device="cpu")
    return session.run({session.input_names[0]: pixels})[session.output_names[0]]


def expected(model: Any, pixels: np.ndarray) -> np.ndarray:
    return model(pixels, training=False).detach().numpy()


def named(exported: Any) -> set[str]:
    return {*exported.names.values(), *exported.aliases}


LAYERS = {"block1_conv1", "pad", "depthwise", "bn", "relu6", "shortcut", "join", "inner", "inner/conv", "inner/pool",
          "gap", "dropout", "predictions"}  # fmt: skip


@pytest.mark.parametrize("name", ["small.keras", "small.h5", "keras_without_suffix", "h5_without_suffix"])
def test_every_file_form_keeps_values_and_layer_names(
    model: Any, pixels: np.ndarray, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    suffix = "" if "." in name else f".{name.split('_')[0]}"
    model.save(f"{path}{suffix}")
    if suffix:
        Path(f"{path}{suffix}").rename(path)
    exported = load_keras_file(path)
    np.testing.assert_allclose(outputs(exported, pixels), expected(model, pixels), atol=1e-5)
    assert named(exported) == LAYERS


def test_importing_keras_leaves_nothing_in_the_home_and_takes_nothing_along(tmp_path: Path) -> None:
    homes = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in ("KERAS_HOME", "MPLCONFIGDIR")}
    script = "import sys; from convscope.adapters.keras.load import import_keras; import_keras(alone=True); "
    script += "assert not {'sklearn', 'IPython', 'matplotlib'} & sys.modules.keys()"  # a third of the time, for nothing
    subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**kept, **dict.fromkeys(homes, str(tmp_path))},
        check=True,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_named_tensor_is_the_layers_own_output(model: Any, pixels: np.ndarray) -> None:
    exported = export_keras(model)
    tensors = {name: tensor for tensor, name in exported.names.items()}
    wanted = {n: tensors[n] for n in ("block1_conv1", "pad", "bn", "relu6", "join", "gap")}
    every = keras.Model(model.inputs, [model.get_layer(n).output for n in wanted])
    from onnx import helper

    exported.model.graph.output.extend(helper.make_empty_tensor_value_info(t) for t in wanted.values())
    session = Session(exported.model, device="cpu")
    found = session.run({session.input_names[0]: pixels})
    for tensor, value in zip(wanted.values(), every([pixels], training=False), strict=True):
        np.testing.assert_allclose(found[tensor], value.detach().numpy(), atol=1e-5)


def test_loading_gives_channels_first_layers_with_keras_names(model: Any, tmp_path: Path) -> None:
    import convscope

    model.save(tmp_path / "small.keras")
    graph = convscope.load(tmp_path / "small.keras", check=False)
    assert graph.inputs[0].shape == (None, 3, 20, 20)
    assert graph.layer("block1_conv1").op == "Relu" and graph.layer("block1_conv1/Conv").op == "Conv"
    assert {la.name for la in graph.layers} | set(graph.aliases) >= LAYERS


def test_weights_alone_need_the_code_that_builds_the_network(model: Any, pixels: np.ndarray, tmp_path: Path) -> None:
    model.save_weights(tmp_path / "small.weights.h5")
    with pytest.raises(UsageError, match=r"arch=keras.applications:VGG16"):
        load_keras_file(tmp_path / "small.weights.h5")
    exported = load_keras_file(tmp_path / "small.weights.h5", arch=ARCH)
    np.testing.assert_allclose(outputs(exported, pixels), expected(model, pixels), atol=1e-5)


def lenet() -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((12, 12, 1)), layers.Conv2D(2, 3, name="c1"), layers.Flatten(), layers.Dense(2, name="d1")]
    )


def test_weights_in_the_form_of_keras_2_load(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = lenet()
    path = tmp_path / "lenet_weights.hdf5"
    with h5py.File(path, "w") as file:
        write_keras_2_weights(file, model)
    exported = load_keras_file(path, arch=f"{__file__}:lenet")
    x = np.random.default_rng(0).uniform(size=(2, 12, 12, 1)).astype(np.float32)
    np.testing.assert_allclose(outputs(exported, x), expected(model, x), atol=1e-5)


def write_keras_2_weights(file: Any, model: Any) -> None:
    """The layout of Keras 2: names in attributes, one group per layer."""
    file.attrs["layer_names"] = ["c1", "flatten", "d1"]
    file.create_group("flatten").attrs["weight_names"] = []
    for name in ("c1", "d1"):
        group = file.create_group(name)
        group.attrs["weight_names"] = [f"{name}/kernel:0", f"{name}/bias:0"]
        for weight, value in zip(group.attrs["weight_names"], model.get_layer(name).get_weights(), strict=True):
            group[weight] = value


def test_a_whole_model_of_keras_2_loads(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = lenet()
    layers = [
        ("Conv2D", {"name": "c1", "batch_input_shape": [None, 12, 12, 1], "filters": 2, "kernel_size": [3, 3]}),
        ("Flatten", {"name": "flatten"}),
        ("Dense", {"name": "d1", "units": 2}),
    ]
    config = {"class_name": "Sequential", "config": [{"class_name": c, "config": values} for c, values in layers]}
    with h5py.File(tmp_path / "old.hdf5", "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.0.5", "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["training_config"] = json.dumps({"optimizer_config": {"class_name": "SGD", "config": {"lr": 0.1}}})
        write_keras_2_weights(file.create_group("model_weights"), model)
    exported = load_keras_file(tmp_path / "old.hdf5")
    x = np.random.default_rng(0).uniform(size=(2, 12, 12, 1)).astype(np.float32)
    np.testing.assert_allclose(outputs(exported, x), expected(model, x), atol=1e-5)
    assert {"c1", "d1"} <= named(exported)


def test_weights_that_do_not_fit_are_refused_in_one_line(model: Any, tmp_path: Path) -> None:
    model.save_weights(tmp_path / "small.weights.h5")
    with pytest.raises(RefusedInput, match="do not fit arch=") as caught:
        load_keras_file(tmp_path / "small.weights.h5", arch=f"{__file__}:lenet")
    assert "\n" not in str(caught.value)


def test_a_shared_layer_is_named_by_call() -> None:
    x = image = keras.Input((8, 8, 2))
    shared = keras.layers.Conv2D(2, 3, padding="same", name="shared")
    exported = export_keras(keras.Model(image, shared(shared(x))))
    assert {"shared", "shared_1"} <= named(exported)


def test_an_open_image_size_is_filled_in() -> None:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(2, 3)(image)))
    exported = export_keras(model, size=(32, 40))
    dims = [d.dim_value for d in exported.model.graph.input[0].type.tensor_type.shape.dim]
    assert dims[1:] == [32, 40, 3]


def test_a_network_that_the_tracer_refuses_keeps_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    x = image = keras.Input((8, 8, 4))
    x = keras.layers.SeparableConv2D(3, 3, name="separable")(x)  # groups from a shape, as in Xception
    x = keras.layers.LayerNormalization(name="norm")(x)
    exported = export_keras(keras.Model(image, keras.layers.GlobalAveragePooling2D(name="gap")(x)))
    assert {"separable", "norm", "gap"} <= named(exported)


def test_keras_on_another_backend_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="already runs on the jax backend"):
        import_keras()


def test_tensorflow_is_never_imported() -> None:
    assert "tensorflow" not in sys.modules


@pytest.fixture
def known_layers() -> dict[str, list[str]]:
    return {
        "caffe": ["block1_conv1", "block3_conv3", "block5_conv3", "block5_pool", "my_head"],
        "tf": ["mixed0", "mixed4", "mixed10"],
        "torch": ["conv1_conv", "pool2_conv", "conv2_block1_0_bn", "conv5_block1_concat"],
    }


def test_the_family_is_told_by_layer_names_also_under_a_new_head(known_layers: dict[str, list[str]]) -> None:
    for preset, names in known_layers.items():
        found = family(names, scales_itself=False)
        assert found is not None and found[1].preset == preset and found[1].found == "family"


def test_a_network_that_scales_its_own_input_wants_raw_pixels(known_layers: dict[str, list[str]]) -> None:
    found = family(known_layers["tf"], scales_itself=True)
    assert found is not None and found[1].preset == "raw"


def test_an_unknown_network_has_no_family() -> None:
    assert family(["conv2d", "conv2d_1", "dense"], scales_itself=False) is None


def test_a_companion_file_wins_over_the_family(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "small.keras")
    config = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "size": {"height": 20, "width": 20}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    exported = load_keras_file(tmp_path / "small.keras")
    assert exported.preprocessing is not None and exported.preprocessing.mean == (0.5, 0.5, 0.5)


def test_verify_compares_every_output_of_a_model_that_returns_a_dict(tmp_path: Path) -> None:
    import convscope

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="conv")(image))
    heads = {name: keras.layers.Dense(units, name=name)(pooled) for name, units in (("yes", 1), ("many", 6))}
    keras.Model(image, heads).save(tmp_path / "heads.keras")
    graph = convscope.load(tmp_path / "heads.keras", check=False)
    picture = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    worst, tensors, *_ = source_difference(graph, {graph.inputs[0].name: picture})
    assert tensors == 2
    assert worst is not None and worst < 1e-5


def test_a_group_normalization_is_torch_s_operators_and_leaves_the_channels_first() -> None:
    import convscope

    layers = keras.layers
    net = [keras.Input((9, 9, 3)), layers.Conv2D(8, 3, name="conv"), layers.GroupNormalization(4, name="group"),
           layers.ReLU(name="relu")]  # fmt: skip
    model = keras.Sequential(net)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    graph = convscope.load(model)  # the exporter's own check is against the model
    rows = [(la.name, la.op, la.parameters) for la in graph.layers]
    assert [row[0] for row in rows] == ["conv", *(f"group/{op}" for op in ("Reshape", "InstanceNormalization",
        "Reshape_1")), "group", "relu"]  # fmt: skip
    assert sum(row[2] for row in rows) == model.count_params()
    assert graph.layer("relu").shape[1:] == (8, 7, 7)
