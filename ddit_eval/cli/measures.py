"""The command that lists what can be measured."""

from __future__ import annotations

from ddit_eval.cli.show import say
from ddit_eval.system.progress import stdout


def measures() -> None:
    """List all metrics: which way each is better, its range, its weights and whether they are here."""
    from rich.markup import escape
    from rich.table import Table

    from ddit_eval.metrics.listing import rows

    found = rows()
    table = Table("metric", "of", "better", "range", "needs", "here", box=None, pad_edge=False)
    for row in found:
        here = "[red]no[/]" if row.missing else "[green]yes[/]"
        needs = escape(row.weights or "nothing")
        table.add_row(escape(row.name), row.of, row.direction, row.range, needs, here)
    stdout.print(table)
    for why in dict.fromkeys(row.missing for row in found if row.missing):
        say(f"Missing: {why}")
