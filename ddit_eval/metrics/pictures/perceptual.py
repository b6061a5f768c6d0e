"""Distances between pictures in the features of a network, in the form of LPIPS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def feature_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor], eps: float = 1e-10) -> Tensor:
    """Distance of two stacks of features, one value a picture: lists of (N, C, H, W) to (N,).

    Each position's features are scaled to unit length over channels; squared differences are summed
    over channels, averaged over positions and over layers. This is Zhang et al. 2018
    (arXiv 1801.03924), equation 1, with every learned channel weight set to one and the mean over
    layers instead of their sum, so that the range is 0 to 4 (2 for features that are never negative).
    """
    layers = [
        (unit(a, eps) - unit(b, eps)).square().sum(1).mean((1, 2)) for a, b in zip(ours, theirs, strict=True)
    ]
    return torch.stack(layers).mean(0)


def unit(features: Tensor, eps: float = 1e-10) -> Tensor:
    """Unit length over channels; features that are all zero stay zero."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + eps)
