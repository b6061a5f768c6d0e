"""A method against a control at equal time, prompt by prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.interpolate import PchipInterpolator

from ddit_eval import stats
from ddit_eval.judging.families import BASE, RIVALS, STEPS
from ddit_eval.judging.results import Floats, Results
from ddit_eval.schema.quality import Row
from ddit_eval.stats import ALPHA, CAP

Outcome = Literal["better", "worse", "undecided", "not comparable"]

EQUAL_TIME = 1.1  # speed-ups within this factor count as equal time
FIRST, COMBINED = "coarse-first", "fewer steps with coarse-first"
CONTROLS = (STEPS, FIRST, "random", COMBINED, *RIVALS)
OPTIONAL = {COMBINED, *RIVALS}  # not missed where an experiment has none


@dataclass(frozen=True)
class Comparison:
    """A method against a control on one metric. `gain` > 0: the method is better, whatever the metric's
    direction. Speeds are measured speed-ups over the base. `p`: two-sided, of no gain; `outcome` by the
    interval alone until `decide` has adjusted both. `sd`: of the paired gains, `shows`: the smallest gain
    that as many prompts can show, by `decide`."""

    method: str
    control: str
    kind: str
    metric: str
    speed: float
    control_speed: float
    gain: stats.Interval
    outcome: Outcome
    p: float = math.nan
    sd: float = math.nan
    shows: float = math.nan

    @property
    def decides(self) -> bool:
        return self.outcome in ("better", "worse")


def compare(
    results: Results, row: Row, kind: str, metric: str, rows: Sequence[Row] | None = None
) -> Comparison | None:
    """`row` against the nearest control of a kind, which `rows` names where it is no kind of its own; None
    without a time of either, or without a control of the same prompts."""
    speed, ours = results.speed(row), results.values(row.method, metric)
    if speed is None or ours is None:
        return None
    if kind == STEPS:
        control = fewer_steps_at(results, speed.value, metric)
    else:
        rows = _controls(results, row, kind) if rows is None else rows
        control = nearest(results, rows, speed.value, metric)
    if control is None or len(ours) != len(control.values):
        return None
    sign = -1.0 if results.column(metric).direction == "lower" else 1.0
    ours, theirs = sign * ours, sign * control.values
    gain, faster = stats.paired_difference(ours, theirs), control.speed / speed.value
    if not gain.n:
        return None
    outcome, p = _outcome(gain, faster), _p_value(ours, theirs, gain.infinite > 0)
    if gain.infinite:
        # Pictures equal to the base have an infinite PSNR, which no mean can hold: the verdict must be
        # the same with them left out and with them counted at the cap.
        capped = stats.paired_difference(np.clip(ours, -CAP, CAP), np.clip(theirs, -CAP, CAP))
        if math.isinf(gain.value):
            gain = replace(capped, infinite=gain.infinite)
            outcome = _outcome(gain, faster)
        elif _outcome(capped, faster) != outcome:
            outcome = "undecided"
    apart = np.clip(ours, -CAP, CAP) - np.clip(theirs, -CAP, CAP)
    apart = apart[~np.isnan(apart)]
    sd = float(apart.std(ddof=1)) if len(apart) > 1 else math.nan
    return Comparison(
        row.method, control.name, kind, metric, speed.value, control.speed, gain, outcome, p, sd
    )


def _controls(results: Results, row: Row, kind: str) -> list[Row]:
    """The rows of a kind (of control, or a family), at the same number of steps; for COMBINED coarse-first
    at fewer than the base's; other ways to be faster at any number of steps."""
    if kind in RIVALS:
        return results.of_family(kind)
    if kind == COMBINED:
        fewer = [r for r in results.rows if r.steps < results.reference.steps]
        return [r for r in fewer if results.control(r) == FIRST]
    return [
        r for r in results.rows if kind in (results.control(r), results.family(r)) and r.steps == row.steps
    ]


@dataclass(frozen=True)
class Control:
    """What a method is compared with: its name, its speed-up and its value for each prompt."""

    name: str
    speed: float
    values: Floats


def nearest(results: Results, rows: Sequence[Row], speed: float, metric: str) -> Control | None:
    """The row whose measured speed-up is nearest to `speed`, as a ratio."""
    controls = [
        Control(row.method, timed.value, values)
        for row in rows
        if (timed := results.speed(row)) and (values := results.values(row.method, metric)) is not None
    ]
    return min(controls, key=lambda c: (abs(math.log(c.speed / speed)), c.name), default=None)


def fewer_steps_at(results: Results, speed: float, metric: str) -> Control | None:
    """Fewer steps at a speed-up: each prompt's value interpolated over log speed-up (PCHIP, which keeps
    monotone data monotone: Fritsch and Butland 1984). Outside the measured range the nearest row as it is,
    at its own speed. The base itself is the end at 1x where its value is finite."""
    rows = [r for r in results.rows if results.family(r) in (STEPS, BASE)]
    points: dict[float, Control] = {}
    for row in rows:
        control = nearest(results, [row], speed, metric)
        finite = control is not None and np.isfinite(control.values[~np.isnan(control.values)]).any()
        if control is not None and (finite or results.family(row) == STEPS):
            points.setdefault(round(control.speed, 6), control)
    controls = [points[key] for key in sorted(points)]
    if not any(c.name != results.quality.reference for c in controls):
        return None
    if not controls[0].speed <= speed <= controls[-1].speed:
        return min(controls, key=lambda c: abs(math.log(c.speed / speed)))
    if len(controls) == 1:
        return controls[0]
    values = np.clip(np.stack([c.values for c in controls]), -CAP, CAP)
    asked = ~np.isnan(values).any(axis=0)
    at = np.full(values.shape[1], math.nan)
    if asked.any():
        curve = PchipInterpolator(np.log([c.speed for c in controls]), values[:, asked], axis=0)
        at[asked] = curve(math.log(speed))
    return Control(f"{STEPS}, interpolated", speed, at)


def _p_value(ours: Floats, theirs: Floats, infinite: bool) -> float:
    """Of no difference, prompt by prompt. Beside infinite ones the larger p of both readings: with them left
    out, and with them counted at the cap."""
    capped = np.clip(ours, -CAP, CAP) - np.clip(theirs, -CAP, CAP)
    finite = capped[np.isfinite(ours) & np.isfinite(theirs)]
    if not infinite or len(finite) < 2:
        return stats.p_value(capped)
    if np.sign(finite.mean()) != np.sign(np.nanmean(capped)):
        return 1.0
    return max(stats.p_value(capped), stats.p_value(finite))


def decide(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """With `p` adjusted by Holm for the number of those that could decide something; where it is not below
    `ALPHA` nothing is decided."""
    tested = [math.nan if c.outcome == "not comparable" else c.p for c in comparisons]
    alpha = ALPHA / 2 / max(1, sum(not math.isnan(p) for p in tested))  # of Holm's first step, on each side
    return [
        replace(
            c, p=p, outcome="undecided" if c.decides and not p < ALPHA else c.outcome,
            shows=stats.power_margin(c.sd, c.gain.n, alpha=alpha),
        )
        for c, p in zip(comparisons, stats.holm(tested), strict=True)
    ]  # fmt: skip


def _outcome(gain: stats.Interval, control_faster: float) -> Outcome:
    """By the interval at equal time; at unequal time only a better quality that is also no slower
    decides."""
    quality = "better" if gain.low > 0 else "worse" if gain.high < 0 else "undecided"
    if gain.n < 2:
        quality = "undecided"
    if 1 / EQUAL_TIME <= control_faster <= EQUAL_TIME:
        return quality  # type: ignore[return-value]
    if quality == "better" and control_faster < 1:
        return "better"
    if quality == "worse" and control_faster > 1:
        return "worse"
    return "not comparable"
