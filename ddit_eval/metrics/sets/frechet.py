"""Fréchet distance of two sets in features: features -> statistics -> distance, three pure functions.

It is FID (Heusel et al. 2017, arXiv 1706.08500) on Inception's features and on no other; see
`comparison` for the names. It is biased upwards, by about c / n where c depends on the set itself: distances
at different n must not be compared, nor any at an n that is not far above the number of features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.sets.resample import LEVEL, Measure
from ddit_eval.stats import Interval

POINTS = 15  # of the line to endless samples
FEW = 2048  # below this many samples the bias in n is of the size of what methods differ by


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean (D,) and unbiased covariance (D, D) of n features, float64 on the CPU."""

    mean: Tensor
    covariance: Tensor
    n: int


def statistics(features: Tensor) -> Statistics:
    """Statistics of features (n, D), any float type; n is at least 2."""
    x = check_features(features, "features")
    centred = x - x.mean(0)
    return Statistics(x.mean(0).cpu(), (centred.T @ centred / (len(x) - 1)).cpu(), len(x))


def frechet_distance(one: Statistics, other: Statistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Fréchet 1957, Dowson and Landau 1982.

    The trace of the root is the sum of the singular values of C1^(1/2) C2^(1/2), both roots by symmetric
    eigendecomposition; so no complex number and no `sqrtm`, which is unstable for singular covariances.
    """
    check_widths(len(one.mean), len(other.mean))
    cross = torch.linalg.svdvals(root(one.covariance) @ root(other.covariance)).sum()
    spread = one.covariance.trace() + other.covariance.trace() - 2 * cross
    return float((one.mean - other.mean).square().sum() + spread)


def root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite matrix; rounding below zero counts as zero."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_measure(features: Tensor, reference: Statistics) -> Measure:
    """The Fréchet distance of weighted features (n, D) to a fixed reference: weights (B, n) to (B, 1).

    The features times the root R of the reference's covariance are computed once. For one resample of
    covariance C, the roots of the eigenvalues of R C R sum to the trace that is wanted; they are those of
    the smaller of the (D, D) and the (samples drawn, samples drawn) product.
    """
    x = check_features(features, "features")
    check_widths(x.shape[1], len(reference.mean))
    # About the reference's mean, so that nothing large cancels below.
    x = x - reference.mean.to(x.device)
    turned = x @ root(reference.covariance).to(x.device)
    spread = float(reference.covariance.trace())

    def one(weights: Tensor) -> Tensor:
        drawn = weights > 0
        w = weights[drawn][:, None]
        total = w.sum()
        mean, turned_mean = ((w * y[drawn]).sum(0) / total for y in (x, turned))
        scale = (w / (total - 1)).sqrt()
        trace = ((x[drawn] - mean) * scale).square().sum()
        y = (turned[drawn] - turned_mean) * scale
        product = y.T @ y if y.shape[0] >= y.shape[1] else y @ y.T
        cross = torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum()
        return mean.square().sum() + trace + spread - 2 * cross

    return lambda weights: torch.stack([one(w) for w in weights.to(x.device)])[:, None].cpu()


def caveats(n: int, n_reference: int, dimension: int) -> tuple[str, ...]:
    """What must be said beside a Fréchet distance of so few samples; empty where nothing must."""
    out = []
    for count, what in ((n, "the set"), (n_reference, "the reference")):
        if count <= dimension:
            out.append(
                f"{what} has {count} samples for {dimension} features: its covariance is singular; "
                f"use more than {dimension}, or read KID"
            )
        elif count < FEW:
            out.append(
                f"{what} has {count} samples, under {FEW:,}: the distance is biased upwards; "
                "compare it at equal numbers only, or read KID"
            )
    return tuple(out)


@dataclass(frozen=True)
class Extrapolation:
    """The Fréchet distance extrapolated to endless samples, with the line that it was read off."""

    interval: Interval  # of the line's intercept, Student's t
    slope: float  # distance at n = intercept + slope / n
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_infinity(features: Tensor, reference: Statistics, *, sizes: Sequence[int] = ()) -> Extrapolation:
    """The intercept of a line through distances of subsets against 1 / size.

    Chong and Forsyth 2020 (arXiv 1911.07023), section 3, "FID-infinity" on Inception's features. `sizes`:
    subset sizes, by default 15 of them evenly from a tenth of n (but above twice the number of
    features, where there are as many) to n, each a random subset without replacement.

    The interval is that of the fit alone: the subsets share samples, so it is too short for what another
    n pictures would give. The bias of the finite reference stays in.
    """
    x = check_features(features, "features")
    n, dimension = x.shape
    note = "interval of the fit alone; subsets share samples"
    if not sizes:
        lowest = max(n // 10, 2 * dimension)
        if lowest > n // 2:
            lowest = max(n // 10, 2)
            note += (
                f"; subsets are not all above twice the {dimension} features, where 1 / n is no straight line"
            )
        sizes = tuple(dict.fromkeys(np.linspace(lowest, n, POINTS).round().astype(int).tolist()))
    if len(set(sizes)) < 3 or min(sizes) < 2 or max(sizes) > n:
        raise DditError(
            f"the line needs at least 3 different subset sizes between 2 and {n}, not {list(sizes)}"
        )
    rng = np.random.default_rng(0)
    weights = np.zeros((len(sizes), n))
    for row, size in zip(weights, sizes, strict=True):
        row[rng.choice(n, size, replace=False)] = 1
    distances = frechet_measure(x, reference)(torch.from_numpy(weights))[:, 0].numpy()
    intercept, slope, half = _line(1 / np.asarray(sizes, np.float64), distances, LEVEL)
    interval = Interval(intercept, intercept - half, intercept + half, n, 0, note)
    return Extrapolation(interval, slope, tuple(map(int, sizes)), tuple(distances.tolist()))


def _line(x: NDArray[np.float64], y: NDArray[np.float64], level: float) -> tuple[float, float, float]:
    """Least squares: intercept, slope and half the intercept's interval."""
    fit = stats.linregress(x, y)
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 2) * fit.intercept_stderr)
    return float(fit.intercept), float(fit.slope), half


def check_features(features: Tensor, what: str) -> Tensor:
    """float64 (n, D) with n at least 2, all finite; raises `DditError` otherwise."""
    if features.ndim != 2 or len(features) < 2:
        raise DditError(f"{what} must be (n, D) with n at least 2, not {tuple(features.shape)}")
    x = features.double()
    if not math.isfinite(float(x.sum())):
        raise DditError(f"{what} hold nan or infinite values: look for broken pictures or a broken network")
    return x


def check_pair(features: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both as `check_features` gives them; raises `DditError` where their widths D differ."""
    x, y = check_features(features, "features"), check_features(reference, "reference features")
    check_widths(x.shape[1], y.shape[1])
    return x, y


def check_widths(ours: int, theirs: int) -> None:
    if ours != theirs:
        raise DditError(
            f"features of {ours} numbers against a reference of {theirs}: measure both sets with the same "
            "network"
        )
