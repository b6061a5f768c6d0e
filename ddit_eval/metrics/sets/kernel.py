"""Kernel distances of two sets in features: KID and CMMD. Lower is nearer.

Both are squared maximum mean discrepancies (Gretton et al. 2012, JMLR 13), means of a kernel within and
between the sets; neither assumes Gaussian features. Kernel matrices are made in chunks and never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.metrics.sets.frechet import check_pair
from ddit_eval.metrics.sets.resample import Measure

Kernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # (N, D), (M, D) -> (N, M)

SIGMA, SCALE = 10.0, 1000.0  # CMMD's


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """(x.y / D + 1)^3, KID's kernel (Bińkowski et al. 2018, arXiv 1801.01401, section 3)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian(x: Tensor, y: Tensor) -> Tensor:
    """exp(-|x - y|^2 / (2 sigma^2)), CMMD's kernel, sigma 10."""
    squared = x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T
    return torch.exp(-squared.clamp(min=0) / (2 * SIGMA**2))


def kid(features: Tensor, reference: Tensor) -> float:
    """KID of features (n, D) and (m, D): the unbiased squared MMD of the cubic kernel over all pairs.

    Unbiased at every n, so sets of different sizes compare; it can be a little below zero.
    """
    return float(kid_measure(features, reference)(torch.ones(1, len(features), dtype=torch.float64)))


def cmmd(features: Tensor, reference: Tensor) -> float:
    """CMMD of features (n, D) and (m, D): 1000 times the squared MMD of the Gaussian kernel, sigma 10.

    Jayasumana et al. 2024 (arXiv 2401.09603), with the authors' estimator: the mean over all pairs, a
    sample with itself included (never below zero; biased by about 1000 (1 - mean k) (1/n + 1/m)).
    Features are brought to unit length first.
    """
    return float(cmmd_measure(features, reference)(torch.ones(1, len(features), dtype=torch.float64)))


def kid_measure(features: Tensor, reference: Tensor) -> Measure:
    """`kid` of weighted features: weights (B, n) to (B, 1). Copies of a sample are not paired."""
    x, y = check_pair(features, reference)
    return _mmd_measure(x, y, cubic, unbiased=True)


def cmmd_measure(features: Tensor, reference: Tensor) -> Measure:
    """`cmmd` of weighted features: weights (B, n) to (B, 1)."""
    x, y = check_pair(features, reference)
    measure = _mmd_measure(F.normalize(x, dim=1), F.normalize(y, dim=1), gaussian, unbiased=False)
    return lambda weights: SCALE * measure(weights)


def _mmd_measure(x: Tensor, y: Tensor, kernel: Kernel, *, unbiased: bool) -> Measure:
    # The reference is fixed: all that does not hang on the weights is computed once.
    ones = torch.ones(1, len(y), dtype=x.dtype, device=x.device)
    within_reference = _within(y, ones, kernel, unbiased)
    to_reference = torch.cat([kernel(x[rows], y).mean(1) for rows in _chunks(len(x), len(y))])

    def measure(weights: Tensor) -> Tensor:
        w = weights.to(x)
        between = w @ to_reference / w.sum(1)
        return (_within(x, w, kernel, unbiased) + within_reference - 2 * between)[:, None].cpu()

    return measure


def _within(x: Tensor, weights: Tensor, kernel: Kernel, unbiased: bool) -> Tensor:
    """Weighted mean of the kernel over pairs of x: (n, D), (B, n) to (B,); unbiased: of different samples."""
    total = torch.zeros(len(weights), dtype=x.dtype, device=x.device)
    itself = torch.zeros_like(total)
    for rows in _chunks(len(x), len(x)):
        block = kernel(x[rows], x)
        total += ((weights[:, rows] @ block) * weights).sum(1)
        itself += weights[:, rows].square() @ block[:, rows].diagonal()
    count = weights.sum(1).square()
    if not unbiased:
        return total / count
    return (total - itself) / (count - weights.square().sum(1))


def _chunks(rows: int, columns: int, cells: int = 1 << 24) -> Iterator[slice]:
    """Slices of rows such that a block holds about `cells` numbers at most."""
    step = max(1, cells // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
