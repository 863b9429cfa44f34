"""The classic tutorial's LeNet: conv 20 (5x5) - pool - conv 50 (5x5) - pool - dense 500 - dense 10.

One architecture for both frameworks (LeCun et al. 1998 in the form of many Caffe and Keras tutorials, with
ReLU). Input: one channel of 28 x 28 in [0, 1], white digit on black.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class LeNet(nn.Module):
    """(N, 1, 28, 28) in [0, 1] -> (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.dense1 = nn.Linear(800, 500)
        self.relu3 = nn.ReLU()
        self.dense2 = nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        return self.dense2(self.relu3(self.dense1(self.flatten(x))))


def build_lenet() -> Any:
    """The same network as a Keras model, (N, 28, 28, 1) -> (N, 10) logits; needs ``KERAS_BACKEND=torch``."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(20, 5, name="conv1"),
            layers.ReLU(name="relu1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(50, 5, name="conv2"),
            layers.ReLU(name="relu2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(500, name="dense1"),
            layers.ReLU(name="relu3"),
            layers.Dense(10, name="dense2"),
        ],
        name="lenet",
    )


def keras_weights(network: LeNet) -> list[Any]:
    """The torch network's weights in the order and layouts of `build_lenet`.

    Keras flattens (height, width, channel), torch (channel, height, width): the first dense layer's inputs
    are put in Keras's order.
    """
    state = {k: v.detach().numpy() for k, v in network.state_dict().items()}
    dense = state["dense1.weight"].reshape(500, 50, 4, 4).transpose(2, 3, 1, 0).reshape(800, 500)
    values = []
    for name in ("conv1", "conv2"):
        values += [state[f"{name}.weight"].transpose(2, 3, 1, 0), state[f"{name}.bias"]]
    return [*values, dense, state["dense1.bias"], state["dense2.weight"].T, state["dense2.bias"]]
