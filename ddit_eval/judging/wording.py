"""Numbers in words and digits, as the report writes them, by the facts of a metric's column."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ddit_eval.schema.quality import Column
from ddit_eval.stats import Interval


def show(interval: Interval | None, column: Column, plus: bool = False) -> str:
    """ "30.0 [29.0, 31.0]", with signs if `plus`; infinite and absent values in words."""
    return written(interval, column.digits, "+" if plus else "")


def times(interval: Interval | None) -> str:
    """ "1.61x [1.58, 1.64]"."""
    return written(interval, 2, unit="x")


def percent(share: Interval) -> str:
    """ "12 % [-3, 20]"."""
    return f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def written(interval: Interval | None, digits: int, sign: str = "", unit: str = "") -> str:
    """The value with its ends in so many digits."""
    if interval is None or math.isnan(interval.value):
        return "–"
    if math.isinf(interval.value):
        return "∞" if interval.value > 0 else "-∞"
    value, low, high = (f"{v:{sign}z.{digits}f}" for v in (interval.value, interval.low, interval.high))
    text = f"{value}{unit}, n = 1" if math.isnan(interval.low) else f"{value}{unit} [{low}, {high}]"
    return f"{text}, {interval.infinite} of {interval.n} infinite" if interval.infinite else text


def number(value: float, digits: int) -> str:
    """A mean; an infinity as the sign for it."""
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:z.{digits}f}"


def label(column: Column) -> str:
    """How a metric is written for people: "PSNR to base (dB)"."""
    return f"{column.title} ({column.unit})" if column.unit else column.title


def gained(gain: Interval, column: Column) -> str:
    """ "PSNR to base +2.3 dB [+1.9, +2.7]": positive where the method is better."""
    unit = f" {column.unit}" if column.unit else ""
    return f"{column.title} {written(gain, column.digits, '+', unit)}"


def probability(p: float) -> str:
    """ "p = 0.012"; "p < 0.001" below that."""
    return "–" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """ "1 trial", "2 trials"."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], word: str = "and") -> str:
    """ "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
