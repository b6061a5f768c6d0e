"""Structural similarity to the base model's picture (Wang et al. 2004)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import Column, Metric

WINDOW = 11
CHUNK = 2**17  # pixels that are compared at a time


def ssim(pictures: Tensor, reference: Tensor) -> Tensor:
    """SSIM with the Gaussian window of the paper (sigma 1.5, 11 x 11), per picture: (N,), float64, CPU."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(pictures.shape[-2:]) < WINDOW:
        size = tuple(pictures.shape[-2:])
        raise DditError(f"SSIM has a window of {WINDOW} px; a picture of {size} is too small")
    # The convolution unfolds its windows: some 5 KB a pixel.
    chunk = max(1, CHUNK // (pictures.shape[-1] * pictures.shape[-2]))
    parts = []
    for a, b in zip(pictures.cpu().split(chunk), reference.cpu().split(chunk), strict=True):
        value = structural_similarity_index_measure(a.double(), b.double(), data_range=1.0, reduction="none")
        assert isinstance(value, torch.Tensor)
        parts.append(value.reshape(-1))  # one picture comes back without its dimension
    return torch.cat(parts)


def _measure(pictures: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> dict[str, list[float]]:
    assert reference is not None
    return {"ssim": ssim(pictures, reference).tolist()}


METRIC = Metric(
    "ssim",
    (Column("ssim", "higher", -1.0, 1.0),),
    "reference",
    _measure,
    source="torchmetrics structural_similarity_index_measure, Gaussian 11 x 11, sigma 1.5, data range 1",
)
