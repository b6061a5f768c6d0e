"""Static or dynamic: is one fixed plan near each prompt's best one, where a rule that looks costs the same?

The question of the golden-path hypothesis, asked of the rows at hand: how often a plan is within 1 dB (PSNR
to base) of the best row of equal cost, prompt by prompt. The static plan is picked on the other prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddit_eval import stats
from ddit_eval.judging.families import has
from ddit_eval.judging.results import Results
from ddit_eval.judging.verdict import firing
from ddit_eval.judging.wording import listed, percent
from ddit_eval.schema.quality import Row

METRIC, NEAR = "psnr", 1.0  # dB
EQUAL_COST = 1.05  # FLOP ratios within this factor
NOT_STATIC = ("threshold", "budget", "calibrated", "region", "random")


@dataclass(frozen=True)
class Duel:
    """A rule against the static plans of its cost: shares of the prompts on which each is near the best.

    `plans`: the static ones, the best on all prompts first. `ahead`: the plan's share less the rule's.
    """

    rule: str
    flop_ratio: float
    plans: tuple[str, ...]
    plan: stats.Interval
    looks: stats.Interval
    ahead: stats.Interval


def duels(results: Results) -> list[Duel]:
    """One for each DDiT row that fires and has static plans of equal cost."""
    return [duel for row in firing(results) if (duel := _duel(results, row)) is not None]


def _duel(results: Results, rule: Row) -> Duel | None:
    ours = results.values(rule.method, METRIC)
    plans = {
        row.method: values
        for row in results.rows
        if _static(results, row)
        and 1 / EQUAL_COST <= row.flop_ratio / rule.flop_ratio <= EQUAL_COST
        and (values := results.values(row.method, METRIC)) is not None
    }
    if ours is None or not plans:
        return None
    theirs = np.stack([*plans.values()])
    best = np.maximum(ours, theirs.max(0))
    capped = np.clip(theirs, -stats.CAP, stats.CAP)
    others = capped.sum(1, keepdims=True) - capped  # of each plan on all prompts but this one
    chosen = np.take_along_axis(theirs, others.argmax(0)[None], 0)[0]
    plan, looks = ((values >= best - NEAR).astype(float) for values in (chosen, ours))
    names = sorted(plans, key=lambda name: -float(np.clip(plans[name], -stats.CAP, stats.CAP).mean()))
    return Duel(
        rule.method, rule.flop_ratio, tuple(names), stats.mean(plan), stats.mean(looks),
        stats.paired_difference(plan, looks),
    )  # fmt: skip


def _static(results: Results, row: Row) -> bool:
    """Whether its schedule is the same for every prompt, and FLOPs say what it costs."""
    if row not in results.accelerated() or has(row, "cache") or has(row, "setup"):
        return False
    trace = results.traces.get(row.method)
    same = trace is None or len({tuple(scales) for scales in trace.scales}) == 1
    return same and row.policy["kind"] not in NOT_STATIC


def dynamic_line(results: Results) -> str:
    """What the duels say together."""
    found, rules = duels(results), [row.method for row in firing(results)]
    if not rules:
        return "No DDiT row ran a coarse step, so there is no rule that looks."
    if not found:
        who = listed(rules, "or")
        return f"No static row costs as much as {who} (FLOPs within 5 %), so nothing can be said."
    first = max(found, key=lambda duel: abs(duel.ahead.value))
    decided = "" if first.ahead.low > 0 or first.ahead.high < 0 else ", which decides nothing"
    if len(found) > 1:
        decided += f" (the furthest apart of {len(found)} such pairs, not adjusted for their number)"
    return (
        f"One static plan (`{first.plans[0]}`) is within {NEAR:g} dB of each prompt's best row of equal cost "
        f"on {percent(first.plan)} of {first.plan.n} prompts, the rule that looks (`{first.rule}`) on "
        f"{percent(first.looks)}: {percent(first.ahead)} apart{decided}."
    )
