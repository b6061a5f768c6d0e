"""Which methods keep the quality: the loss is shown to be within a margin, not just not shown to be there.

How many prompts a margin would need is said of a method that loses nothing at all, of the spread of its own
differences, at the first and strictest step of Holm's adjustment and with a chance of 80 % (`stats.POWER`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ddit_eval import stats
from ddit_eval.judging.margins import Margin
from ddit_eval.judging.results import Results
from ddit_eval.schema.quality import Row
from ddit_eval.stats import ALPHA


@dataclass(frozen=True)
class Kept:
    """One method on one metric: the equivalence test, its p and the difference's two-sided p, both adjusted
    by Holm over all methods and metrics of the same table.

    `sd`: of the paired differences, nan where only their mean is known. `shows`: the smallest margin that as
    many prompts can show, `needs`: how many its own margin needs.
    """

    method: str
    metric: str
    margin: Margin
    test: stats.Equivalence
    p_kept: float  # of: the loss is below the margin (two-sided: the gain as well)
    p_lost: float  # of: the difference is zero
    sd: float = math.nan
    shows: float = math.nan
    needs: int | None = None

    @property
    def verdict(self) -> str:
        """After Holm's adjustment: "kept", "lost" (a loss is shown that may exceed the margin) or "open"."""
        within = self.test.equivalent if self.margin.two_sided else self.test.non_inferior
        if within and self.p_kept < ALPHA:
            return "kept"
        return "lost" if self.p_lost < ALPHA and self.test.loss.value > 0 else "open"


def judged_metrics(results: Results) -> list[str]:
    """What a verdict of "no loss" needs: prompt adherence and every score with a margin, as measured."""
    sets = dict.fromkeys(row.metric for row in results.quality.sets)
    metrics = [*results.of_role("adherence")[:1], *results.of_role("score"), *sets]
    return [m for m in metrics if results.margin(m) is not None]


def keep(results: Results, metrics: Sequence[str] | None = None) -> list[Kept]:
    """Every accelerated method on every metric (by default the judged ones and those of fidelity that have
    a margin) against the base, adjusted for their number."""
    names = metrics if metrics is not None else [*judged_metrics(results), *results.of_role("fidelity")]
    found = [kept for metric in names for kept in _of_metric(results, metric)]
    adjusted = (stats.holm([getattr(k, name) for k in found]) for name in ("p_kept", "p_lost"))
    return [
        _planned(replace(k, p_kept=a, p_lost=b), len(found)) for k, a, b in zip(found, *adjusted, strict=True)
    ]


def _of_metric(results: Results, metric: str) -> Iterator[Kept]:
    margin = results.margin(metric)
    if margin is None:
        return
    judge = _prompt_by_prompt if metric in results.quality.metrics else _as_a_set
    for row in results.accelerated():
        if (kept := judge(results, row, metric, margin)) is not None:
            yield kept


def _prompt_by_prompt(results: Results, row: Row, metric: str, margin: Margin) -> Kept | None:
    ours, base = results.values(row.method, metric), results.values(results.quality.reference, metric)
    if ours is None or base is None or len(ours) != len(base):
        return None
    direction = results.column(metric).direction
    test = stats.equivalence(ours, base, margin.size, direction)
    loss = ours - base if direction == "lower" else base - ours
    p = stats.p_value(loss, margin.size, "less")
    if margin.two_sided:
        p = max(p, stats.p_value(loss, -margin.size, "greater"))
    asked = loss[~np.isnan(loss)]
    sd = float(asked.std(ddof=1)) if len(asked) > 1 and np.isfinite(asked).all() else math.nan
    return Kept(row.method, metric, margin, test, p, stats.p_value(loss), sd)


def _as_a_set(results: Results, row: Row, metric: str, margin: Margin) -> Kept | None:
    """By the 95 % interval of the paired difference, which is stricter than the 90 % of a test of means."""
    found = results.set_row(row.method, metric)
    if found is None or found.difference is None:
        return None
    loss, size = found.difference, margin.size
    if found.direction == "higher":
        loss = replace(loss, value=-loss.value, low=-loss.high, high=-loss.low)
    below, above = loss.high < size, loss.low > -size
    test = stats.Equivalence(loss, size, below, below and above)
    p = stats.normal_p(loss, size, "less")
    if margin.two_sided:
        p = max(p, stats.normal_p(loss, -size, "greater"))
    return Kept(row.method, metric, margin, test, p, stats.normal_p(loss, 0.0, "two-sided"))


def _planned(kept: Kept, tests: int) -> Kept:
    """With what as many prompts can show, and how many the margin needs, of so many tests."""
    if math.isnan(kept.sd):
        return kept
    alpha, two = ALPHA / tests, kept.margin.two_sided
    shows = stats.power_margin(kept.sd, kept.test.loss.n, alpha=alpha, two_sided=two)
    needs = stats.prompts_needed(kept.sd, kept.margin.size, alpha=alpha, two_sided=two)
    return replace(kept, shows=shows, needs=needs)


def fastest_kept(
    results: Results, found: Sequence[Kept], families: Sequence[str]
) -> tuple[str, stats.Interval] | None:
    """The fastest method of these families that is faster than the base (by its interval) and keeps every
    judged metric; None where none does."""
    needed = set(judged_metrics(results))
    fast: list[tuple[str, stats.Interval]] = []
    for row in results.accelerated():
        kept = {k.metric for k in found if k.method == row.method and k.verdict == "kept"}
        speed = results.speed(row)
        faster = speed is not None and speed.low > 1 and math.isfinite(speed.value)
        if needed and needed <= kept and faster and results.family(row) in families:
            assert speed is not None
            fast.append((row.method, speed))
    return max(fast, key=lambda pair: pair[1].value, default=None)


def enough_prompts(results: Results, found: Sequence[Kept], family: str) -> int | None:
    """How many prompts could show that some method of a family keeps every judged metric; None where each has
    lost one, or nothing tells."""
    of = [[k for k in found if k.method == row.method and k.metric in judged_metrics(results)]
          for row in results.accelerated() if results.family(row) == family]  # fmt: skip
    open_ = [same for same in of if same and all(k.verdict != "lost" and k.needs for k in same)]
    return min((max(k.needs or 0 for k in same) for same in open_), default=None)
