"""What is decided, as blocks: which methods keep the quality, and who wins at equal time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ddit_eval import stats
from ddit_eval.judging.controls import EQUAL_TIME, Comparison
from ddit_eval.judging.dynamic import duels, dynamic_line
from ddit_eval.judging.equivalence import Kept
from ddit_eval.judging.regions import REGION, compare_regions
from ddit_eval.judging.results import Results
from ddit_eval.judging.verdict import Verdict, compare_others, within
from ddit_eval.judging.wording import counted, gained, label, number, percent, probability, show
from ddit_eval.report.blocks import Block, Bullets, Folded, Table, Text, matrix
from ddit_eval.stats import ALPHA


def kept_blocks(results: Results, kept: Sequence[Kept]) -> list[Block]:
    """A row an accelerated method, a column a metric with a margin: kept, lost or open."""
    if not kept:
        return [Text("No metric with a margin has a value for each prompt.")]
    columns = {k.metric: results.column(k.metric) for k in kept}
    note = (
        f"Within {within(results, [*columns])}. Kept: shown to lose less than the margin, which is the same "
        "for all methods (two one-sided tests); lost: a loss is shown; open: neither, which is no proof that "
        "there is none. Beside it the loss to the base with its 90 % interval, and where it is open how many "
        f"prompts could show that there is none. {counted(len(kept), 'test')}."
    )
    cells = {
        (k.method, k.metric): f"{k.verdict} {show(k.test.loss, columns[k.metric], plus=True)}"
        f"{f', needs {k.needs}' if k.needs and k.verdict == 'open' else ''}"
        for k in kept
    }
    heads = {m: f"{label(c)}, margin {results.margin(m)}" for m, c in columns.items()}
    return [Text(note), matrix("method", heads, cells, {}), *_power(results, kept)]


def _power(results: Results, kept: Sequence[Kept]) -> list[Block]:
    """What margin these prompts can show, and how many the margin needs: a line a metric, all in a table."""
    planned = sorted((k for k in kept if k.needs), key=lambda k: (k.metric, k.shows))
    lines: list[str] = []
    cells: dict[tuple[str, str], str] = {}
    for metric, group in groupby(planned, key=lambda k: k.metric):
        same, column = [*group], results.column(metric)
        least, middle, most = (same[0], same[len(same) // 2], same[-1])
        shows = [number(k.shows, column.digits) for k in (middle, least, most)]
        lines.append(
            f"{column.title}: {counted(middle.test.loss.n, 'prompt')} show a margin of {shows[0]} (by method "
            f"{shows[1]} to {shows[2]}); {middle.margin} needs {middle.needs} ({least.needs} to {most.needs})"
        )
        for k in same:
            shown = f"{k.test.loss.n} show {number(k.shows, column.digits)}, {k.margin} needs {k.needs}"
            cells[k.method, metric] = shown
    if not planned:
        return []
    note = (
        f"With a chance of {stats.POWER:.0%}, of a method that loses nothing, by the spread of its own "
        f"differences (Student's t), at the first step of Holm's adjustment, {ALPHA:g} over {len(kept)}:"
    )
    heads = {k.metric: label(results.column(k.metric)) for k in planned}
    table = Folded("What so many prompts can show", [matrix("method", heads, cells, {})])
    return [Text(note), Bullets(lines), table]


def compared_blocks(results: Results, verdict: Verdict, orders: Sequence[Comparison]) -> list[Block]:
    """How many comparisons of each kind are decided, and those that are."""
    others = {f: same for f, same in compare_others(results).items() if f != REGION}
    regions = {f"region, {name} prompts": same for name, same in compare_regions(results).items()}
    groups = {"DDiT": verdict.comparisons, "order 3": orders, **others, **regions}
    everything = [c for same in groups.values() for c in same]
    if not everything:
        return [Text("No comparison could be made.")]
    note = (
        "Paired by prompt; each control is the row of its kind with the nearest measured speed-up, fewer "
        f"steps is interpolated. Speed-ups within a factor of {EQUAL_TIME:g} count as {results.equally[3:]}; "
        "otherwise only a better one that is not slower decides. DDiT alone makes the verdict. Standing of "
        f"the controls: {', '.join(f'{kind}: {standing}' for kind, standing in verdict.standings.items())}."
    )
    tally = [
        [
            group,
            kind,
            *(str(outcomes.count(way)) for way in ("better", "worse", "undecided", "not comparable")),
        ]
        for group, same in groups.items()
        for kind in dict.fromkeys(c.kind for c in same)
        for outcomes in [[c.outcome for c in same if c.kind == kind]]
    ]
    blocks: list[Block] = [
        Text(note),
        Table(["method", "against", "better", "worse", "undecided", f"not {results.equally}"], tally),
    ]
    decided = [
        [
            c.method if not group.startswith(REGION) else f"{c.method}{group.removeprefix(REGION)}",
            f"{c.speed:.2f}x",
            f"{c.control} at {c.control_speed:.2f}x",
            gained(c.gain, results.column(c.metric)),
            probability(c.p),
            c.outcome,
        ]
        for group, same in groups.items()
        for c in same
        if c.decides
    ]
    if decided:
        head = ["method", "speed-up", "against", "gain", "p (Holm)", "outcome"]
        return [*blocks, Text("Those that are decided:"), Table(head, decided)]
    return [*blocks, Text("Nothing is decided.")]


def dynamic_blocks(results: Results) -> list[Block]:
    """Each DDiT row against the static plans of its cost."""
    rows = [
        [
            duel.rule,
            f"{duel.flop_ratio:.2f}",
            ", ".join(duel.plans),
            *(percent(share) for share in (duel.plan, duel.looks, duel.ahead)),
            str(duel.plan.n),
        ]
        for duel in duels(results)
    ]
    head = ["rule", "FLOPs ÷", "static plans", "static near the best", "rule near the best", "apart", "N"]
    return [Text(dynamic_line(results)), *([Table(head, rows)] if rows else [])]
