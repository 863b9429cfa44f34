"""Does a Keras file mean here what it means to TensorFlow? Every layer of CNNs, against its numbers.

Two environments, since TensorFlow is none of our dependencies::

    pip install tensorflow tf_keras                                    # in an environment of its own
    python benchmarks/keras_numbers.py make keras FOLDER               # there: files and numbers of Keras 3
    python benchmarks/keras_numbers.py make tf_keras FOLDER2           # there: of Keras 2
    python -m benchmarks.keras_numbers compare FOLDER FOLDER2          # here: prints what differs
    python -m benchmarks.keras_numbers keep FOLDER FOLDER2             # here: the cases of the tests, with the files

Weights are drawn, each file has one layer (a merge has a convolution beside it), and both executors are compared.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Case = tuple[tuple[int, ...], Callable[[Any], Any]]
KEPT = Path(__file__).parents[1] / "tests" / "adapters" / "keras_numbers.npz"
IMAGE, ROW, VOLUME, FRAMES = (11, 13, 4), (13, 4), (5, 7, 6, 4), (3, 6, 7, 4)
LARGEST = 1e-4  # relative to the output's largest value
TABLE = 2e-3  # TensorFlow's bicubic takes its weights from a table of 1,024 places within a pixel
# what the tests hold: what Keras' torch backend computes or cannot export, and what Keras 2 means or writes otherwise
CASES = {
    "keras": (
        "average_same_3_3.keras", "average3d_same.keras", "resize_up_bicubic.keras", "resize_up_lanczos3.keras",
        "conv3d_same.keras", "adaptive_max2d.keras", "adaptive_average3d.keras", "rnn_backwards.h5",
        "augment_RandomShear.keras",
    ),
    "tf_keras": (
        "activation_hard_sigmoid.h5", "depthwise_same_3_2.h5", "transposed_same_3_2.h5", "separable_same_3_2.h5",
        "lstm.h5", "lstm.keras", "batch_norm_-1.keras",
        "heads.h5", "heads.keras", "locally1d.h5", "locally2d.h5", "locally2d.keras",
        "augment_RandomFlip.keras", "augment_RandomHeight.h5", "augment_RandomCrop.h5", "discretization.h5",
        "spatialdropout2d.h5", "thresholded_relu.h5", "embedding.keras", "stated_shapes.h5", "stated_shapes.keras",
        "nested.h5", "nested.keras",
    ),
}  # fmt: skip
# layers of augmentation, which networks that are fed raw pictures begin with; they do nothing but while training
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "RandomBrightness": {"factor": 0.2}, "RandomColorDegeneration": {"factor": 0.5}, "RandomColorJitter": {},
    "RandomContrast": {"factor": 0.2}, "RandomCrop": {"height": 8, "width": 9}, "RandomElasticTransform": {},
    "RandomErasing": {}, "RandomFlip": {}, "RandomGaussianBlur": {}, "RandomGrayscale": {},
    "RandomHeight": {"factor": 0.2}, "RandomHue": {"factor": 0.2}, "RandomInvert": {}, "RandomPerspective": {},
    "RandomPosterization": {"factor": 4}, "RandomRotation": {"factor": 0.2}, "RandomSaturation": {"factor": 0.4},
    "RandomSharpness": {"factor": 0.5}, "RandomShear": {"x_factor": 0.2},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1}, "RandomWidth": {"factor": 0.2},
    "RandomZoom": {"height_factor": 0.2}, "AugMix": {}, "RandAugment": {}, "AutoContrast": {}, "Equalization": {},
    "Solarization": {}, "CutMix": {}, "MixUp": {}, "ContrastLimitedAdaptiveHistogramEqualization": {},
}  # fmt: skip


def cases(keras: Any) -> dict[str, Case]:
    """Name -> (shape of one input, the network as a function of its input)."""
    layers = keras.layers
    is_old = not hasattr(keras, "ops")
    found: dict[str, Case] = {}

    def one(name: str, kind: str, shape: tuple[int, ...] = IMAGE, *arguments: Any, **options: Any) -> None:
        if hasattr(layers, kind):
            found[name] = shape, lambda x: getattr(layers, kind)(*arguments, **options)(x)

    activations = "relu relu6 sigmoid hard_sigmoid tanh softplus softsign softmax elu selu swish gelu exponential mish"
    new = " silu leaky_relu hard_silu log_sigmoid celu glu squareplus sparse_plus hard_tanh tanh_shrink soft_shrink"
    for name in (activations if is_old else activations + new + " hard_shrink log_softmax sparse_sigmoid").split():
        one(f"activation_{name}", "Activation", IMAGE, name)
    one("relu", "ReLU", max_value=3, negative_slope=0.1, threshold=0.2)
    one("leaky_relu", "LeakyReLU")
    one("elu", "ELU", IMAGE, 0.5)
    one("prelu", "PReLU", shared_axes=[1, 2])
    one("softmax_rows", "Softmax", axis=1)
    one("thresholded_relu", "ThresholdedReLU", IMAGE, 0.3)
    for padding in ("same", "valid"):
        for step in (1, 2, 3):
            for size in (2, 3):
                one(f"average_{padding}_{size}_{step}", "AveragePooling2D", IMAGE, size, step, padding)
                one(f"max_{padding}_{size}_{step}", "MaxPooling2D", IMAGE, size, step, padding)
        for title, kind in (("average", "AveragePooling"), ("max", "MaxPooling")):
            one(f"{title}1d_{padding}", f"{kind}1D", ROW, 3, 2, padding)
            one(f"{title}3d_{padding}", f"{kind}3D", VOLUME, 3, 2, padding)
        for size, step in ((3, 1), (3, 2), (5, 2), (2, 3), (4, 2)):
            own: dict[str, Any] = {"strides": step, "padding": padding, "bias_initializer": "random_normal"}
            one(f"conv_{padding}_{size}_{step}", "Conv2D", IMAGE, 5, size, **own)
            one(f"depthwise_{padding}_{size}_{step}", "DepthwiseConv2D", IMAGE, size, depth_multiplier=2, **own)
            one(f"transposed_{padding}_{size}_{step}", "Conv2DTranspose", IMAGE, 5, size, **own)
            one(f"separable_{padding}_{size}_{step}", "SeparableConv2D", IMAGE, 5, size, **own)
        one(f"dilated_{padding}", "Conv2D", IMAGE, 5, 3, dilation_rate=2, padding=padding)
        for kind in ("Conv", "SeparableConv"):
            one(f"{kind.lower()}1d_{padding}", f"{kind}1D", ROW, 5, 4, 2, padding)
        one(f"depthwise1d_{padding}", "DepthwiseConv1D", ROW, 4, 2, padding)
        one(f"transposed1d_{padding}", "Conv1DTranspose", ROW, 5, 4, 3, padding)
        one(f"conv3d_{padding}", "Conv3D", VOLUME, 3, 3, 2, padding)
        one(f"transposed3d_{padding}", "Conv3DTranspose", VOLUME, 3, 3, 2, padding)
    one("grouped", "Conv2D", IMAGE, 6, 3, groups=2)
    one("causal", "Conv1D", ROW, 5, 3, padding="causal", dilation_rate=2)
    one("transposed_output_padding", "Conv2DTranspose", IMAGE, 5, 3, strides=2, output_padding=1)
    one("dense", "Dense", IMAGE, 7)
    for name in ("nearest", "bilinear", *(() if is_old else ("bicubic", "lanczos3", "lanczos5"))):
        one(f"upsample_{name}", "UpSampling2D", IMAGE, 2, interpolation=name)
    for name in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"):
        one(f"resize_down_{name}", "Resizing", IMAGE, 6, 7, interpolation=name)
        one(f"resize_up_{name}", "Resizing", IMAGE, 20, 17, interpolation=name)
    one("resize_crop", "Resizing", IMAGE, 6, 9, crop_to_aspect_ratio=True)
    one("resize_crop_bicubic", "Resizing", IMAGE, 16, 9, crop_to_aspect_ratio=True, interpolation="bicubic")
    if not is_old:
        one("resize_pad", "Resizing", IMAGE, 6, 9, pad_to_aspect_ratio=True)
        one("resize_antialias", "Resizing", IMAGE, 5, 6, antialias=True)
        one("rms_norm", "RMSNormalization")
    one("center_crop", "CenterCrop", IMAGE, 6, 8)
    one("rescaling", "Rescaling", IMAGE, 1 / 127.5, -1)
    one("normalization", "Normalization", mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 4])
    one("zero_padding", "ZeroPadding2D", IMAGE, ((1, 2), (0, 3)))
    one("cropping", "Cropping2D", IMAGE, ((1, 2), (0, 3)))
    for axis in (-1, 1):
        one(f"batch_norm_{axis}", "BatchNormalization", axis=axis)
    one("layer_norm", "LayerNormalization")
    one("group_norm", "GroupNormalization", IMAGE, 2)
    one("unit_norm", "UnitNormalization")
    for title, kind in (("average", "GlobalAveragePooling"), ("max", "GlobalMaxPooling")):
        for rank, shape in ((1, ROW), (2, IMAGE), (3, VOLUME)):
            one(f"global_{title}{rank}d", f"{kind}{rank}D", shape)
    one("flatten", "Flatten")
    one("reshape", "Reshape", IMAGE, (-1, 4))
    for kind in ("Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout"):
        one(kind.lower(), kind, IMAGE, 0.5)
    for name, kind in (("lstm", "LSTM"), ("gru", "GRU"), ("rnn", "SimpleRNN")):
        one(name, kind, ROW, 5)
        one(f"{name}_backwards", kind, ROW, 5, return_sequences=True, go_backwards=True)
    one("gru_before", "GRU", ROW, 5, reset_after=False)
    one("lstm_hard_sigmoid", "LSTM", ROW, 5, recurrent_activation="hard_sigmoid")
    one("conv_lstm", "ConvLSTM2D", FRAMES, 3, 3, padding="same")
    found["bidirectional"] = ROW, lambda x: layers.Bidirectional(layers.LSTM(5, return_sequences=True))(x)
    found["each_frame"] = FRAMES, lambda x: layers.TimeDistributed(layers.Conv2D(3, 3))(x)
    for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"):
        found[kind.lower()] = IMAGE, partial(_merged, layers, kind)
    for rank, shape in ((1, ROW), (3, VOLUME)):
        one(f"zero_padding{rank}d", f"ZeroPadding{rank}D", shape, (1, 2) if rank == 1 else ((1, 2), (0, 1), (2, 0)))
        one(f"cropping{rank}d", f"Cropping{rank}D", shape, (1, 2) if rank == 1 else ((1, 2), (0, 1), (2, 0)))
        one(f"upsample{rank}d", f"UpSampling{rank}D", shape, 2 if rank == 1 else (2, 1, 3))
        one(f"spatialdropout{rank}d", f"SpatialDropout{rank}D", shape, 0.5)
        one(f"conv_lstm{rank}d", f"ConvLSTM{rank}D", (3, 7, 4) if rank == 1 else (2, 4, 5, 4, 3), 3, 3, padding="same")
        for title in ("Average", "Max"):
            target = 5 if rank == 1 else (2, 3, 4)
            one(f"adaptive_{title.lower()}{rank}d", f"Adaptive{title}Pooling{rank}D", shape, target)
    for title in ("Average", "Max"):
        one(f"adaptive_{title.lower()}2d", f"Adaptive{title}Pooling2D", IMAGE, (4, 5))
    one("activity", "ActivityRegularization", IMAGE, 0.5)
    one("identity", "Identity")
    one("masking", "Masking", ROW, 0.0)
    one("permute", "Permute", IMAGE, (3, 1, 2))
    found["repeat"] = ROW, lambda x: layers.RepeatVector(3)(layers.GlobalAveragePooling1D()(x))
    one("locally1d", "LocallyConnected1D", ROW, 5, 3)
    one("locally2d", "LocallyConnected2D", IMAGE, 5, 3)
    one("einsum_dense", "EinsumDense", IMAGE, "abcd,de->abce", output_shape=(None, None, 6), bias_axes="e")
    one("discretization", "Discretization", IMAGE, bin_boundaries=[-1.0, 0.0, 1.0])
    found["rnn"] = ROW, lambda x: layers.RNN(layers.GRUCell(5))(x)
    found["stacked_cells"] = ROW, lambda x: layers.RNN([layers.LSTMCell(5), layers.LSTMCell(3)])(x)
    if hasattr(layers, "SpectralNormalization"):
        found["spectral"] = IMAGE, lambda x: layers.SpectralNormalization(layers.Conv2D(4, 3))(x)
    for name, options in AUGMENTATIONS.items():
        one(f"augment_{name}", name, (*IMAGE[:2], 3), **options)
    one("stft", "STFTSpectrogram", (600, 1), frame_length=64, frame_step=32, fft_length=64)
    one("mel", "MelSpectrogram", (600,), fft_length=128, sequence_stride=64, num_mel_bins=12)
    found["dot"] = IMAGE, partial(_dotted, layers, -1)
    found["dot_normalized"] = IMAGE, partial(_dotted, layers, 1)
    one("embedding", "Embedding", (7,), 9, 4)
    if not is_old:
        one("reversible_embedding", "ReversibleEmbedding", (7,), 9, 4)
        found["grouped_attention"] = ROW, lambda x: layers.GroupQueryAttention(3, 4, 2)(x, x)
    found["attention"] = ROW, lambda x: layers.Attention()([x, x])
    found["additive_attention"] = ROW, lambda x: layers.AdditiveAttention()([x, x])
    if is_old:  # an input shape of a first layer, which Keras 2 writes down behind the InputLayer too
        first = {"input_shape": IMAGE}
        found["stated_shapes"] = IMAGE, lambda x: keras.Sequential([
            keras.Sequential([layers.Conv2D(4, 3, **first), layers.ReLU()]),
            layers.TimeDistributed(layers.Conv1D(3, 3, input_shape=(11, 4))), layers.Flatten(input_shape=(9, 9, 3)),
        ])(x)  # fmt: skip
    found["nested"] = IMAGE, partial(_nested, keras)
    found["heads"] = ROW, lambda x: layers.MultiHeadAttention(2, 3)(x, x)
    return found


def _merged(layers: Any, kind: str, x: Any) -> Any:
    return getattr(layers, kind)()([x, layers.Conv2D(4, 1)(x)])


def _nested(keras: Any, x: Any) -> Any:
    """Models in models: one that is called twice, a row of layers, and a model at the beginning of such a row."""
    layers, image = keras.layers, keras.Input(IMAGE)
    inner = keras.Model(image, layers.Conv2D(4, 3, padding="same")(image))
    twice = inner(keras.Sequential([layers.ReLU(), layers.Conv2D(4, 1)])(inner(x)))
    again = keras.Input(IMAGE)
    first = keras.Model(again, layers.Conv2D(2, 3)(again))
    return keras.Sequential([first, layers.GlobalAveragePooling2D(), layers.Dense(3)])(twice)


def _dotted(layers: Any, axis: int, x: Any) -> Any:
    row = layers.Reshape((-1, 4))(x)
    return layers.Dot(axes=axis, normalize=axis > 0)([row, layers.Dense(4)(row)])


def make(module: str, folder: Path) -> None:
    """A file and TensorFlow's numbers of every case: ``name.keras`` or ``name.h5``, ``name.npz`` with x and y."""
    os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="3")
    keras = importlib.import_module(module)
    folder.mkdir(parents=True, exist_ok=True)
    held: set[str] = set()
    for name, (shape, network) in cases(keras).items():
        rng = np.random.default_rng(5)
        keras.backend.clear_session()
        image = keras.Input(shape, name="image")
        try:
            model = keras.Model(image, network(image))
        except Exception as error:  # Keras itself cannot build it, symbolically or on TensorFlow
            print(f"not built {name}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
            continue
        held |= _types(model.layers)
        if model.weights and not name.startswith("normal"):
            model.set_weights([_drawn(weight, rng) for weight in model.weights])
        x = rng.normal(0, 1.5, (1, *shape)).astype(np.float32)
        if "embedding" in name:
            x = np.abs(x).round()
        np.savez(folder / f"{name}.npz", x=x, y=np.asarray(model(x, training=False)))
        for suffix in ("keras", "h5"):
            try:
                model.save(folder / f"{name}.{suffix}")
            except Exception as error:
                (folder / f"{name}.{suffix}").unlink(missing_ok=True)
                print(f"not saved {name}.{suffix}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
    kinds = {n for n in dir(keras.layers) if isinstance(kind := getattr(keras.layers, n), type) and kind.__name__ == n}
    print(f"{len(held)} layer types of {len(kinds)}: {' '.join(sorted(held))}")
    print(f"not held: {' '.join(sorted(kinds - held))}")


def _types(layers: Any) -> set[str]:
    found = set()
    for layer in layers:
        inner = [getattr(layer, name, None) for name in ("layer", "cell", "forward_layer")]
        inner += getattr(layer, "cells", [])
        found |= {type(layer).__name__} | _types([part for part in inner if part is not None])
    return found


def _drawn(weight: Any, rng: np.random.Generator) -> np.ndarray:
    name = getattr(weight, "path", None) or weight.name
    value = rng.normal(0, 0.4, weight.shape).astype(np.float32)
    if "float" not in str(weight.dtype):
        return np.asarray(weight)
    return np.abs(value) + 0.5 if "variance" in name else value


def difference(path: Path, x: np.ndarray, y: np.ndarray) -> float:
    """How far the executors are from TensorFlow's numbers, relative to the largest of them."""
    import torch

    from convscope.adapters.load import load_here

    graph = load_here(path, check=False)
    name, output = graph.inputs[0].name, graph.outputs[0].name
    axes = graph.permuted.get(name)
    if axes is not None:
        x = x.transpose(axes)
    elif graph.own_input is not None:
        _, channels, height, width = graph.inputs[0].shape
        x = x.reshape(len(x), channels or 1, height or -1, width or -1)
    x = np.ascontiguousarray(x)
    found = [graph.session([output]).run(x)[output], graph.twin([output])(torch.from_numpy(x))[output].numpy()]
    axes = graph.permuted.get(output)
    found = [value.transpose(np.argsort(axes)) if axes is not None else value for value in found]
    if any(value.shape != y.shape for value in found):
        return float("inf")
    return max(float(np.abs(value - y).max()) for value in found) / max(float(np.abs(y).max()), 1e-6)


def compare(folder: Path) -> None:
    """Prints what differs or is refused, and the counts."""
    from convscope.errors import ConvscopeError

    counts = {"equal": 0, "different": 0, "refused": 0}
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".keras", ".h5")):
        stored = np.load(path.with_suffix(".npz"))
        try:
            rel = difference(path, stored["x"], stored["y"])
        except ConvscopeError as error:
            counts["refused"] += 1
            print(f"refused    {path.name}: {str(error)[:160]}")
            continue
        equal = rel <= (TABLE if "bicubic" in path.name else LARGEST)
        counts["equal" if equal else "different"] += 1
        if not equal:
            print(f"different  {path.name}: {rel:.2g}")
    print(f"{folder}: {counts}")


def keep(folders: dict[str, Path]) -> None:
    """Writes the tests' cases into one file."""
    arrays: dict[str, np.ndarray] = {}
    for module, folder in folders.items():
        for name in CASES[module]:
            stored = np.load((folder / name).with_suffix(".npz"))
            arrays[f"{module}/{name}"] = np.frombuffer((folder / name).read_bytes(), np.uint8)
            arrays[f"{module}/{name}/x"], arrays[f"{module}/{name}/y"] = stored["x"], stored["y"]
    np.savez_compressed(KEPT, **arrays)  # type: ignore[arg-type]
    print(f"{KEPT}: {KEPT.stat().st_size:,} bytes")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1] == "compare":
        for given in sys.argv[2:]:
            compare(Path(given))
    else:
        keep(dict(zip(("keras", "tf_keras"), map(Path, sys.argv[2:4]), strict=True)))
