"""Does the method beat its simple controls at equal time? Read off paired differences, never written by hand.

A DDiT row is compared with the control of each kind whose measured speed-up is nearest, prompt by prompt,
and with the fewer-steps curve interpolated at its own speed-up: fewer steps is a knob that can be set to
any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ddit_eval.judging.controls import (
    COMBINED,
    CONTROLS,
    STEPS,
    Comparison,
    against,
    compare,
    nearest,
    signed,
)
from ddit_eval.judging.equivalence import Kept, fastest_kept, judged_metrics, keep
from ddit_eval.judging.results import Json, Results, coarse_share
from ddit_eval.stats import Interval

Standing = Literal["beaten", "beats it", "mixed", "undecided", "absent"]


@dataclass(frozen=True)
class Verdict:
    """The standing of each kind of control, the comparisons behind it, which methods keep the quality, and
    the report's first line."""

    line: str
    standings: dict[str, Standing]
    comparisons: list[Comparison]
    kept: list[Kept] = field(default_factory=list)


def judge(results: Results) -> Verdict:
    """Compare every DDiT row that fires with each kind of control, on every deciding metric."""
    rows = [r for r in results.rows if results.family(r) == "DDiT" and coarse_share(r) > 0]
    comparisons = compare_all(results, rows)
    standings = {kind: _standing([c for c in comparisons if c.kind == kind]) for kind in CONTROLS}
    kept = keep(results)
    line = _line(results, rows, standings, comparisons)
    if rows and results.timing is not None and (headline := _headline(results, kept)):
        line = f"{headline} {line}"
    return Verdict(line, standings, comparisons, kept)


def _headline(results: Results, kept: Sequence[Kept]) -> str:
    """How much faster at no measurable loss, and what fewer steps gives in the same way; empty where no
    metric can tell."""
    judged = [k for k in kept if k.metric in judged_metrics(results)]
    if not judged:
        return ""
    margins = _and([f"{k.test.margin:g} {k.metric}" for k in {k.metric: k for k in judged}.values()])
    ours, theirs = (fastest_kept(results, kept, family) for family in ("DDiT", STEPS))
    if ours is None:
        first = (
            f"No DDiT row is shown to be faster at no measurable loss (within {margins}, "
            f"{results.quality['n']} prompts)"
        )
    else:
        first = f"DDiT is {_times(ours)} faster at no measurable loss ({ours[0]}, within {margins})"
    if theirs is None:
        return f"{first}; nor is any row of fewer steps." if ours is None else f"{first}; fewer steps is not."
    verb = "fewer steps is" if ours is None else "fewer steps reaches"
    return f"{first}; {verb} {'' if ours else 'at '}{_times(theirs)} ({theirs[0]})."


def _times(found: tuple[str, Interval]) -> str:
    speed = found[1]
    return f"{speed.value:.2f}x [{speed.low:.2f}, {speed.high:.2f}]"


def compare_all(results: Results, rows: Sequence[Json]) -> list[Comparison]:
    """The rows with each kind of control on every deciding metric, as far as there are such controls."""
    return [
        found
        for metric in results.deciding()
        for row in rows
        for kind in CONTROLS
        if (found := compare(results, row, kind, metric)) is not None
    ]


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
        beat = f"{_and(losses)} {'beats' if len(losses) == 1 else 'beat'} DDiT at equal time"
        parts.append(f"A simple baseline wins: {beat}{_most_telling(comparisons, losses)}")
    for kind in mixed:
        same = [c.outcome for c in comparisons if c.kind == kind]
        parts.append(
            f"DDiT against {kind} at equal time is mixed: better in {same.count('better')} comparisons, "
            f"worse in {same.count('worse')}"
        )
    if wins:
        all_of_them = {*CONTROLS} - {COMBINED} <= {*wins} and not (losses or mixed or open_)
        every = "every simple control: " if all_of_them else ""
        parts.append(f"DDiT beats {every}{_and(wins)} at equal time{_most_telling(comparisons, wins)}")
    if open_:
        parts.append(
            f"between DDiT and {_and(open_)} nothing is decided at equal time (the intervals include zero)"
        )
    if absent := [kind for kind in of("absent") if kind != COMBINED]:
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
                if (
                    speed is None
                    or ours is None
                    or (near := nearest(results, others, speed.value, metric)) is None
                ):
                    continue
                made = against(results, row, speed.value, ours, f"order {order}", near, metric)
                if made is not None:
                    found.append(made)
    return found


def orders_line(comparisons: Sequence[Comparison]) -> str:
    """One sentence: does order 3 beat orders 1 and 2 at equal time?"""
    said = {
        "beaten": "beats",
        "beats it": "loses to",
        "mixed": "is mixed against",
        "undecided": "is not shown to beat or lose to",
        "absent": "has no row at equal time to compare with",
    }
    parts = [
        f"{said[_standing([c for c in comparisons if c.kind == kind])]} {kind}"
        for kind in ("order 1", "order 2")
    ]
    return f"Order 3 {parts[0]} and {parts[1]}."
