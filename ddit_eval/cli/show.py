"""What the commands print: progress with the time left, errors and warnings of one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from ddit_eval.cli.blame import of_model
from ddit_eval.errors import DditError
from ddit_eval.system.progress import first, stderr, stdout
from ddit_eval.system.text import visible

if TYPE_CHECKING:
    from rich.table import Table

    from ddit_eval.folders.compare import Comparison
    from ddit_eval.schema import Frontier, Quality, Timing
    from ddit_eval.schema.quality import Column, SetRow
    from ddit_eval.stats import Equivalence

_PARTS = ("transformer", "text", "decode")  # stages that were timed apart


def complain(message: str) -> None:
    """One clean red line, whatever stands in the message."""
    clean = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", message).strip()
    stderr.print(f"[bold red]error:[/] {escape(clean)}", soft_wrap=True, highlight=False)


_USAGE: Any = typer.BadParameter.__base__  # what a mistake in the command line is


def told(error: Exception) -> str | None:
    """The line that tells a user of an error; None where it is a mistake of this package."""
    said = str(error)
    if isinstance(error, DditError):
        return said
    if isinstance(error, _USAGE):
        command = error.ctx.command_path if error.ctx else "ddit-eval"
        return f"{error.format_message()} See `{command} --help`."
    # torch has an error of its own on a GPU, and another on a CPU.
    if isinstance(error, MemoryError) or re.search("OutOfMemory|can't allocate", repr(error)):
        return (
            f"out of memory: {said or 'the system gave none'}; take a smaller batch or size, or fewer workers"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; mend that or name another place, then run this again"
    return of_model(error)


def remark(message: str, category: type[Warning]) -> None:
    """Our warnings are for the user; those of libraries about their own future are not."""
    if issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
        return
    stderr.print(f"[yellow]warning:[/] {_line(message)}", soft_wrap=True, highlight=False)


def say(message: str) -> None:
    """A line of result, from the first process."""
    if first():
        stdout.print(message, soft_wrap=True, highlight=False, markup=False)


def _line(message: str) -> str:
    return escape(visible(message, one_line=True))


def take_care(warnings: Iterable[str | None]) -> None:
    """What a reader of the numbers above has to know; nothing of what is None."""
    for warning in filter(None, warnings):
        stdout.print(f"[yellow]take care:[/] {escape(warning)}", soft_wrap=True, highlight=False)


def table_of(title: str, heads: Sequence[str], left: Sequence[str], **style: Any) -> Table:
    """An empty table with these columns; numbers stand to the right, the columns in `left` do not."""
    from rich.table import Table

    table = Table(title=escape(title), **style)
    for head in heads:
        table.add_column(escape(head), justify="left" if head in left else "right")
    return table


def show_columns(content: Comparison) -> None:
    """What `folders.compare` measured: a line a column, then what was left out and why."""
    from ddit_eval.stats import note_of_many

    against = f" against {content.reference}" if content.reference else ""
    paired = any(column.difference for column in content.columns.values())
    tested = any(column.equivalence for column in content.columns.values())
    change = [*["ours - theirs"] * paired, *["no loss?"] * tested]
    heads = ["metric", "mean [95 %]", *change, "better", "N", "network"]
    table = table_of(f"{content.n} of {content.pictures}{against}", heads, ["metric", "network"])
    for name, column in content.columns.items():
        change = [str(column.difference or "")] * paired + [no_loss(column.equivalence)] * tested
        count = str(column.interval.n)
        cells = [str(column.interval), *change, column.direction, count, column.network or "none"]
        table.add_row(name, *map(escape, cells))
    for row in content.sets:
        count = f"{row.n} / {row.n_reference}"
        cells = [str(row.interval), *[""] * (paired + tested), row.direction, count, row.network]
        table.add_row(row.metric, *map(escape, cells))
    stdout.print(table)
    known = {"pictures": content.pictures_hash, "reference": content.reference_hash}
    hashes = ", ".join(f"{what} {digest[:12]}" for what, digest in known.items() if digest)
    stdout.print(f"[dim]hashes:[/] {hashes}", soft_wrap=True, highlight=False)
    warnings = dict.fromkeys(w for row in content.sets for w in row.warnings)
    take_care((note_of_many(len(content.columns) + len(content.sets)), *warnings))
    for name, why in content.skipped.items():
        stdout.print(f"[dim]{name} left out:[/] {escape(why)}", soft_wrap=True, highlight=False)


def no_loss(test: Equivalence | None) -> str:
    """The outcome of an equivalence test: within the margin or not shown to be."""
    if test is None:
        return ""
    verdict = "equivalent" if test.equivalent else "not worse" if test.non_inferior else "not shown"
    return f"{verdict} within {test.margin:g}"


def show_quality(quality: Quality) -> None:
    """A table a metric: every method with interval and N, network and references."""
    if not first():
        return
    from ddit_eval.stats import note_of_many

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
    skipped = (f"{name} left out: {why}" for name, why in quality.skipped.items())
    take_care((note_of_many(sum(table.row_count for table in tables)), *warnings, *skipped))


def _column(quality: Quality, name: str, about: Column, base: str) -> Table:
    table = _table(name, about.direction, about.network, f"minus {base}")
    for row in quality.rows:
        value = row.quality[name]
        change = row.difference.get(name) if row.method != base else None
        table.add_row(*map(escape, (row.method, str(value), str(change or ""), str(value.n))))
    return table


def _set(rows: list[SetRow], name: str, base: str) -> Table:
    network = f"{rows[0].network}, against {rows[0].reference} ({rows[0].reference_hash[:12]})"
    table = _table(name, rows[0].direction, network, f"minus {base}")
    for row in rows:
        count = f"{row.n} / {row.n_reference}"
        table.add_row(*map(escape, (row.method, str(row.interval), str(row.difference or ""), count)))
    return table


def _table(name: str, direction: str, network: str | None, difference: str) -> Table:
    title = f"{name}: {direction} is better; network: {network or 'none'}"
    heads = ("method", "mean [95 %]", difference, "N")
    return table_of(title, heads, ["method"], title_justify="left", box=None, pad_edge=False)


def show_timing(timing: Timing) -> None:
    """Two tables: methods against the base, and steps against the machine."""
    if not first():
        return
    from ddit_eval.judging.wording import counted, written

    methods = table_of(
        f"denoising loop, batch {timing.batch}, {timing.prompts} prompts",
        ("method", "speed-up [95 %]", "p50 s", "p95 s", "transformer s", "text s", "decode s", "peak MB"),
        ["method"],
    )
    for row in timing.rows:
        speed, seconds = row.speedup, row.seconds
        parts = (f"{row.stages[k]:.3f}" if k in row.stages else "" for k in _PARTS)
        memory = "" if row.peak_memory is None else f"{row.peak_memory / 1e6:.0f}"
        methods.add_row(
            row.method, escape(written(speed, 2)), f"{seconds.p50:.3f}", f"{seconds.p95:.3f}", *parts, memory
        )
    stdout.print(methods)
    again = f", {counted(timing.repeated, 'block')} run again" if timing.repeated else ""
    rounds = counted(timing.rounds, "round")
    stdout.print(f"{rounds}{again}; the base against itself: {timing.null}", markup=False)
    if compiled := timing.compiled:
        stdout.print(
            f"compiled: the base {compiled.over_eager} times as fast as eager; {compiled.graphs} graphs, "
            f"{compiled.recompiles} more while timed",
            markup=False,
        )
        for row in compiled.rows:
            stdout.print(f"  {row.method}: {row.speedup} over the compiled base", markup=False)
    machine = timing.machine
    matrices = f"{machine.matmul_gflops:g} GFLOP/s in {machine.matmul_dtype}"
    bars = "█ bound, ░ above it"
    steps = table_of(
        f"a step, against this machine's {matrices} and {machine.copy_gb_s:g} GB/s",
        ("scale", "p50 ms", "p95 ms", "GFLOP", "bound ms", "set by", "reached", bars),
        [bars],
    )
    longest = max((row.p50 for row in timing.scales), default=0.0)
    for scale in timing.scales:
        times = (f"{1000 * scale.p50:.1f}", f"{1000 * scale.p95:.1f}")
        work, least = f"{scale.flops / 1e9:.2f}", f"{1000 * scale.bound:.1f}"
        bar = step_bar(scale.p50, scale.bound, longest)
        reached = f"{100 * scale.share:.0f} %"
        steps.add_row(f"{scale.scale}p", *times, work, least, scale.limit, reached, bar)
    stdout.print(steps)
    if timing.bad:
        take_care([f"these times decide nothing: {timing.bad}"])
    take_care(
        f"at {scale.scale}p torch counts {seen / 1e9:.3f} GFLOP a step and the formula says "
        f"{scale.flops / 1e9:.3f}"
        for scale in timing.scales
        if (seen := scale.counted or scale.flops) != scale.flops
    )


def step_bar(seconds: float, bound: float, longest: float, width: int = 16) -> str:
    """A step's time as a bar, `longest` as wide as `width`; full as far as the machine's bound goes."""
    whole = max(1, round(width * seconds / longest))
    full = min(whole, round(whole * bound / seconds))
    return "█" * full + "░" * (whole - full)


def show_advice(frontier: Frontier, columns: dict[str, Column]) -> None:
    """The answer, a sentence a speed-up."""
    from ddit_eval.judging.advice import sentences

    for sentence in sentences(frontier, columns):
        say(sentence)
