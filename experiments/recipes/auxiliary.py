"""Auxiliary losses of the small models: what each token shows, and where on its object it lies.

A head on the middle of the transformer answers; it is dropped after training.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.world.scene import COLOURS, SHAPES, TEXTURES

BACKGROUND_WEIGHT = 0.1  # of a token's label, beside an object's 1
GROUPS = (len(SHAPES) + 1, len(COLOURS) + 1, len(TEXTURES) + 1)
ANSWERS = sum(GROUPS) + 2  # logits of the labels, then the offset (x, y)


class Prediction(NamedTuple):
    """What a student says of a batch; all but the velocity serves auxiliary losses and is dropped later."""

    velocity: Tensor  # (B, N, values in a base token)
    labels: Tensor  # (B, N, sum(GROUPS)) logits
    offsets: Tensor  # (B, N, 2) from the object's centre, in radii
    text: Tensor  # (B, text tokens, width) features of the text encoder that learns the grammar


def label_entropy(logits: Tensor, labels: Tensor, background: float) -> Tensor:
    """Cross-entropy of shape, colour and texture, mean over the three; the background weighs `background`.

    logits (N, sum(GROUPS), ...); labels (N, 3, ...), 0 for none.
    """
    losses = []
    for i, group in enumerate(logits.split(GROUPS, 1)):
        weight = torch.ones(group.shape[1], device=group.device)
        weight[0] = background
        losses.append(F.cross_entropy(group, labels[:, i], weight))
    return torch.stack(losses).mean()


def label_loss(said: Prediction, labels: Tensor, offsets: Tensor) -> Tensor:
    """Cross-entropy of the labels, objects before background, and squared error of the offsets.

    labels (B, N, 3) shape, colour and texture, 0 for none; offsets (B, N, 2).
    """
    entropy = label_entropy(said.labels.transpose(1, 2), labels.transpose(1, 2), BACKGROUND_WEIGHT)
    covered = labels[..., :1] > 0
    place = ((said.offsets - offsets).square() * covered).sum() / (2 * covered.sum().clamp(min=1))
    return entropy + place


def velocity_loss(said: Prediction, target: Tensor, labels: Tensor, object_weight: float) -> Tensor:
    """Mean squared error of the velocity (B, N, V); tokens that objects cover weigh `object_weight`.

    More weight on objects spends the gradient where the caption is hard. It bends the velocity a little.
    """
    weight = torch.where(labels[..., :1] > 0, object_weight, 1.0)
    return ((said.velocity - target).square() * weight).mean() / weight.mean()


def measures(said: Prediction, target: Tensor, labels: Tensor) -> dict[str, float]:
    """Error of the velocity, over all tokens and over those on objects, and how often the head names the
    shape of a token on an object."""
    covered = labels[..., 0] > 0
    named = said.labels[..., : GROUPS[0]].argmax(-1) == labels[..., 0]
    error = (said.velocity - target).square()
    return {
        "validation": float(error.mean()),
        "validation_objects": float(error[covered].mean()),
        "shape_named": float(named[covered].float().mean()),
    }
