"""Which methods keep the quality: the loss is shown to be within a margin, not just not shown to be there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ddit_eval import stats
from ddit_eval.judging.results import Results
from ddit_eval.stats import ALPHA


@dataclass(frozen=True)
class Kept:
    """One method on one metric: the equivalence test, its one-sided p and the difference's two-sided p,
    both adjusted by Holm over all methods and metrics of the same table."""

    method: str
    metric: str
    test: stats.Equivalence
    p_kept: float  # of: the loss is below the margin
    p_lost: float  # of: the difference is zero

    @property
    def verdict(self) -> str:
        """After Holm's adjustment: "kept", "lost" (a loss is shown that may exceed the margin) or "open"."""
        if self.test.non_inferior and self.p_kept < ALPHA:
            return "kept"
        return "lost" if self.p_lost < ALPHA and self.test.loss.value > 0 else "open"


def judged_metrics(results: Results) -> list[str]:
    """What a verdict of "no loss" needs: prompt adherence and every score with a margin, as measured."""
    metrics = [*results.of_role("adherence")[:1], *results.of_role("score")]
    return [m for m in metrics if results.column(m).margin is not None]


def keep(results: Results, metrics: Sequence[str] | None = None) -> list[Kept]:
    """Every accelerated method on every metric (by default the judged ones and those of fidelity that have
    a margin) against the base, adjusted for their number."""
    names = metrics if metrics is not None else [*judged_metrics(results), *results.of_role("fidelity")]
    found = []
    for metric in names:
        column, base = results.column(metric), results.values(results.quality.reference, metric)
        for row in results.accelerated():
            ours = results.values(row.method, metric)
            if column.margin is None or ours is None or base is None or len(ours) != len(base):
                continue
            test = stats.equivalence(ours, base, column.margin, column.direction)
            loss = ours - base if column.direction == "lower" else base - ours
            p = (stats.p_value(loss, column.margin, "less"), stats.p_value(loss))
            found.append(Kept(row.method, metric, test, *p))
    kept, lost = (stats.holm([getattr(k, name) for k in found]) for name in ("p_kept", "p_lost"))
    return [replace(k, p_kept=a, p_lost=b) for k, a, b in zip(found, kept, lost, strict=True)]


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
