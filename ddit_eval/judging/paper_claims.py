"""What the paper claims and what the results say to it: judged by code, never written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ddit_eval.judging.controls import Comparison, holm, signed
from ddit_eval.judging.equivalence import ALPHA, Kept, judged_metrics
from ddit_eval.judging.results import Results, coarse_share
from ddit_eval.judging.verdict import Verdict

Found = Literal["reproduced", "not reproduced", "undecided", "not testable here"]

TWICE = 1.8  # measured speed-ups from here on count as "about 2x"; the paper's row has 2.18x
WITH_CACHE = 3.5


@dataclass(frozen=True)
class Claim:
    """A claim, what we found and the numbers that it was judged by."""

    claim: str
    found: Found
    evidence: str


def judge_claims(
    results: Results, verdict: Verdict, orders: Sequence[Comparison], kept: Sequence[Kept]
) -> list[Claim]:
    """The paper's claims in its order; what has no data says why it is not testable."""
    against = [c for c in verdict.comparisons if c.kind == "coarse-first"]
    return [
        _compared(
            "Third differences make a better rule than first and second ones at equal time.",
            orders,
            "no order-3 row has a row of order 1 or 2 at comparable time, with its quality for each prompt",
        ),
        _compared(
            "A training-free dynamic schedule beats a static coarse-first one at equal time.",
            against,
            "no DDiT row has a coarse-first row at comparable time, with its quality for each prompt",
        ),
        _no_loss_at_twice(results, kept),
        _scored(results, kept, "The CLIP score does not drop.", "clip"),
        _scored(results, kept, "ImageReward does not drop.", "image-reward"),
        _cached(results),
        # Measures of whole sets and of videos: the harness has them for folders, not for a profile's rows.
        _unmeasured(results, "FID rises by less than half a point at about 2x.", "FID"),
        _unmeasured(results, "On video, VBench loses less than half a point at about 2x.", "VBench"),
    ]


def _compared(claim: str, comparisons: Sequence[Comparison], missing: str) -> Claim:
    """Reproduced where comparisons decide for the method after Holm's adjustment and none against it."""
    adjusted = holm(comparisons)
    if not adjusted:
        return Claim(claim, "not testable here", f"{missing[0].upper()}{missing[1:]}.")
    decided = {c: p for c, p in adjusted.items() if p < ALPHA and c.outcome in ("better", "worse")}
    better = [c for c in decided if c.outcome == "better"]
    worse = [c for c in decided if c.outcome == "worse"]
    kinds = {c.kind for c in adjusted}
    found: Found = "undecided"
    if worse:
        found = "not reproduced"
    elif {c.kind for c in better} == kinds:
        found = "reproduced"
    tally = (
        f"{len(better)} of {len(adjusted)} comparisons better, {len(worse)} worse, "
        f"{len(adjusted) - len(decided)} open (Holm, {ALPHA:.0%})"
    )
    shown = _one_a_kind(decided or adjusted)
    return Claim(claim, found, f"{tally}. {'; '.join(_told(c, adjusted[c]) for c in shown)}.")


def _one_a_kind(comparisons: dict[Comparison, float]) -> list[Comparison]:
    """Of each kind the comparison with the smallest p, losses before gains."""
    kinds = dict.fromkeys(c.kind for c in comparisons)
    by_kind = ([c for c in comparisons if c.kind == kind] for kind in kinds)
    return [min(same, key=lambda c: (c.outcome != "worse", comparisons[c])) for same in by_kind]


def _told(c: Comparison, p: float) -> str:
    return (
        f"{c.method} at {c.speed:.2f}x against {c.control} at {c.control_speed:.2f}x: "
        f"{signed(c.gain, c.metric)}, N = {c.gain.n}, {probability(p)}"
    )


def _no_loss_at_twice(results: Results, kept: Sequence[Kept]) -> Claim:
    claim = "No loss of quality at about twice the speed."
    speeds = {
        r["method"]: s
        for r in results.rows
        if results.family(r) == "DDiT" and coarse_share(r) > 0 and (s := results.speed(r)) is not None
    }
    if not speeds:
        return Claim(claim, "not testable here", "No DDiT row that fires was timed.")
    fast = [m for m in speeds if speeds[m].value >= TWICE]
    if not fast:
        most = max(speeds, key=lambda m: speeds[m].value)
        s = speeds[most]
        return Claim(
            claim,
            "not testable here",
            f"No DDiT row reaches {TWICE:g}x: the fastest is {most} at {s.value:.2f}x "
            f"[{s.low:.2f}, {s.high:.2f}], N = {s.n or results.quality['n']}.",
        )
    names = judged_metrics(results)
    return _by_equivalence(claim, [k for k in kept if k.method in fast and k.metric in names], any)


def _scored(results: Results, kept: Sequence[Kept], claim: str, metric: str) -> Claim:
    """Every DDiT row keeps a score; `metric`: its name, or what the names of its stand-ins start with."""
    rows = [r["method"] for r in results.rows if results.family(r) == "DDiT"]
    stand_ins = [m for m in results.quality["metrics"] if m.startswith(f"{metric}-")]
    chosen = metric if metric in results.quality["metrics"] else next(iter(stand_ins), None)
    if chosen is None:
        return _unmeasured(results, claim, metric)
    judged = _by_equivalence(claim, [k for k in kept if k.method in rows and k.metric == chosen], all)
    if chosen == metric or judged.found == "not testable here":
        return judged
    return Claim(claim, judged.found, f"{judged.evidence} {chosen} stands in for the published score.")


def _by_equivalence(claim: str, same: Sequence[Kept], enough: Callable[[list[bool]], bool]) -> Claim:
    """`enough`: how many of the methods must keep all their metrics, any or all."""
    if not same:
        return Claim(claim, "not testable here", "No metric of this profile has a value for each prompt.")
    methods = dict.fromkeys(k.method for k in same)
    whole = [all(k.verdict == "kept" for k in same if k.method == m) for m in methods]
    hurt = [any(k.verdict == "lost" for k in same if k.method == m) for m in methods]
    found: Found = "undecided"
    if enough(whole):
        found = "reproduced"
    elif (any if enough is all else all)(hurt):
        found = "not reproduced"
    parts = [
        f"{k.method}, {k.metric}: loss {k.test.loss.value:+.3f} [{k.test.loss.low:+.3f}, "
        f"{k.test.loss.high:+.3f}] against a margin of {k.test.margin:g}, N = {k.test.loss.n}, "
        f"{probability(k.p_kept)} ({k.verdict})"
        for k in same
    ]
    return Claim(claim, found, f"{'; '.join(parts)}. 90 % intervals, Holm.")


def _cached(results: Results) -> Claim:
    claim = f"With a step cache on top, about {WITH_CACHE:g}x."
    caching = [r["method"] for r in results.rows if "cache" in str(r["policy"]) and coarse_share(r) > 0]
    timed = {m: s for m in caching if (s := results.speed(results.row(m))) is not None}
    if not timed:
        return Claim(claim, "not testable here", "No row of this profile combines coarse steps with a cache.")
    best = max(timed, key=lambda m: timed[m].value)
    s = timed[best]
    found: Found = (
        "reproduced" if s.low >= WITH_CACHE else "not reproduced" if s.high < WITH_CACHE else "undecided"
    )
    return Claim(claim, found, f"{best}: {s.value:.2f}x [{s.low:.2f}, {s.high:.2f}], N = {s.n}.")


def _unmeasured(results: Results, claim: str, metric: str) -> Claim:
    quality = results.quality
    what = f"{quality['n']} prompts of {quality['model']}, profile {quality['profile']}"
    return Claim(claim, "not testable here", f"{metric} was not measured on {what}.")


def probability(p: float) -> str:
    """ "p = 0.012"; "p < 0.001" below that."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
