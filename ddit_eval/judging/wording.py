"""Numbers in words and digits, as the report writes them."""

from __future__ import annotations

import math
from typing import Any

from ddit_eval.judging.results import Json
from ddit_eval.stats import Interval


def show(interval: Interval | None, what: str, plus: bool = False) -> str:
    """ "1.61x [1.58, 1.64]"; infinite and absent values in words."""
    if interval is None or math.isnan(interval.value):
        return "–"
    if math.isinf(interval.value):
        return "∞" if interval.value > 0 else "-∞"
    digits = 2 if what == "x" else 1 if what == "psnr" else 3
    sign = "+" if plus else ""
    unit = "x" if what == "x" else ""
    value, low, high = (f"{v:{sign}.{digits}f}" for v in (interval.value, interval.low, interval.high))
    text = f"{value}{unit} [{low}, {high}]"
    return f"{text}, {interval.infinite} of {interval.n} infinite" if interval.infinite else text


def number(value: float, metric: str) -> str:
    """A mean in the digits of its metric; an infinity as the sign for it."""
    return "∞" if math.isinf(value) else f"{value:.1f}" if metric == "psnr" else f"{value:.3f}"


def amount(value: float, metric: str) -> str:
    return f"{abs(value):.2f} dB" if metric == "psnr" else f"{abs(value):.3f}"


def label(metric: str) -> str:
    """How a metric is written for people."""
    known: dict[str, Any] = {"psnr": "PSNR to base (dB)", "ssim": "SSIM to base"}
    return str(known.get(metric, metric.replace("-", " ")))


def read(data: Json | None) -> Interval | None:
    return Interval.from_json(data) if data else None
