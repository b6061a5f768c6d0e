"""The block of README.md that the pipeline writes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from ddit_eval.errors import DditError
from ddit_eval.judging.advice import sentences
from ddit_eval.judging.controls import EQUAL_TIME
from ddit_eval.judging.families import METHOD, RIVALS, STEPS, in_order
from ddit_eval.judging.results import Results
from ddit_eval.judging.verdict import Verdict
from ddit_eval.report.blocks import Block, Text, to_markdown
from ddit_eval.report.document import methods_table
from ddit_eval.schema.quality import Row
from ddit_eval.system.files import write_text
from ddit_eval.system.read import read_text

MOST, TWICE = 8, 2.0  # rows a profile; the speed-up where none was asked for
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def readme_table(readme: Path, profiles: Sequence[tuple[Results, Verdict]]) -> bool:
    """Rewrite what stands between the two marks of `readme`: for each profile the best ways found, the
    verdict, a choice of rows and what it was measured on.

    Returns whether the file changed. Raises `DditError` where the file or its marks are missing.
    """
    old = read_text(readme)
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise DditError(f"{readme} needs the marks {BEGIN} and {END}, each once and in this order")
    parts = [_blocks(*pair) for pair in profiles]
    text = to_markdown([block for part in parts for block in part])
    new = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}{END}", old, flags=re.DOTALL)
    if new != old:
        write_text(readme, new)
    return new != old


def shortlist(results: Results) -> list[str]:
    """At most `MOST` methods: the base, the worst DDiT row, and of each family the best one that is about as
    fast as was asked for first, or its fastest."""
    metric, asked = results.deciding()[0], results.frontier.targets if results.frontier else ()
    target = asked[0].speed_up if asked else TWICE
    sign = -1.0 if results.column(metric).direction == "lower" else 1.0

    def quality(row: Row) -> float:
        return sign * row.quality[metric].value if metric in row.quality else -math.inf

    def speed(row: Row) -> float:
        return found.value if (found := results.speed(row)) else row.flop_ratio

    rows = results.accelerated()
    ours = [row for row in rows if results.family(row) == METHOD]
    picked = [min(ours, key=quality)] if ours else []
    for family in [METHOD, STEPS, *RIVALS, *in_order([results.family(row) for row in rows])]:
        same = [row for row in rows if results.family(row) == family]
        fast = [row for row in same if speed(row) * EQUAL_TIME >= target]
        if same:
            picked.append(max(fast, key=quality) if fast else max(same, key=speed))
    names = [*dict.fromkeys([results.quality.reference, *(row.method for row in picked)])][:MOST]
    return [row.method for row in results.rows if row.method in names]


def _blocks(results: Results, verdict: Verdict) -> list[Block]:
    quality = results.quality
    advice = sentences(results.frontier, quality.metrics) if results.frontier else []
    where = ""
    if results.timing:
        machine = results.timing.machine
        where = f"; {machine.device}, {machine.cpu}, {machine.cores} cores"
    return [
        *(Text(sentence, strong=True) for sentence in advice),
        Text(verdict.line, strong=True),
        methods_table(results, results.deciding(), shortlist(results)),
        Text(
            f"{quality.model}, profile {quality.profile}, {quality.n} prompts{where}. 95 % intervals over "
            f"prompts. All {len(results.rows)} rows: [the whole report](results/{quality.profile}/report.md)."
        ),
    ]
