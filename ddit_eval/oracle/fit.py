"""From a harm table to a calibration: bins of the signal with isotonic harm, and a curve of prices.

The harms of single steps do not simply add up (neighbouring coarse steps err alike), so what a price costs
and gives is not summed from the table but measured, with the very rule that will use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr

from ddit_eval.ddit.policies.calibration import Calibration, CurvePoint, Run, StepTable
from ddit_eval.errors import DditError
from ddit_eval.oracle.table import HarmTable

Floats = NDArray[np.float64]
# Mean harm and mean cost (a share of the base's) of the policy that follows a draft at a price.
Trial = Callable[[Calibration, float], tuple[float, float]]


def best_order(table: HarmTable) -> int:
    """The order whose signal ranks the prompts' harm best: mean Spearman over steps and scales.

    Among equals, and where fewer than three prompts leave nothing to rank, the lowest: it has a signal
    earliest.
    """
    return max(sorted(table.signals), key=lambda order: _agreement(table, order))


def _agreement(table: HarmTable, order: int) -> float:
    found = []
    for t in range(order, table.steps):
        for s in range(len(table.scales)):
            signal, harm = table.signals[order][:, t, s], table.harm[:, t, s]
            if len(harm) > 2 and np.ptp(signal) > 0 and np.ptp(harm) > 0:
                found.append(float(spearmanr(signal, harm).statistic))
    return round(float(np.mean(found)), 6) if found else 0.0


def step_tables(harm: Floats, signal: Floats, bins: int = 4, window: int = 1) -> tuple[StepTable, ...]:
    """The tables of one scale. harm, signal (P, T): by prompt and step; nan where there is no signal.

    Bins are quantiles of the signal over the prompts of a step. How harm grows from bin to bin is taken from
    the steps within `window` together, relative to each step's mean: few prompts give few values a bin.
    Isotonic regression keeps it from falling. The mean over a step's bins is the step's mean harm.
    """
    prompts, steps = harm.shape
    bins = max(1, min(bins, prompts // 2))
    marginal = harm.mean(0)
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    known = ~np.asarray(np.isnan(signal).any(0))
    edges = {t: np.quantile(signal[:, t], inner) for t in range(steps) if known[t]}
    place = {t: np.searchsorted(edges[t], signal[:, t], side="right") for t in edges}
    tables = []
    for t in range(steps):
        if t not in edges or marginal[t] == 0:
            tables.append(StepTable(harm=(float(marginal[t]),), marginal=float(marginal[t])))
            continue
        near = [u for u in range(t - window, t + window + 1) if u in edges and marginal[u] > 0]
        where = np.concatenate([place[u] for u in near])
        relative = np.concatenate([harm[:, u] / marginal[u] for u in near])
        level = np.maximum.accumulate(_isotonic(where, relative, bins) * marginal[t])
        tables.append(
            StepTable(edges=tuple(edges[t].tolist()), harm=tuple(level.tolist()), marginal=float(marginal[t]))
        )
    return tuple(tables)


def _isotonic(where: NDArray[np.int64], values: Floats, bins: int) -> Floats:
    """Mean of `values` by bin, not falling; an empty bin takes the overall mean before the regression."""
    count = np.bincount(where, minlength=bins)
    total = np.bincount(where, weights=values, minlength=bins)
    mean = np.where(count > 0, total / np.maximum(count, 1), values.mean())
    return np.asarray(isotonic_regression(mean, weights=np.maximum(count, 1e-6)).x)


def prices(tables: Mapping[int, Sequence[StepTable]], cost: Mapping[int, float], count: int) -> list[float]:
    """Prices at which the rule turns from fine to coarse, from the first steps that do to the last.

    A step turns to scale s where price * (1 - cost of s) passes its harm; `count` even quantiles of these.
    """
    cheaper = [s for s in tables if cost[s] < 1]
    if not cheaper:
        raise DditError(f"no scale is cheaper than the base ({dict(cost)}): there is nothing to calibrate")
    turning: list[float] = []
    for t in range(len(tables[cheaper[0]])):
        by_scale = [[harm / (1 - cost[s]) for harm in tables[s][t].harm] for s in cheaper]
        turning += [min(options) for options in zip(*by_scale, strict=False)]
    found = np.quantile(turning, np.linspace(0, 1, count + 1)[1:]) * 1.001  # just past the turn
    return [float(p) for p in found]


def fit(
    tables: Sequence[HarmTable],
    trial: Trial,
    *,
    points: int = 6,
    made: Mapping[str, object] | None = None,
) -> Calibration:
    """The calibration of `tables`, one for each number of steps. `trial` measures a price, see `Trial`.

    The signal is of the order that ranks harm best on the first table.
    """
    order = best_order(tables[0])
    cost = dict(zip(tables[0].scales, tables[0].cost, strict=True))
    runs = []
    for table in tables:
        by_scale = {
            s: step_tables(table.harm[:, :, i], table.signals[order][:, :, i])
            for i, s in enumerate(table.scales)
        }
        start = CurvePoint(price=0, harm=0, cost=1)
        run = Run(steps=table.steps, tables=by_scale, curve=(start,))
        draft = Calibration(order=order, rho=table.rho, cost=cost, runs=(run,))
        grid = prices(by_scale, cost, points)
        measured = [trial(draft, price) for price in grid]
        runs.append(run.model_copy(update={"curve": (start, *curve(grid, measured))}))
    return Calibration(order=order, rho=tables[0].rho, cost=cost, runs=tuple(runs), made=dict(made or {}))


def curve(grid: Sequence[float], measured: Sequence[tuple[float, float]]) -> list[CurvePoint]:
    """The measured (harm, cost) by price, made monotone: a higher price is never finer nor dearer."""
    harm = isotonic_regression([h for h, _ in measured]).x
    cost = isotonic_regression([c for _, c in measured], increasing=False).x
    # Rounding may break a tie the wrong way.
    rows = zip(sorted(grid), np.maximum.accumulate(harm), np.minimum.accumulate(cost), strict=True)
    return [CurvePoint(price=p, harm=float(h), cost=float(c)) for p, h, c in rows]
