"""mini-wan's perceptual loss: what its guess of a clip looks like to a network that reads pictures.

The squared error of the velocity hardly knows whether a star has five points or four. So a transformer that
has learnt by it goes on with a second term: its guess of the clean clip, decoded, is shown to a reader,
which has to find there what the scene holds, and in whose features it has to be near the true clip.
A perceptual loss on the guess from a noised sample, as Berrada et al. 2024 (arXiv 2411.04873) have it in
the decoder's features, with a classifier's loss beside it. The reader has to be another network than the
one that judges clips: one trained from another seed.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ddit_eval.world import MovingScene
from ddit_eval.world.reader import Reader
from experiments.recipes.auxiliary import label_entropy
from experiments.recipes.reader import labels
from experiments.recipes.wan_vae import frames_of, perceived

BACKGROUND_WEIGHT = 0.2  # of a cell without a thing, beside a thing's 1
FAR_WEIGHT = 3.0  # of the distance in the reader's features; the terms' gradients are then of one size


def cell_labels(clips: Sequence[MovingScene], moments: Sequence[float], side: int) -> Tensor:
    """`reader.labels` of every frame, a cell of 2 x 2 pixels each: (B * F, 3, side/2, side/2)."""
    return labels([clip.at(moment) for clip in clips for moment in moments], side // 2)


def reading_loss(reader: Reader, y: Tensor, x: Tensor, cells: Tensor) -> Tensor:
    """How badly a reader reads clips y (B, 3, F, H, W) in [-1, 1], and how far they look from true ones x.

    cells: see `cell_labels`.
    """
    entropy = label_entropy(reader(frames_of(y)), cells, BACKGROUND_WEIGHT)
    return entropy + FAR_WEIGHT * perceived(reader, y, x)
