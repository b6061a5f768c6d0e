"""How often a contrastive network finds the caption of a picture among others: features in, shares out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.pictures.clip_network import cosines


def recall_at_1(pictures: Tensor, captions: Tensor) -> float:
    """Share of pictures whose own caption is the nearest of all captions: (N, D), (N, D) to [0, 1].

    Row i of `captions` belongs to row i of `pictures`; chance is 1 / N. Exchange the arguments for the
    other direction. Captions that tie for the first place share it, so that features which are all
    alike score chance and no more.
    """
    if pictures.shape != captions.shape or pictures.ndim != 2 or not len(pictures):
        raise DditError(
            f"recall pairs pictures with captions, (N, D) each: {tuple(pictures.shape)} against "
            f"{tuple(captions.shape)}; give one caption a picture"
        )
    nearness = _unit(pictures) @ _unit(captions).T
    return _share_of_first_places(nearness, nearness.diagonal())


def recall_among(pictures: Tensor, captions: Tensor, rivals: Tensor) -> float:
    """Share of pictures nearer to their own caption than to any rival of it.

    `pictures` and `captions`: (N, D); `rivals`: (N, K, D), K other captions for each picture. Chance is
    1 / (K + 1); ties share the first place.
    """
    if pictures.shape != captions.shape or rivals.ndim != 3 or rivals[:, 0].shape != pictures.shape:
        raise DditError(
            f"recall among rivals needs (N, D), (N, D) and (N, K, D), not {tuple(pictures.shape)}, "
            f"{tuple(captions.shape)} and {tuple(rivals.shape)}; give each picture the same number of rivals"
        )
    own = cosines(pictures, captions)
    others = (_unit(pictures)[:, None] * _unit(rivals)).sum(-1)
    return _share_of_first_places(torch.cat([own[:, None], others], 1), own)


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.double(), dim=-1)


def _share_of_first_places(nearness: Tensor, own: Tensor) -> float:
    # Equal features can differ in the last bits of a product, so a tie is anything within them.
    tied = nearness >= nearness.amax(1, keepdim=True) - 1e-9
    first = own >= nearness.amax(1) - 1e-9
    return float((first / tied.sum(1)).mean())
