"""Does the method beat its simple controls at equal time? Read off paired differences, never written by hand.

A DDiT row is compared with the control of each kind whose measured speed-up is nearest, prompt by prompt, and with
the fewer-steps curve interpolated at its own speed-up: fewer steps is a knob that can be set to any time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ddit_eval import stats
from ddit_eval.report.results import Floats, Json, Results, coarse_share

Outcome = Literal["better", "worse", "undecided", "not comparable"]
Standing = Literal["beaten", "beats it", "mixed", "undecided", "absent"]

EQUAL_TIME = 1.1  # speed-ups within this factor count as equal time
CAP = 100.0  # dB; stands for an infinite PSNR where a finite number is needed (8-bit pictures differ below 90)
STEPS = "fewer steps"
CONTROLS = (STEPS, "coarse-first", "random")


@dataclass(frozen=True)
class Comparison:
    """A method against a control on one metric. `gain` > 0 means that the method is better, whatever the metric's
    direction; speeds are measured speed-ups over the base."""

    method: str
    control: str
    kind: str
    metric: str
    speed: float
    control_speed: float
    gain: stats.Interval
    outcome: Outcome


@dataclass(frozen=True)
class Verdict:
    """The standing of each kind of control, the comparisons behind it, and the sentence that opens the report."""

    line: str
    standings: dict[str, Standing]
    comparisons: list[Comparison]


def judge(results: Results) -> Verdict:
    """Compare every DDiT row that fires with each kind of control, on every deciding metric."""
    rows = [r for r in results.rows if results.family(r) == "DDiT" and coarse_share(r) > 0]
    comparisons = [
        found
        for metric in results.deciding()
        for row in rows
        for kind in CONTROLS
        if (found := compare(results, row, kind, metric)) is not None
    ]
    standings = {kind: _standing([c for c in comparisons if c.kind == kind]) for kind in CONTROLS}
    return Verdict(_line(results, rows, standings, comparisons), standings, comparisons)


def compare(results: Results, row: Json, kind: str, metric: str) -> Comparison | None:
    """`row` against the nearest control of a kind; None where either was not timed or there is no such control."""
    speed, ours = results.speed(row), results.samples.get(row["method"], {}).get(metric)
    if speed is None or ours is None:
        return None
    if kind == STEPS:
        control = fewer_steps_at(results, speed.value, metric)
    else:
        control = nearest(results, [r for r in results.rows if r["policy"]["kind"] == kind], speed.value, metric)
    return None if control is None else _against(results, row, speed.value, ours, kind, control, metric)


@dataclass(frozen=True)
class Control:
    """What a method is compared with: its name, its speed-up and its value for each prompt."""

    name: str
    speed: float
    values: Floats


def nearest(results: Results, rows: Sequence[Json], speed: float, metric: str) -> Control | None:
    """The row whose measured speed-up is nearest to `speed`, as a ratio."""
    controls = [
        Control(row["method"], timed.value, results.samples[row["method"]][metric])
        for row in rows
        if (timed := results.speed(row)) is not None and metric in results.samples.get(row["method"], {})
    ]
    return min(controls, key=lambda c: (abs(math.log(c.speed / speed)), c.name), default=None)


def fewer_steps_at(results: Results, speed: float, metric: str) -> Control | None:
    """Fewer steps at a speed-up: each prompt's value interpolated over log speed-up (PCHIP, which keeps monotone
    data monotone: Fritsch and Butland 1984). Outside the measured range the nearest row as it is, at its own speed.
    The base itself is the end at 1x where its value is finite."""
    rows = [r for r in results.rows if results.family(r) in (STEPS, "base")]
    points: dict[float, Control] = {}
    for row in rows:
        control = nearest(results, [row], speed, metric)
        finite = control is not None and np.isfinite(control.values[~np.isnan(control.values)]).any()
        if control is not None and (finite or results.family(row) == STEPS):
            points.setdefault(round(control.speed, 6), control)
    controls = [points[key] for key in sorted(points)]
    if not any(c.name != results.quality["reference"] for c in controls):
        return None
    if not controls[0].speed <= speed <= controls[-1].speed:
        return min(controls, key=lambda c: abs(math.log(c.speed / speed)))
    if len(controls) == 1:
        return controls[0]
    from scipy.interpolate import PchipInterpolator

    values = np.clip(np.stack([c.values for c in controls]), -CAP, CAP)
    asked = ~np.isnan(values).any(axis=0)
    at = np.full(values.shape[1], math.nan)
    if asked.any():
        curve = PchipInterpolator(np.log([c.speed for c in controls]), values[:, asked], axis=0)
        at[asked] = curve(math.log(speed))
    return Control(f"{STEPS}, interpolated", speed, at)


def _against(
    results: Results, row: Json, speed: float, ours: Floats, kind: str, control: Control, metric: str
) -> Comparison | None:
    if len(ours) != len(control.values):
        return None  # other prompts: nothing is paired
    sign = -1.0 if results.direction(metric) == "lower" else 1.0
    gain = stats.paired_difference(sign * ours, sign * control.values)
    if not gain.n:
        return None
    outcome = _outcome(gain, control.speed / speed)
    if gain.infinite:
        # Pictures equal to the base have an infinite PSNR, which no mean can hold: the verdict must be the same
        # with them left out and with them counted at the cap.
        capped = stats.paired_difference(*(np.clip(sign * v, -CAP, CAP) for v in (ours, control.values)))
        if math.isinf(gain.value):
            gain = replace(capped, infinite=gain.infinite)
            outcome = _outcome(gain, control.speed / speed)
        elif _outcome(capped, control.speed / speed) != outcome:
            outcome = "undecided"
    return Comparison(row["method"], control.name, kind, metric, speed, control.speed, gain, outcome)


def _outcome(gain: stats.Interval, control_faster: float) -> Outcome:
    """By the interval at equal time; at unequal time only a better quality that is also no slower decides."""
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


def _standing(comparisons: Sequence[Comparison]) -> Standing:
    """How a kind of control stands against the method over all its rows and metrics."""
    outcomes = {c.outcome for c in comparisons} - {"not comparable"}
    if not outcomes:
        return "absent"
    if {"better", "worse"} <= outcomes:
        return "mixed"
    return "beaten" if "better" in outcomes else "beats it" if "worse" in outcomes else "undecided"


def _line(
    results: Results, rows: Sequence[Json], standings: dict[str, Standing], comparisons: Sequence[Comparison]
) -> str:
    def of(standing: Standing) -> list[str]:
        return [kind for kind, is_ in standings.items() if is_ == standing]

    if not rows:
        return "No verdict: no DDiT row ran a coarse step, so there is nothing to compare; see its tau below."
    if all(s == "absent" for s in standings.values()):
        missing = "no method was timed" if results.timing is None else "no control ran at a comparable time"
        return f"No verdict: {missing}."
    wins, losses, mixed, open_ = of("beaten"), of("beats it"), of("mixed"), of("undecided")
    parts = []
    if losses:
        verb = "beats" if len(losses) == 1 else "beat"
        parts.append(f"A simple baseline wins: {_and(losses)} {verb} DDiT at equal time{_most_telling(comparisons, losses)}")
    for kind in mixed:
        same = [c.outcome for c in comparisons if c.kind == kind]
        parts.append(
            f"DDiT against {kind} at equal time is mixed: better in {same.count('better')} comparisons, "
            f"worse in {same.count('worse')}"
        )
    if wins:
        clean = not (losses or mixed or open_)
        every = "every simple control: " if clean and len(wins) == len(CONTROLS) else ""
        parts.append(f"DDiT beats {every}{_and(wins)} at equal time{_most_telling(comparisons, wins)}")
    if open_:
        parts.append(f"between DDiT and {_and(open_)} nothing is decided at equal time (the intervals include zero)")
    if absent := of("absent"):
        parts.append(f"no {_and(absent, 'or')} row ran at a comparable time")
    line = "; ".join(parts) + "."
    return line[0].upper() + line[1:]


def _most_telling(comparisons: Sequence[Comparison], kinds: Sequence[str]) -> str:
    """For each kind how many comparisons agree, and the clearest one on the first metric that decides."""
    told = []
    for kind in kinds:
        same = [c for c in comparisons if c.kind == kind and c.outcome != "not comparable"]
        decided = [c for c in same if c.outcome in ("better", "worse")]
        if not decided:
            continue
        clearest = max((c for c in decided if c.metric == decided[0].metric), key=lambda c: abs(c.gain.value))
        agree = sum(c.outcome == clearest.outcome for c in same)
        told.append(
            f"{agree} of {len(same)} comparisons, e.g. {clearest.method} at {clearest.speed:.2f}x against "
            f"{clearest.control} at {clearest.control_speed:.2f}x: {signed(clearest.gain, clearest.metric)}"
        )
    return f" ({'; '.join(told)})" if told else ""


def signed(gain: stats.Interval, metric: str) -> str:
    """ "+2.3 dB psnr [1.9, 2.7]": positive where the method is better."""
    unit = "dB " if metric == "psnr" else ""
    digits = 2 if metric == "psnr" else 3
    return f"{gain.value:+.{digits}f} {unit}{metric} [{gain.low:+.{digits}f}, {gain.high:+.{digits}f}]"


def _and(names: Sequence[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def compare_orders(results: Results) -> list[Comparison]:
    """The order-3 rows against the rows of orders 1 and 2 whose speed-up is nearest; kind "order N"."""
    rows = [r for r in results.rows if results.family(r) == "DDiT" and coarse_share(r) > 0]
    found = []
    for metric in results.deciding():
        for row in (r for r in rows if r["policy"]["order"] == 3):
            speed, ours = results.speed(row), results.samples.get(row["method"], {}).get(metric)
            for order in (1, 2):
                others = [r for r in rows if r["policy"]["order"] == order]
                if speed is None or ours is None or (near := nearest(results, others, speed.value, metric)) is None:
                    continue
                made = _against(results, row, speed.value, ours, f"order {order}", near, metric)
                if made is not None:
                    found.append(made)
    return found


def orders_line(comparisons: Sequence[Comparison]) -> str:
    """One sentence: does order 3 beat orders 1 and 2 at equal time?"""
    said = {
        "beaten": "beats", "beats it": "loses to", "mixed": "is mixed against",
        "undecided": "is not shown to beat or lose to", "absent": "has no row at equal time to compare with",
    }  # fmt: skip
    parts = [
        f"{said[_standing([c for c in comparisons if c.kind == kind])]} {kind}" for kind in ("order 1", "order 2")
    ]
    return f"Order 3 {parts[0]} and {parts[1]}."
