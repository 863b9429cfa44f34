"""TensorFlow's operators within a functional model of Keras 2: the fixture of tests/adapters/test_keras_operators.py.

    python -m benchmarks.keras_operators    in an environment with TensorFlow and tf_keras

One model that calls the operators that `adapters.keras.operators` reads, each an output, as ``.h5`` and ``.keras``,
with TensorFlow's numbers on one batch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

KEPT = Path(__file__).resolve().parents[1] / "tests" / "adapters" / "keras_operators.npz"


def outputs(tf: Any, x: Any, y: Any) -> list[Any]:
    """Operators of a picture ``x`` (N, 8, 6, 3) of values in [0.1, 1) and a map ``y`` of both signs, (N, 8, 6, 4)."""
    math, nn, image = tf.math, tf.nn, tf.image
    return [
        x / 127.5 - 1.0, nn.bias_add(x, tf.constant([0.1, -0.2, 0.3])) / [0.2, 0.3, 0.4], 1.0 - x, 2.0 / x,
        x + tf.constant([0.5, 1.0, 2.0]), -y, abs(y), x**2.0, math.square(y), tf.sqrt(x), math.rsqrt(x),
        tf.exp(y), math.log(x),
        math.log1p(x), math.tanh(y), math.sin(y), math.cos(y), math.floor(y), math.erf(y), math.sign(y),
        math.reciprocal(x), tf.identity(y) + 1.0, tf.stop_gradient(y) + 2.0, math.sigmoid(y),
        math.softplus(y), nn.relu(y),
        nn.relu6(9 * y), nn.silu(y), nn.swish(y), nn.elu(y), nn.selu(y), nn.leaky_relu(y), nn.leaky_relu(y, alpha=0.1),
        nn.gelu(y), nn.gelu(y, approximate=True), nn.softmax(y), nn.softmax(y, axis=1), nn.log_softmax(y),
        math.maximum(y, 0.1), math.minimum(y, x[:, :, :, :1]), math.divide_no_nan(y, nn.relu(y)), math.divide(y, 3.0),
        math.squared_difference(y, 0.5), math.pow(x, 0.5),
        tf.reduce_mean(y, axis=[1, 2]), tf.reduce_sum(y, axis=-1, keepdims=True), tf.reduce_max(y, axis=3),
        tf.reduce_min(y, axis=[2]), math.reduce_std(y, axis=[1, 2]), math.reduce_variance(y, axis=[1, 2]),
        tf.reduce_prod(x, axis=-1), math.l2_normalize(y, axis=-1), math.l2_normalize(y, axis=[1, 2, 3]),
        tf.clip_by_value(y, -0.1, 0.2), tf.concat([x, y], axis=-1), tf.stack([y, 2 * y], axis=1),
        tf.reshape(y, (-1, 6, 8, 4)), tf.expand_dims(y, 1), tf.squeeze(y[:, :1], axis=1),
        tf.transpose(y, [0, 2, 1, 3]), tf.split(y, 2, axis=-1)[1], tf.split(y, [1, 3], axis=-1)[1],
        tf.tile(y, [1, 2, 1, 1]), tf.pad(y, [[0, 0], [1, 2], [0, 3], [0, 0]]),
        tf.pad(y, [[0, 0], [1, 2], [0, 3], [0, 0]], mode="REFLECT"), tf.reverse(y, [1, -1]),
        tf.cast(y, tf.float32) * 3.0,
        y[:, 1:-1, ::2, :3], x[:, :, :, ::-1], y[:, 0], tf.matmul(y, y, transpose_b=True),
        image.resize(x, (12, 9)), image.resize(x, [5, 11], method="bilinear"), nn.depth_to_space(y, 2),
        nn.space_to_depth(y, 2), image.rgb_to_grayscale(x), image.grayscale_to_rgb(y[:, :, :, :1]),
    ]  # fmt: skip


def main() -> None:
    """Makes the files and TensorFlow's numbers."""
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    image = tf_keras.Input((8, 6, 3))
    found = outputs(tf, image, tf_keras.layers.Conv2D(4, 3, padding="same")(image))
    model = tf_keras.Model(image, found)
    x = np.random.default_rng(0).uniform(0.1, 1, (2, 8, 6, 3)).astype(np.float32)
    kept: dict[str, np.ndarray] = {"x": x, **{f"y{i}": y.numpy() for i, y in enumerate(model(x))}}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("h5", "keras"):
            path = Path(folder) / f"model.{suffix}"
            model.save(path)
            kept[suffix] = np.frombuffer(path.read_bytes(), np.uint8)
    np.savez_compressed(KEPT, **kept)  # type: ignore[arg-type]
    print(f"{len(found)} operators' outputs, {KEPT.stat().st_size:,} bytes in {KEPT}")


if __name__ == "__main__":
    main()
