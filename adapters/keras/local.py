"""Locally connected layers, which Keras 3 has dropped: a convolution whose weights differ from place to place."""

from __future__ import annotations

from math import prod
from typing import Any

IMPLEMENTATIONS = (1, 3)  # of the three forms in which Keras 2 keeps the weights: dense blocks, and the places alone


def local_layers(keras: Any) -> dict[str, Any]:
    """``LocallyConnected1D`` and ``LocallyConnected2D``, for Keras to load a file with."""
    return {f"LocallyConnected{rank}D": _layer(keras, rank) for rank in (1, 2)}


def _layer(keras: Any, rank: int) -> Any:
    class Local(keras.layers.Layer):  # type: ignore[misc]
        """(N, *places, channels), "valid" alone, weights (places, window x channels, filters) as implementation 1."""

        def __init__(
            self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
            data_format: str | None = None, activation: Any = None, use_bias: bool = True, implementation: int = 1,
            **options: Any,
        ) -> None:  # fmt: skip
            kept = {key: value for key, value in options.items() if key in ("name", "dtype", "trainable")}
            super().__init__(**kept)
            if padding != "valid" or implementation != 1 or data_format == "channels_first":
                raise ValueError(
                    f"a LocallyConnected{rank}D with padding={padding}, implementation={implementation}, "
                    f"{data_format or 'channels_last'} is not read; only valid, 1, channels_last is"
                )
            self.filters, self.use_bias = filters, use_bias
            self.window, self.steps = _each(kernel_size, rank), _each(strides, rank)
            self.activation = keras.activations.get(activation)

        def build(self, shape: Any) -> None:
            self.places = [(n - k) // s + 1 for n, k, s in zip(shape[1:-1], self.window, self.steps, strict=True)]
            inside = prod(self.window) * shape[-1]
            self.kernel = self.add_weight((prod(self.places), inside, self.filters), name="kernel")
            self.bias = self.add_weight((*self.places, self.filters), name="bias") if self.use_bias else None

        def call(self, x: Any) -> Any:
            ops, pieces = keras.ops, []
            for offset in _offsets(self.window):
                cut = [
                    slice(o, o + (n - 1) * s + 1, s)
                    for o, n, s in zip(offset, self.places, self.steps, strict=True)
                ]  # fmt: skip
                pieces.append(x[(slice(None), *cut)])
            seen = ops.reshape(ops.concatenate(pieces, axis=-1), (-1, prod(self.places), self.kernel.shape[1]))
            found = ops.squeeze(ops.matmul(ops.expand_dims(seen, 2), self.kernel), 2)
            found = ops.reshape(found, (-1, *self.places, self.filters))
            return self.activation(found if self.bias is None else found + self.bias)

        def compute_output_shape(self, shape: Any) -> Any:
            return (shape[0], *((n - k) // s + 1 for n, k, s in zip(shape[1:-1], self.window, self.steps, strict=True)),
                    self.filters)  # fmt: skip

    Local.__name__ = Local.__qualname__ = f"LocallyConnected{rank}D"
    return Local


def _each(value: Any, rank: int) -> tuple[int, ...]:
    return (int(value),) * rank if isinstance(value, int) else tuple(int(v) for v in value)


def _offsets(window: tuple[int, ...]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for size in window:
        found = [(*before, place) for before in found for place in range(size)]
    return found
