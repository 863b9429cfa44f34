"""The methods of attribution, one family a file. Importing the files is what declares them."""

from . import cam, drise, fullgrad, gradient, layer_methods, perturbation

__all__ = ["cam", "drise", "fullgrad", "gradient", "layer_methods", "perturbation"]
