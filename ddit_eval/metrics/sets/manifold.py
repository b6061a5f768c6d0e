"""Precision, recall, density and coverage (Naeem et al. 2020, arXiv 2002.09797). Higher is better.

Each set's manifold is the union of balls around its samples, each as wide as the distance to the k-th
nearest neighbour in its own set:

* precision: share of our samples inside the reference's manifold; density: how many of its balls hold
  one of our samples, on average, over k (it can exceed 1);
* recall: share of the reference inside our manifold; coverage: share of the reference's balls that hold
  at least one of our samples.

A ball holds what is strictly nearer than its radius, as in the authors' code. All four hang on the
numbers of samples: compare at equal numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.sets.frechet import check_pair
from ddit_eval.metrics.sets.resample import Measure

K = 5
_CHUNK = 512  # rows of a distance matrix at a time


@dataclass(frozen=True)
class Prdc:
    """Precision, recall and coverage in [0, 1]; density from 0 upwards."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(features: Tensor, reference: Tensor, k: int = K) -> Prdc:
    """PRDC of our features (n, D) against the reference's (m, D); both need more than k samples."""
    values = prdc_measure(features, reference, k)(torch.ones(1, len(features), dtype=torch.float64))
    return Prdc(*values[0].tolist())


def radii(features: Tensor, k: int = K, chunk: int = _CHUNK) -> Tensor:
    """Distance of each sample to its k-th nearest neighbour, itself not counted: (n, D) to (n,)."""
    if not 1 <= k < len(features):
        raise DditError(
            f"the {k}-th nearest neighbour needs more than {k} samples: there are {len(features)}"
        )
    # A sample is its own nearest: the k-th neighbour is the (k + 1)-th smallest distance.
    return torch.cat([_distances(rows, features).kthvalue(k + 1).values for rows in features.split(chunk)])


def prdc_measure(features: Tensor, reference: Tensor, k: int = K, chunk: int = _CHUNK) -> Measure:
    """PRDC of weighted features: weights (B, n) to (B, 4), in the order of `Prdc`.

    Our balls keep the radii of the whole set: in a resample, a sample drawn twice would be its own
    neighbour. So the spread of recall is that of which samples were drawn, not of the radii.
    """
    x, y = check_pair(features, reference)
    middle = y.mean(0)  # distances by products of matrices are most exact around zero
    x, y = x - middle, y - middle
    ours, theirs = radii(x, k, chunk), radii(y, k, chunk)

    def measure(weights: Tensor) -> Tensor:
        w = weights.to(x)
        drawn = (w > 0).float()
        inside = torch.zeros(len(x), dtype=x.dtype, device=x.device)  # balls of the reference, by sample
        recalled = torch.zeros(len(w), dtype=x.dtype, device=x.device)
        covered = torch.zeros_like(recalled)
        for rows, radius in zip(y.split(chunk), theirs.split(chunk), strict=True):
            distance = _distances(rows, x)
            in_theirs, in_ours = distance < radius[:, None], distance < ours[None]
            inside += in_theirs.sum(0)
            recalled += (drawn @ in_ours.float().T > 0).sum(1)
            covered += (drawn @ in_theirs.float().T > 0).sum(1)
        total = w.sum(1)
        precision = w @ (inside > 0).to(w) / total
        density = w @ inside / k / total
        return torch.stack([precision, recalled / len(y), density, covered / len(y)], 1).cpu()

    return measure


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")
