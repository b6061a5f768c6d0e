"""frontier.json in sentences: the best way to each speed-up, what it loses, what coarse patches add to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from ddit_eval.judging.row_words import in_words
from ddit_eval.judging.wording import times, written
from ddit_eval.schema.frontier import Frontier, Target, Way
from ddit_eval.schema.quality import Column
from ddit_eval.stats import Interval

Columns = Mapping[str, Column]


def sentences(frontier: Frontier, columns: Columns) -> list[str]:
    """One a target; the first says why no time is known. `columns`: what is known of the metrics; others are
    written by their names."""
    said = [_sentence(frontier, target, columns, i == 0) for i, target in enumerate(frontier.targets)]
    gains = [t for t in frontier.targets if t.best and t.best.coarse and t.best_without_coarse]
    if len(gains) > 1:
        said[-1] += " Intervals are per target, not adjusted for their number."
    return said


def _sentence(frontier: Frontier, target: Target, columns: Columns, first: bool) -> str:
    why = f" (no time is known: {frontier.clock})" if first else ""
    where = f"as predicted{why}" if frontier.clock else "on this machine"
    start, note = f"At {target.speed_up:g}x {where}", (target.note or "").rstrip(".")
    note = f" {note[0].upper()}{note[1:]}." if note else ""
    best, plain, ddit = target.best, target.best_without_coarse, target.best_ddit
    if best is None:
        return f"{start} no way was found.{note}"

    def told(way: Way) -> str:
        what = f"`{way.name}` ({in_words(way.row, way.of.steps)}; {reached(way)})"
        return f"{what} {_quality(frontier, way, columns)}"

    def in_short(way: Way) -> str:
        only = {name: column for name, column in columns.items() if name == frontier.metric}
        return f"`{way.name}` ({reached(way)}) {_quality(frontier, way, only)}"

    if not best.coarse:
        parts = [f"{start} the best way found has no coarse patch: {told(best)}"]
    else:
        parts = [f"{start} the best way found has coarse patches: {told(best)}"]
        parts.append(f"without one {told(plain)}" if plain else "without one no way was found")
        parts += [gain_line(frontier, target, columns)] if plain else []
    if ddit is None:
        parts.append("no DDiT row reaches it")
    elif ddit.name != best.name:
        parts.append(f"the best DDiT row {in_short(ddit)}")
    return f"{'; '.join(parts)}.{note}"


def gain_line(frontier: Frontier, target: Target, columns: Columns) -> str:
    """What the best way gains over the best without a coarse patch, and whether that is decided."""
    gain = gain_of(frontier, target, columns)
    if gain is None or math.isnan(gain.value):
        return "what the best way gains over it was not measured"
    size = f"{_amount(gain, frontier.metric, columns, '+')} (N = {gain.n or frontier.heldout})"
    # The two ways may differ in all they have, so the difference is not that of their patches alone.
    over = "over the best without a coarse patch"
    if gain.high < 0:
        return f"the best way loses against the best without a coarse patch: {size}"
    return f"{'' if gain.low > 0 else 'not decided: '}the best way gains {size} {over}"


def gain_of(frontier: Frontier, target: Target, columns: Columns) -> Interval | None:
    """Above 0 where coarse patches make the metric that was searched by better; None where nothing tells."""
    gain = target.gain.get(frontier.metric)
    if gain is None or not _lower_is_better(frontier.metric, columns):
        return gain
    return replace(gain, value=-gain.value, low=-gain.high, high=-gain.low)


def reached(way: Way) -> str:
    """Its speed-up: measured, or by FLOPs where no clock decided."""
    return times(way.speedup) if way.speedup else f"{way.flop_ratio:.2f}x by FLOPs"


def _quality(frontier: Frontier, way: Way, columns: Columns) -> str:
    """What it loses to the base; where that cannot be subtracted from (an infinite PSNR) what it has."""
    said = []
    for metric in dict.fromkeys((frontier.metric, *(m for m, c in columns.items() if _tells(c)))):
        lost, has = way.difference.get(metric), way.quality.get(metric)
        if lost is not None and math.isfinite(lost.value):
            sign = 1.0 if _lower_is_better(metric, columns) else -1.0
            ends = sorted((sign * lost.low, sign * lost.high))
            loss = replace(lost, value=sign * lost.value, low=ends[0], high=ends[1])
            said.append(f"loses {_amount(loss, metric, columns, '+')}")
        elif has is not None:
            said.append(f"has {_amount(has, metric, columns)}")
    return " and ".join(said) or "has no quality measured"


def _tells(column: Column) -> bool:
    return column.role == "adherence" and column.rank == 0


def _lower_is_better(metric: str, columns: Columns) -> bool:
    return metric in columns and columns[metric].direction == "lower"


def _amount(interval: Interval, metric: str, columns: Columns, sign: str = "") -> str:
    """ "26.2 dB [25.0, 27.1] PSNR to base"."""
    column = columns.get(metric)
    if column is None:
        return f"{written(interval, 3, sign)} {metric.replace('-', ' ')}"
    unit = f" {column.unit}" if column.unit else ""
    return f"{written(interval, column.digits, sign, unit)} {column.title}"
