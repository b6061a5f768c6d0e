"""The parts of the report that judge: claims, comparisons at equal time, kept quality."""

from __future__ import annotations

from collections.abc import Sequence

from ddit_eval.judging.controls import EQUAL_TIME, Comparison, holm, signed
from ddit_eval.judging.equivalence import ALPHA, Kept, margin
from ddit_eval.judging.paper_claims import judge_claims, probability
from ddit_eval.judging.results import Results
from ddit_eval.judging.verdict import Verdict, compare_all, orders_line
from ddit_eval.judging.wording import amount, label
from ddit_eval.report.blocks import Block, Bullets, Claims, Folded, Table, Text


def claims(results: Results, verdict: Verdict, orders: list[Comparison]) -> list[Block]:
    note = (
        "Judged by code from the results of this profile alone: another model at another size, so a claim "
        "that is not reproduced here is not refuted there. Reproduced needs an adjusted p below "
        f"{ALPHA:g} for every part of a claim; not reproduced needs one against it."
    )
    return [Text(note), Claims(judge_claims(results, verdict, orders, verdict.kept))]


def controls(results: Results, verdict: Verdict) -> list[Block]:
    if not verdict.comparisons:
        return [Text("No comparison could be made.")]
    note = (
        "Gain is paired by prompt and positive where DDiT is better. Each control is the row of its kind "
        "with the nearest measured speed-up; fewer steps is interpolated at DDiT's own speed-up where it was "
        f"measured on both sides. Speed-ups within a factor of {EQUAL_TIME:g} count as equal time; "
        "otherwise a comparison decides only if the better one is not slower."
    )
    standings = ", ".join(f"{kind}: {standing}" for kind, standing in verdict.standings.items())
    statements = Bullets(over_under(verdict.comparisons))
    blocks: list[Block] = [
        Text(note),
        Text(f"Standing of the controls: {standings}."),
        Text(holm_note(verdict.comparisons)),
        Folded("In words", [statements]),
        comparisons_table(verdict.comparisons),
    ]
    for family in ("budget", "calibrated"):
        ours = compare_all(results, [r for r in results.rows if results.family(r) == family])
        if ours:
            blocks.append(Folded(f"The {family} rule (no part of the verdict)", [Bullets(over_under(ours))]))
    return blocks


def holm_note(comparisons: Sequence[Comparison]) -> str:
    """How many decisions are left when so many comparisons are made at once."""
    adjusted = holm(comparisons)
    decided = [c for c in adjusted if c.outcome in ("better", "worse")]
    left = [c for c in decided if adjusted[c] < ALPHA]
    lost = [f"{c.method} against {c.control} on {label(c.metric)}" for c in decided if c not in left]
    rest = f"; no longer decided: {', '.join(lost)}" if lost else ""
    return (
        f"{len(decided)} of {len(adjusted)} comparisons are decided by their own interval, {len(left)} of "
        f"them also after Holm's adjustment for all {len(adjusted)} at {ALPHA:.0%}{rest}."
    )


def over_under(comparisons: list[Comparison]) -> list[str]:
    """One sentence a DDiT row and metric: how far over or under each control it is."""
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for c in comparisons:
        groups.setdefault((c.method, c.metric), []).append(c)
    sentences = []
    for (method, metric), same in groups.items():
        parts = [
            f"{amount(c.gain.value, metric)} {'over' if c.gain.value >= 0 else 'under'} {c.control} "
            f"at {c.control_speed:.2f}x ({c.outcome})"
            for c in same
        ]
        sentences.append(f"{method} at {same[0].speed:.2f}x, {label(metric)}: {', '.join(parts)}.")
    return sentences


def orders_blocks(orders: list[Comparison]) -> list[Block]:
    if not orders:
        return [Text("There are no two rows of different order that fired, so orders cannot be compared.")]
    return [Text(orders_line(orders)), comparisons_table(orders)]


def comparisons_table(comparisons: list[Comparison]) -> Table:
    adjusted = holm(comparisons)
    rows = [
        [
            c.method,
            f"{c.speed:.2f}x",
            c.control,
            f"{c.control_speed:.2f}x",
            signed(c.gain, c.metric),
            probability(adjusted[c]) if c in adjusted else "–",
            c.outcome,
        ]
        for c in comparisons
    ]
    return Table(["method", "speed-up", "control", "its speed-up", "gain", "p (Holm)", "outcome"], rows)


def kept_blocks(kept: Sequence[Kept]) -> list[Block]:
    if not kept:
        return [Text("No metric with a margin has a value for each prompt.")]
    margins = ", ".join(f"{label(m)} {margin(m):g}" for m in dict.fromkeys(k.metric for k in kept))
    note = (
        "Not finding a loss is no proof that there is none, so both are tested: two one-sided tests on the "
        "paired bootstrap ask whether the loss lies within a margin (90 % interval inside it), and the "
        f"two-sided test asks whether there is one. Margins, alike for all methods: {margins}. Over the "
        f"{len(kept)} rows p is adjusted by Holm; kept: shown to lose less than the margin; lost: a loss is "
        "shown; open: neither."
    )
    rows = [
        [
            k.method,
            label(k.metric),
            f"{k.test.loss.value:+.3f} [{k.test.loss.low:+.3f}, {k.test.loss.high:+.3f}]",
            str(k.test.loss.n),
            "yes" if k.test.non_inferior else "no",
            "yes" if k.test.equivalent else "no",
            probability(k.p_kept),
            probability(k.p_lost),
            k.verdict,
        ]
        for k in kept
    ]
    tests = ["loss < margin", "equivalent", "p kept", "p differs", "verdict"]
    head = ["method", "metric", "loss, 90 %", "N", *tests]
    return [Text(note), Table(head, rows)]
