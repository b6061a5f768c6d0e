"""What the paper claims and what the results say to it: judged by code, never written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ddit_eval.judging.controls import FIRST, Comparison
from ddit_eval.judging.equivalence import Kept, judged_metrics
from ddit_eval.judging.families import METHOD, has
from ddit_eval.judging.results import Results
from ddit_eval.judging.verdict import Verdict, firing
from ddit_eval.judging.wording import counted, gained, listed, probability, show, times

Found = Literal["reproduced", "not reproduced", "undecided", "not testable here", "not testable: clock"]

TWICE = 1.8  # measured speed-ups from here on count as "about 2x"; the paper's row has 2.18x
WITH_CACHE = 3.5


@dataclass(frozen=True)
class Claim:
    """A claim, what we found and the numbers that it was judged by."""

    claim: str
    found: Found
    evidence: str


def judge_claims(results: Results, verdict: Verdict, orders: Sequence[Comparison]) -> list[Claim]:
    """The paper's claims in its order; what has no data says why it is not testable."""
    against = [c for c in verdict.comparisons if c.kind == FIRST]
    kept = verdict.kept
    return [
        _compared(
            results,
            "Third differences make a better rule than first and second ones at equal time.",
            orders,
            "no order-3 row has a row of order 1 or 2 at comparable time, with its quality for each prompt",
        ),
        _compared(
            results,
            "A training-free dynamic schedule beats a static coarse-first one at equal time.",
            against,
            "no DDiT row has a coarse-first row at comparable time, with its quality for each prompt",
        ),
        _no_loss_at_twice(results, kept),
        _scored(results, kept, "The CLIP score does not drop.", "clip"),
        _scored(results, kept, "ImageReward does not drop.", "image-reward"),
        _cached(results, kept),
        # Measures of whole sets and of videos: the harness has them for folders, not for a profile's rows.
        _unmeasured(results, "FID rises by less than half a point at about 2x.", "FID"),
        _unmeasured(results, "On video, VBench loses less than half a point at about 2x.", "VBench"),
    ]


def _compared(results: Results, claim: str, comparisons: Sequence[Comparison], missing: str) -> Claim:
    """Reproduced where comparisons of every kind decide for the method and none against it."""
    if results.bad_clock:
        return Claim(claim, *_clock(results))
    could = [c for c in comparisons if c.outcome != "not comparable"]
    if not could:
        return Claim(claim, "not testable here", f"{missing[0].upper()}{missing[1:]}.")
    better, worse = ([c for c in could if c.outcome == way] for way in ("better", "worse"))
    found: Found = "undecided"
    if worse:
        found = "not reproduced"
    elif {c.kind for c in better} == {c.kind for c in could}:
        found = "reproduced"
    tally = (
        f"{len(better)} of {counted(len(could), 'comparison')} better, {len(worse)} worse, "
        f"{len(could) - len(better) - len(worse)} open"
    )
    shown = _one_a_kind([*better, *worse] or could)
    return Claim(claim, found, f"{tally}. {'; '.join(_told(results, c) for c in shown)}.")


def _one_a_kind(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Of each kind the comparison with the smallest p, losses before gains."""
    kinds = dict.fromkeys(c.kind for c in comparisons)
    by_kind = ([c for c in comparisons if c.kind == kind] for kind in kinds)
    return [min(same, key=lambda c: (c.outcome != "worse", c.p)) for same in by_kind]


def _told(results: Results, c: Comparison) -> str:
    column = results.column(c.metric)
    size = f"{c.shows:.{column.digits}f} {column.unit}".rstrip()
    shows = "" if c.decides or math.isnan(c.shows) else f", which show {size}"
    return (
        f"{c.method} at {c.speed:.2f}x against {c.control} at {c.control_speed:.2f}x: "
        f"{gained(c.gain, column)}, N = {c.gain.n}{shows}, {probability(c.p)}"
    )


def _no_loss_at_twice(results: Results, kept: Sequence[Kept]) -> Claim:
    claim = "No loss of quality at about twice the speed."
    if results.bad_clock:
        return Claim(claim, *_clock(results))
    speeds = {r.method: s for r in firing(results) if (s := results.speed(r)) is not None}
    if not speeds:
        return Claim(claim, "not testable here", "No DDiT row that fires was timed.")
    fast = [m for m in speeds if speeds[m].value >= TWICE]
    if not fast:
        most = max(speeds, key=lambda m: speeds[m].value)
        n = speeds[most].n or results.quality.n
        why = f"No DDiT row reaches {TWICE:g}x: the fastest is {most} at {times(speeds[most])}, N = {n}."
        return Claim(claim, "not testable here", why)
    names = judged_metrics(results)
    return _by_equivalence(claim, [k for k in kept if k.method in fast and k.metric in names], any)


def _scored(results: Results, kept: Sequence[Kept], claim: str, metric: str) -> Claim:
    """Every DDiT row keeps a score; `metric`: its name, or what the names of its stand-ins start with."""
    rows = [r.method for r in results.of_family(METHOD)]
    named = [m for m in results.quality.metrics if m == metric or m.startswith(f"{metric}-")]
    if not named:
        return _unmeasured(results, claim, metric)
    chosen = metric if metric in named else named[0]
    judged = _by_equivalence(claim, [k for k in kept if k.method in rows and k.metric == chosen], all)
    if chosen == metric or judged.found == "not testable here":
        return judged
    title = results.column(chosen).title
    return Claim(claim, judged.found, f"{judged.evidence} {title} stands in for the published score.")


def _by_equivalence(claim: str, same: Sequence[Kept], enough: Callable[[list[bool]], bool]) -> Claim:
    """`enough`: how many of the methods must keep all their metrics, any or all."""
    if not same:
        return Claim(claim, "not testable here", "No metric of this profile has a value for each prompt.")
    verdicts = {k.method: [other.verdict for other in same if other.method == k.method] for k in same}
    whole = [m for m, of in verdicts.items() if set(of) == {"kept"}]
    hurt = [m for m, of in verdicts.items() if "lost" in of]
    found: Found = "undecided"
    if enough([m in whole for m in verdicts]):
        found = "reproduced"
    elif (any if enough is all else all)([m in hurt for m in verdicts]):
        found = "not reproduced"
    said = [f"{word} by {listed(names)}" for word, names in (("kept", whole), ("lost", hurt)) if names]
    still = len(verdicts) - len({*whole, *hurt})
    said += [f"open for {counted(still, 'row')}"] if still else []
    text = f"{'; '.join(said)}, N = {same[0].test.loss.n}; losses and margins stand in the matrix."
    return Claim(claim, found, text[0].upper() + text[1:])


def _cached(results: Results, kept: Sequence[Kept]) -> Claim:
    """Every row of both, by its measured speed-up and by whether it keeps every judged metric: one is
    enough, and where none can be as fast at no loss it is not reproduced."""
    claim = f"With a step cache on top, about {WITH_CACHE:g}x."
    if results.bad_clock:
        return Claim(claim, *_clock(results))
    both = [r for r in results.rows if has(r, "cache") and r.coarse_share > 0]
    if not both:
        return Claim(claim, "not testable here", "No row of this profile combines coarse steps with a cache.")
    speeds = {r.method: results.speed(r) for r in both}
    if not any(speeds.values()):
        return Claim(claim, "not testable here", f"{listed([r.method for r in both])} was not timed.")
    names = judged_metrics(results)
    outcomes, told = set[Found](), []
    for method, s in sorted(speeds.items(), key=lambda pair: -pair[1].value if pair[1] else 0.0):
        tests = [k for k in kept if k.method == method and k.metric in names]
        if (s and s.high < WITH_CACHE) or "lost" in {k.verdict for k in tests}:
            outcomes.add("not reproduced")
        elif s and s.low >= WITH_CACHE and tests and [k.verdict for k in tests] == ["kept"] * len(names):
            outcomes.add("reproduced")
        else:
            outcomes.add("undecided")
        columns = ((k, results.column(k.metric)) for k in tests)
        losses = [f"{c.title} {k.verdict}, loss {show(k.test.loss, c, plus=True)}" for k, c in columns]
        quality = "; ".join(losses) or "no metric with a margin tells whether the quality is kept"
        speed = f"{times(s)}, N = {s.n or results.quality.n}" if s else "not timed"
        told.append(f"{method}: {speed}; {quality}.")
    found: Found = "not reproduced" if outcomes == {"not reproduced"} else "undecided"
    return Claim(claim, "reproduced" if "reproduced" in outcomes else found, " ".join(told))


def _clock(results: Results) -> tuple[Found, str]:
    why = results.bad_clock or ""
    return "not testable: clock", f"{why[:1].upper()}{why[1:]}."


def _unmeasured(results: Results, claim: str, metric: str) -> Claim:
    why = f"{metric} was not measured on {results.quality.n} prompts of {results.quality.model}."
    return Claim(claim, "not testable here", why)
