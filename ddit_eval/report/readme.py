"""The block of README.md that the pipeline writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ddit_eval.errors import DditError
from ddit_eval.figures.of_results import chosen
from ddit_eval.judging.results import Results
from ddit_eval.judging.verdict import Verdict
from ddit_eval.report.blocks import Block, Text, to_markdown
from ddit_eval.report.document import methods_table
from ddit_eval.system.files import write_text
from ddit_eval.system.read import read_text

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def readme_table(readme: Path, profiles: Sequence[tuple[Results, Verdict]]) -> bool:
    """Rewrite what stands between the two marks of `readme`: for each profile the verdict, the table (after
    the first one a choice of rows) and what it was measured on.

    Returns whether the file changed. Raises `DditError` where the file or its marks are missing.
    """
    old = read_text(readme)
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise DditError(f"{readme} needs the marks {BEGIN} and {END}, each once and in this order")
    parts = [_blocks(*pair, brief=number > 0) for number, pair in enumerate(profiles)]
    text = to_markdown([block for part in parts for block in part])
    new = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}{END}", old, flags=re.DOTALL)
    if new != old:
        write_text(readme, new)
    return new != old


def _blocks(results: Results, verdict: Verdict, brief: bool) -> list[Block]:
    quality = results.quality
    where = ""
    if results.timing:
        machine = results.timing.machine
        where = f"; {machine.device}, {machine.cpu}, {machine.cores} cores"
    return [
        Text(verdict.line, strong=True),
        methods_table(results, results.deciding(), chosen(results) if brief else None),
        Text(
            f"{quality.model}, profile {quality.profile}, {quality.n} prompts{where}. 95 % intervals over "
            f"prompts. [The whole report](results/{quality.profile}/report.md)."
        ),
    ]
