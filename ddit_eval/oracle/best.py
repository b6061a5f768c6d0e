"""The best schedule under a budget, by exact dynamic programming over additive harm.

The cost of a schedule depends only on how many steps run at each scale, so the state is these counts:
the least harm for each is exact for any costs, and one table answers every budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddit_eval.errors import DditError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """Scales by step, their harm by the table, and their cost as a share of all steps at scale 1."""

    scales: tuple[int, ...]
    harm: float
    cost: float


def best(harm: ArrayLike, cost: Sequence[float], scales: Sequence[int], budget: float) -> Schedule:
    """The schedule of least total harm whose cost is at most `budget`.

    harm (T, S): of running step t alone at scales[s]; scale 1 does none and costs 1. cost (S,): of a step,
    as a share of the base's. budget: a share of the base's run. Of equal harm the cheaper one is taken.
    Raises `DditError` where even the cheapest scale everywhere costs more.
    """
    table = _checked(harm, cost, scales)
    steps = len(table)
    least, chosen = _least(table)
    best_key: tuple[float, float] | None = None
    best_counts: tuple[int, ...] = ()
    for counts in product(range(steps + 1), repeat=len(scales)):
        if sum(counts) > steps:
            continue
        spent = (steps - sum(counts) + float(np.dot(counts, cost))) / steps
        key = (float(least[counts]), spent)
        if spent <= budget + 1e-9 and (best_key is None or key < best_key):
            best_key, best_counts = key, counts
    if best_key is None:
        cheapest = min(1.0, *cost)
        raise DditError(
            f"no schedule costs {budget:g} of the base's: the cheapest scale costs {cheapest:.3g} a step; "
            "ask for more, or give an adapter with a coarser scale"
        )
    return Schedule(_trace_back(chosen, best_counts, scales), *best_key)


def total(harm: ArrayLike, scales: Sequence[int], schedule: Sequence[int]) -> float:
    """Harm of `schedule` if the harms of its steps add up. harm (T, S) as in `best`."""
    table = np.asarray(harm, np.float64)
    column = {scale: i for i, scale in enumerate(scales)}
    return float(sum(table[t, column[s]] for t, s in enumerate(schedule) if s != 1))


def _checked(harm: ArrayLike, cost: Sequence[float], scales: Sequence[int]) -> Floats:
    table = np.asarray(harm, np.float64)
    if table.ndim != 2 or not len(table) or not table.shape[1] == len(cost) == len(scales) > 0:
        raise DditError(
            f"harm must be (steps, scales) with a cost for each scale: got {table.shape}, {len(cost)} costs, "
            f"{len(scales)} scales"
        )
    if not (np.isfinite(table).all() and table.min() >= 0 and min(cost) > 0):
        raise DditError("harm must be finite and at least 0, and costs above 0; measure the table again")
    return table


def _least(harm: Floats) -> tuple[Floats, NDArray[np.int8]]:
    """Least harm by counts after all steps, and the scale's number (0: the base) that each step took.

    Shapes (T + 1,) * S and (T, (T + 1,) * S).
    """
    steps, width = harm.shape
    least = np.full((steps + 1,) * width, np.inf)
    least[(0,) * width] = 0.0
    chosen = np.zeros((steps, *least.shape), np.int8)
    for t in range(steps):
        new = least.copy()
        for s in range(width):
            into = tuple(slice(1, None) if i == s else slice(None) for i in range(width))
            out_of = tuple(slice(None, -1) if i == s else slice(None) for i in range(width))
            candidate = least[out_of] + harm[t, s]
            better = candidate < new[into]
            new[into] = np.where(better, candidate, new[into])
            chosen[t][into] = np.where(better, s + 1, chosen[t][into])
        least = new
    return least, chosen


def _trace_back(chosen: NDArray[np.int8], counts: tuple[int, ...], scales: Sequence[int]) -> tuple[int, ...]:
    left, schedule = list(counts), []
    for step in reversed(chosen):
        number = int(step[tuple(left)])
        if number:
            left[number - 1] -= 1
        schedule.append(scales[number - 1] if number else 1)
    return tuple(reversed(schedule))
