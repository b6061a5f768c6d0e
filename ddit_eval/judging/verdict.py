"""Does the method beat its simple controls at equal time? Read off paired differences, never written by hand.

A DDiT row is compared with the control of each kind whose measured speed-up is nearest, prompt by prompt,
and with the fewer-steps curve interpolated at its own speed-up: fewer steps is a knob that can be set to
any time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ddit_eval.judging.controls import CONTROLS, OPTIONAL, Comparison, compare, decide
from ddit_eval.judging.equivalence import Kept, enough_prompts, fastest_kept, judged_metrics, keep
from ddit_eval.judging.families import BASE, METHOD, MIXED, NULL, RIVALS, SAID, SETUP, STEPS
from ddit_eval.judging.margins import NAMES
from ddit_eval.judging.results import Results
from ddit_eval.judging.wording import counted, gained, listed, times
from ddit_eval.schema.quality import Row

Standing = Literal["beaten", "beats it", "mixed", "undecided", "absent"]


@dataclass(frozen=True)
class Verdict:
    """The standing of each kind of control, the comparisons behind it (adjusted for their number), which
    methods keep the quality, and the report's first line."""

    line: str
    standings: dict[str, Standing]
    comparisons: list[Comparison]
    kept: list[Kept]


def judge(results: Results) -> Verdict:
    """Compare every DDiT row that fires with each kind of control, on every deciding metric."""
    rows = firing(results)
    comparisons = compare_all(results, rows)
    kinds = [kind for kind in CONTROLS if kind not in RIVALS or results.of_family(kind)]
    standings = {kind: _standing([c for c in comparisons if c.kind == kind]) for kind in kinds}
    kept = keep(results)
    line = _line(results, rows, standings, comparisons)
    if rows and results.timing is not None and (headline := _headline(results, kept)):
        line = f"{headline} {line}"
    if results.bad_clock:
        line = f"The clock decides nothing here, FLOPs stand in for time: {results.bad_clock}. {line}"
    return Verdict(line, standings, comparisons, kept)


def _headline(results: Results, kept: Sequence[Kept]) -> str:
    """How much faster at no measurable loss, and what fewer steps gives in the same way; empty where no
    metric can tell."""
    metrics = {k.metric for k in kept}
    names = [m for m in judged_metrics(results) if m in metrics]
    if not names:
        return ""
    margins = within(results, names)
    ours = fastest_kept(results, kept, [METHOD])
    theirs = fastest_kept(results, kept, [STEPS, *RIVALS])
    faster = "cheaper in FLOPs" if results.bad_clock else "faster"
    if ours is None:
        first = (
            f"No DDiT row is shown to be {faster} at no measurable loss (within {margins}, "
            f"{results.quality.n} prompts{_too_few(results, kept)})"
        )
    else:
        first = f"DDiT is {times(ours[1])} {faster} at no measurable loss ({ours[0]}, within {margins})"
    if theirs is None:
        others = listed(["fewer steps", *[f for f in RIVALS if results.of_family(f)]], "or")
        return f"{first}; nor is any row of {others}." if ours is None else f"{first}; no {others} is."
    who = said(results.family(results.row(theirs[0])))
    verb = "is" if ours is None else "reaches"
    return f"{first}; {who} {verb} {'at ' if ours is None else ''}{times(theirs[1])} ({theirs[0]})."


def within(results: Results, metrics: Sequence[str]) -> str:
    """The margins of these metrics in words, with the name that they were asked for by."""
    each = listed([f"{results.margin(m)} {results.column(m).title}" for m in metrics])
    name = NAMES.get(results.margins, "") if isinstance(results.margins, str) else ""
    return f"{name}{each}"


def _too_few(results: Results, kept: Sequence[Kept]) -> str:
    enough = enough_prompts(results, kept, METHOD)
    if enough is None or enough <= results.quality.n:
        return ""
    return f", too few for that: {enough} could show it"


def said(kind: str) -> str:
    """A kind of control as the subject of a sentence."""
    return SAID.get(kind, kind)


def firing(results: Results) -> list[Row]:
    """The DDiT rows that ran a coarse step."""
    return [r for r in results.of_family(METHOD) if r.coarse_share > 0]


def compare_all(results: Results, rows: Sequence[Row]) -> list[Comparison]:
    """The rows with each kind of control on every deciding metric, as far as there are such controls."""
    pairs = [
        found
        for metric in results.deciding()
        for row in rows
        for kind in CONTROLS
        if kind != results.family(row) and (found := compare(results, row, kind, metric)) is not None
    ]
    return decide(pairs)


def compare_others(results: Results) -> dict[str, list[Comparison]]:
    """The rows of every family that is neither DDiT nor base nor fewer steps nor coarse-first nor random, by
    family; each adjusted for its own number. No part of the verdict."""
    controls = {results.family(r) for r in results.rows if results.control(r)}
    families = dict.fromkeys(map(results.family, results.rows))
    others = [f for f in families if f not in {BASE, NULL, STEPS, METHOD, *controls}]
    compared = {f: compare_all(results, results.of_family(f)) for f in others}
    return {family: comparisons for family, comparisons in compared.items() if comparisons}


def _standing(comparisons: Sequence[Comparison]) -> Standing:
    """How a kind of control stands against the method over all its rows and metrics."""
    outcomes = {c.outcome for c in comparisons} - {"not comparable"}
    if not outcomes:
        return "absent"
    if {"better", "worse"} <= outcomes:
        return "mixed"
    return "beaten" if "better" in outcomes else "beats it" if "worse" in outcomes else "undecided"


def _line(
    results: Results, rows: Sequence[Row], standings: dict[str, Standing], comparisons: Sequence[Comparison]
) -> str:
    def of(standing: Standing) -> list[str]:
        return [kind for kind, is_ in standings.items() if is_ == standing]

    def named(kinds: Sequence[str]) -> str:
        return listed([*map(said, kinds)])

    if not rows:
        return "No verdict: no DDiT row ran a coarse step, so there is nothing to compare; see its tau below."
    if all(s == "absent" for s in standings.values()):
        missing = "no method was timed" if results.timing is None else "no control ran at a comparable time"
        return f"No verdict: {missing}."
    wins, losses, mixed, open_ = of("beaten"), of("beats it"), of("mixed"), of("undecided")
    parts = []
    if losses:
        beat = f"{named(losses)} {'beats' if len(losses) == 1 else 'beat'} DDiT {results.equally}"
        who = "A rival" if {*losses} <= {MIXED, SETUP} else "A simple baseline"
        parts.append(f"{who} wins: {beat}{_most_telling(results, comparisons, losses)}")
    for kind in mixed:
        same = [c.outcome for c in comparisons if c.kind == kind]
        parts.append(
            f"DDiT against {said(kind)} {results.equally} is mixed: better in "
            f"{counted(same.count('better'), 'comparison')}, worse in {same.count('worse')}"
        )
    if wins:
        all_of_them = {*_expected(results)} <= {*wins} and not (losses or mixed or open_)
        beaten = f"{'every simple control: ' if all_of_them else ''}{named(wins)}"
        parts.append(f"DDiT beats {beaten} {results.equally}{_most_telling(results, comparisons, wins)}")
    if open_:
        parts.append(
            f"between DDiT and {named(open_)} nothing is decided {results.equally} (after Holm's adjustment"
            f"{_could_show(results, comparisons, open_)})"
        )
    if absent := [kind for kind in of("absent") if kind in _expected(results)]:
        parts.append(f"no {listed(absent, 'or')} row ran at a comparable time")
    line = "; ".join(parts) + "."
    return line[0].upper() + line[1:]


def _could_show(results: Results, comparisons: Sequence[Comparison], kinds: Sequence[str]) -> str:
    """What so many prompts show at least, of the first metric that decides."""
    metric = results.deciding()[0]
    same = [c for c in comparisons if c.kind in kinds and c.metric == metric and c.outcome == "undecided"]
    least = min((c for c in same if not math.isnan(c.shows)), key=lambda c: c.shows, default=None)
    if least is None:
        return ""
    column, n = results.column(metric), counted(least.gain.n, "prompt")
    return f"; {n} show {least.shows:.{column.digits}f} {column.unit or column.title} at best"


def _expected(results: Results) -> list[str]:
    """The kinds of control that an experiment should have, and those of the others that it has."""
    return [kind for kind in CONTROLS if kind not in OPTIONAL or results.of_family(kind)]


def _most_telling(results: Results, comparisons: Sequence[Comparison], kinds: Sequence[str]) -> str:
    """For each kind how many comparisons agree, and the clearest one on the first metric that decides."""
    told = []
    for kind in kinds:
        same = [c for c in comparisons if c.kind == kind and c.outcome != "not comparable"]
        decided = [c for c in same if c.decides]
        if not decided:
            continue
        clearest = max((c for c in decided if c.metric == decided[0].metric), key=lambda c: abs(c.gain.value))
        agree = sum(c.outcome == clearest.outcome for c in same)
        gain = gained(clearest.gain, results.column(clearest.metric))
        told.append(
            f"{agree} of {counted(len(same), 'comparison')}, e.g. {clearest.method} at "
            f"{clearest.speed:.2f}x against {clearest.control} at {clearest.control_speed:.2f}x: {gain}"
        )
    return f" ({'; '.join(told)})" if told else ""


def compare_orders(results: Results) -> list[Comparison]:
    """The order-3 rows against the rows of orders 1 and 2 whose speed-up is nearest; kind "order N"."""
    rows = firing(results)
    first, second, third = ([r for r in rows if r.policy.get("order") == order] for order in (1, 2, 3))
    compared = [
        compare(results, row, kind, metric, others)
        for metric in results.deciding()
        for row in third
        for kind, others in (("order 1", first), ("order 2", second))
    ]
    return decide([c for c in compared if c is not None])
