"""Features and pictures to compare as sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ddit_eval.metrics import sets
from ddit_eval.schema.quality import Distance

MEASURES = {
    "frechet": lambda x, y: sets.frechet_measure(x, sets.statistics(y)),
    "kid": sets.kid_measure,
    "cmmd": sets.cmmd_measure,
    "prdc": sets.prdc_measure,
}


def gauss(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    """Correlated Gaussian features, float64."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    return torch.from_numpy(rng.normal(size=(n, d)) @ mix + shift)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def ones(n: int) -> torch.Tensor:
    return torch.ones(1, n, dtype=torch.float64)


def means(calls: list[int] | None = None) -> sets.Network:
    """A network without weights: mean colour and contrast, 6 numbers; `calls` counts pictures."""

    def extract(pictures: torch.Tensor) -> torch.Tensor:
        if calls is not None:
            calls.append(len(pictures))
        return torch.cat([pictures.mean((2, 3)), pictures.std((2, 3))], 1)

    return sets.Network("means", 6, "mean and deviation of each channel", extract)


def paired(ours: sets.PictureSet, theirs: sets.PictureSet, *args: Any, **options: Any) -> list[Distance]:
    """`ours - theirs` of every value."""
    return [minus for _, minus in sets.compare_paired([ours, theirs], 1, *args, **options)[0] if minus]
