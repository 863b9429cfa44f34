"""The class activation maps' mathematics: activations and gradients of one layer in, one map out.

Every function takes ``activations`` A and ``gradients`` G = dS/dA, torch tensors (N, K, h, w) on any device,
where S is the target's score (a logit), and returns signed maps (N, h, w): the rectification that all of the
papers apply is left to the caller, so that evidence against the target is not lost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..capture import gradient_cam


@gradient_cam("gradcam", "Grad-CAM")
def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Sum of the feature maps, weighted by their mean gradients.

    Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
    arXiv:1610.02391: w_k = mean_ij G_kij, map = sum_k w_k A_k.
    """
    return weighted(activations, gradients.mean(dim=(2, 3)))


@gradient_cam("gradcam++", "Grad-CAM++")
def grad_cam_plus_plus(activations: Tensor, gradients: Tensor, *, epsilon: float = 0.0) -> Tensor:
    """Grad-CAM with pixel-wise weights from higher derivatives of exp(S).

    Chattopadhay et al. 2018, "Grad-CAM++", arXiv:1710.11063, equation 19:
    alpha = G^2 / (2 G^2 + (sum_ab A_ab) G^3), w_k = sum_ij alpha relu(G).

    Deviations: the factor exp(S), one positive number per image, is left out, so the map keeps its shape and
    does not overflow; alpha is 0 where its denominator is 0. pytorch-grad-cam adds 1e-6 to the denominator,
    which is not in the paper and outweighs G^2 wherever gradients are below 1e-3; ``epsilon`` reproduces it.
    """
    squared = gradients**2
    denominator = 2 * squared + activations.sum(dim=(2, 3), keepdim=True) * squared * gradients + epsilon
    safe = torch.where(denominator == 0, torch.ones_like(denominator), denominator)
    alpha = torch.where(denominator == 0, torch.zeros_like(squared), squared / safe)
    return weighted(activations, (alpha * gradients.clamp(min=0)).sum(dim=(2, 3)))


@gradient_cam("hirescam", "HiResCAM")
def hires_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Element-wise product of activations and gradients, summed over channels.

    Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations", arXiv:2011.08891.
    """
    return (activations * gradients).sum(dim=1)


@gradient_cam("odam", "ODAM")
def odam(activations: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM of a box's number: which positions of the feature maps made this one box what it is.

    Zhao & Chan 2023, "ODAM: Gradient-based Instance-Specific Visual Explanations for Object Detection",
    arXiv:2304.06354: H = ReLU(sum_k w_k * A_k) with w_k = dY/dA_k at every position, where Y is one number of one
    predicted box. The gradients are not smoothed: the authors' published code (github.com/Cyang-Zhao/ODAM at c2c2d5e)
    does not, of one-stage detectors (tools/savefig_odam.py) nor of two-stage ones (model/rcnn_odamTrain/network.py).
    Deviation: they take the feature map of the box's own level; here every map that enters the head is taken, and one
    without a gradient adds nothing.
    """
    return hires_cam(activations, gradients)


@gradient_cam("xgradcam", "XGrad-CAM")
def x_grad_cam(activations: Tensor, gradients: Tensor, *, epsilon: float = 0.0) -> Tensor:
    """Grad-CAM with gradients averaged by the activations' share, which satisfies two axioms.

    Fu et al. 2020, "Axiom-based Grad-CAM", arXiv:2008.02312: w_k = sum_ij (A_kij / sum_ab A_kab) G_kij.
    Deviation: a map whose sum is 0 gets weight 0 (the paper does not say); pytorch-grad-cam adds 1e-7.
    """
    total = activations.sum(dim=(2, 3)) + epsilon
    products = (activations * gradients).sum(dim=(2, 3))
    safe = torch.where(total == 0, torch.ones_like(total), total)
    return weighted(activations, torch.where(total == 0, torch.zeros_like(total), products / safe))


@gradient_cam("layercam", "LayerCAM")
def layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Activations weighted at each position by their positive gradient.

    Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 30.
    """
    return (activations * gradients.clamp(min=0)).sum(dim=1)


def eigen_cam(activations: Tensor, *, centered: bool = False) -> Tensor:
    """Projection of the activations on their first principal direction; knows no class.

    Muhammad & Yeasin 2020, "Eigen-CAM", arXiv:2008.00299: A = U S V^T with positions as rows and channels as
    columns, map = A V_1. A singular vector's sign is arbitrary; here V_1 points to positive activations.
    Deviation of the reference: pytorch-grad-cam centres every channel first, which is not in the paper;
    ``centered`` does the same.
    """
    rows = activations.flatten(2).transpose(1, 2)
    direction = _first_direction(rows - rows.mean(dim=1, keepdim=True) if centered else rows)
    maps = ((rows - rows.mean(dim=1, keepdim=True) if centered else rows) @ direction).squeeze(-1)
    sign = torch.where(direction.sum(dim=1) < 0, -1.0, 1.0)
    return (maps * sign).unflatten(1, activations.shape[2:])


@gradient_cam("eigengradcam", "EigenGrad-CAM")
def eigen_grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """First principal component of activations times gradients.

    No paper: Eigen-CAM made class-specific, as pytorch-grad-cam defines it (channels centred). It leaves the
    sign to the SVD; here the map correlates positively with HiResCAM's, so high means evidence for the class.
    """
    products = activations * gradients
    rows = products.flatten(2).transpose(1, 2)
    rows = rows - rows.mean(dim=1, keepdim=True)
    maps = (rows @ _first_direction(rows)).squeeze(-1)
    evidence = rows.sum(dim=2)
    sign = torch.where((maps * evidence).sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    return (maps * sign).unflatten(1, activations.shape[2:])


def weighted(activations: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k A_k for weights (N, K)."""
    return torch.einsum("nkhw,nk->nhw", activations, weights)


def _first_direction(rows: Tensor) -> Tensor:
    """(N, K, 1): the right singular vector of the largest singular value of (N, positions, K).

    By way of the smaller Gram matrix, since a feature map has far fewer positions than channels; in float64,
    because a Gram matrix squares the condition number.
    """
    wide = rows.double()
    if rows.shape[1] >= rows.shape[2]:
        return torch.linalg.eigh(wide.transpose(1, 2) @ wide)[1][:, :, -1:].to(rows.dtype)
    left = torch.linalg.eigh(wide @ wide.transpose(1, 2))[1][:, :, -1:]
    direction = wide.transpose(1, 2) @ left
    return (direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-300)).to(rows.dtype)
