"""How much of the way from the fixed schedules to the oracle a policy goes, at its own cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.schema.oracle import Additivity, Closed

Floats = NDArray[np.float64]
CAP = 60.0  # dB; above it, pictures of 8 bits are the same (rounding alone is 58.9 dB)


def quality(mse: ArrayLike) -> Floats:
    """PSNR in dB of each mean squared error, at most `CAP`: a mean needs finite values."""
    return np.asarray(-10 * np.log10(np.maximum(np.asarray(mse, np.float64), 10 ** (-CAP / 10))))


def at_cost(cost: float, curve: Sequence[tuple[float, Sequence[float]]]) -> Floats:
    """Quality by prompt (P,) of a family of schedules at `cost`, linear between its points.

    curve: (cost, quality by prompt) of each member. The base itself (cost 1, quality `CAP`) belongs to every
    family; below the cheapest member it is held.
    """
    if not curve:
        raise DditError("a family of schedules needs at least one member to be compared with")
    points = sorted([*((c, list(q)) for c, q in curve), (1.0, [CAP] * len(curve[0][1]))], key=lambda p: p[0])
    costs = [c for c, _ in points]
    return np.asarray(
        [np.interp(cost, costs, column) for column in zip(*(q for _, q in points), strict=True)]
    )


def gap(
    cost: float,
    policy: Sequence[float],
    fixed: Sequence[tuple[float, Sequence[float]]],
    oracle: Sequence[tuple[float, Sequence[float]]],
) -> Closed:
    """Share of the gap between fixed schedules and the oracle that a policy closes.

    cost: the policy's, as a share of the base's. policy (P,): PSNR by prompt in dB. fixed, oracle: their
    curves, see `at_cost`; both are read at the policy's cost, prompt by prompt. The share of the mean gap is
    0 where it is as good as fixed, 1 where as the oracle.
    """
    ours = np.asarray(policy, np.float64)
    low, high = at_cost(cost, fixed), at_cost(cost, oracle)
    room = stats.paired_difference(high, low)
    return Closed(
        cost=cost,
        over_fixed=stats.paired_difference(ours, low),
        below_oracle=stats.paired_difference(high, ours),
        gap=room,
        share=_ratio_of_means(ours - low, high - low) if room.low > 0 else None,
    )


def _ratio_of_means(above: Floats, below: Floats) -> stats.Interval:
    """mean(above) / mean(below) with its percentile bootstrap, prompts drawn in pairs."""
    value = float(above.mean() / below.mean())
    drawn = np.random.default_rng(0).integers(len(above), size=(stats.RESAMPLES, len(above)))
    ratio = above[drawn].mean(1) / below[drawn].mean(1)
    low, high = np.quantile(ratio, [0.025, 0.975])
    return stats.Interval(value, float(low), float(high), len(above))


def additivity(predicted: Mapping[str, ArrayLike], measured: Mapping[str, ArrayLike]) -> list[Additivity]:
    """How nearly harms add up: measured over predicted, by schedule, geometric mean over prompts.

    1: they add up. Above 1: coarse steps err alike, so errors add before they are squared.
    """
    rows = []
    for name, expected in predicted.items():
        ours, theirs = np.asarray(measured[name], np.float64), np.asarray(expected, np.float64)
        kept = (ours > 0) & (theirs > 0)
        if kept.any():
            ratio = stats.geometric_ratio(ours[kept], theirs[kept])
            predicted_mean, measured_mean = float(theirs.mean()), float(ours.mean())
            row = Additivity(name=name, predicted=predicted_mean, measured=measured_mean, ratio=ratio)
            rows.append(row)
    return rows
