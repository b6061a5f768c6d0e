"""What `evaluate` prints of an experiment: a table a metric, a line a method."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from ddit_eval.cli.show import table_of, take_care
from ddit_eval.schema import Quality
from ddit_eval.schema.quality import Column, SetRow
from ddit_eval.stats import Interval, note_of_many
from ddit_eval.system.progress import first, stdout


def show_quality(quality: Quality) -> None:
    """Every metric of every method with interval, N, network and references."""
    if not first():
        return
    base = quality.reference
    tables = [_column(quality, name, about, base) for name, about in quality.metrics.items()]
    names = dict.fromkeys(row.metric for row in quality.sets)
    tables += [_set([row for row in quality.sets if row.metric == name], name, base) for name in names]
    for table in tables:
        stdout.print(table)
    pictures = f"reference {base} (hash {quality.reference_hash[:12]})"
    about = f"{quality.n} prompts (hash {quality.prompts_hash}), {pictures}"
    stdout.print(escape(about), soft_wrap=True, highlight=False)
    warnings = dict.fromkeys(w for row in quality.sets for w in row.warnings)
    take_care((note_of_many(sum(table.row_count for table in tables)), *warnings))


def _column(quality: Quality, name: str, about: Column, base: str) -> Table:
    table = _table(name, about.direction, about.network, f"minus {base}")
    for row in quality.rows:
        value = row.quality[name]
        change = row.difference.get(name) if row.method != base else None
        table.add_row(*map(escape, (row.method, str(value), _difference(change), str(value.n))))
    return table


def _set(rows: list[SetRow], name: str, base: str) -> Table:
    network = f"{rows[0].network}, against {rows[0].reference} ({rows[0].reference_hash[:12]})"
    table = _table(name, rows[0].direction, network, f"minus {base}")
    for row in rows:
        count = f"{row.n} / {row.n_reference}"
        table.add_row(*map(escape, (row.method, str(row.interval), _difference(row.difference), count)))
    return table


def _table(name: str, direction: str, network: str | None, difference: str) -> Table:
    title = f"{name}: {direction} is better; network: {network or 'none'}"
    heads = ("method", "mean [95 %]", difference, "N")
    return table_of(title, heads, ["method"], title_justify="left", box=None, pad_edge=False)


def _difference(interval: Interval | None) -> str:
    return "" if interval is None else str(interval)
