"""The methods of attribution, one family a file. Importing the files is what declares them."""

from . import cam, drise, fullgrad, gradient, higher_cams, layer_methods, perturbation, sensitivity, superpixels

__all__ = [
    "cam", "drise", "fullgrad", "gradient", "higher_cams", "layer_methods", "perturbation", "sensitivity",
    "superpixels",
]  # fmt: skip
