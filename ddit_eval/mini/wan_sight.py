"""mini-wan's lesson by sight: what its guess of a clip looks like to a network that reads pictures.

The squared error of the velocity hardly knows whether a star has five points or four. So a transformer that
has learnt by it goes on with a second term: its guess of the clean clip, decoded, is shown to a reader (the
eye), which has to find there what the scene holds, and in whose features it has to be near the true clip.
A perceptual loss on the guess from a noised sample, as Berrada et al. 2024 (arXiv 2411.04873) have it in
the decoder's features, with a classifier's loss beside it. The eye has to be another network than the reader
that judges clips: one trained from another seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.metrics.perceptual import feature_distance
from ddit_eval.mini.labels import token_labels
from ddit_eval.world import MovingScene
from ddit_eval.world.reader import CLASSES, Reader

BACKGROUND_WEIGHT = 0.2  # of a cell without a thing, beside a thing's 1
FAR_WEIGHT = 3.0  # of the distance in the eye's features; the terms' gradients are then of one size


def cell_labels(clips: Sequence[MovingScene], moments: Sequence[float], side: int) -> Tensor:
    """Shape, colour and texture by frame and cell of 2 x 2 pixels, 0 for none: (B * F, 3, side/2, side/2)."""
    scenes = [clip.at(moment) for clip in clips for moment in moments]
    return token_labels(scenes, side // 2).transpose(1, 2).unflatten(2, (side // 2, side // 2))


def misread(eye: Reader, pictures: Tensor, true: Tensor, labels: Tensor) -> Tensor:
    """How badly the eye reads pictures (N, 3, H, W) in [0, 1] and how far they look from the true ones.

    labels: see `cell_labels`.
    """
    losses = []
    for i, logits in enumerate(eye(pictures).split(CLASSES, 1)):
        weight = torch.ones(logits.shape[1], device=logits.device)
        weight[0] = BACKGROUND_WEIGHT
        losses.append(F.cross_entropy(logits, labels[:, i], weight))
    far = feature_distance(eye.features(pictures), eye.features(true)).mean()
    return torch.stack(losses).mean() + FAR_WEIGHT * far
