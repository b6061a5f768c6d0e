"""Where a step's time goes: measured against what the machine allows, scale by scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ddit_eval.errors import DditError
from ddit_eval.figures.style import BLACK, COLUMN, FAINT, SCALES, new_figure, styled


@dataclass(frozen=True)
class Bar:
    """One scale: median, 95th percentile and lower bound of a step in seconds, and what sets the bound."""

    scale: int
    p50: float
    p95: float
    bound: float
    limit: str


@styled
def step_roofline(bars: Sequence[Bar]) -> Figure:
    """Median step time with a whisker to the 95th percentile; a mark where the machine's bound lies."""
    if not bars:
        raise DditError("step_roofline needs at least one scale with timed steps")
    figure = new_figure(COLUMN, 0.7 + 0.34 * len(bars))
    axes = figure.subplots()
    for row, bar in enumerate(bars):
        colour = SCALES.get(bar.scale, FAINT)
        axes.barh(row, 1000 * bar.p50, 0.62, color=colour, edgecolor=BLACK, linewidth=0.5)
        axes.plot([1000 * bar.p50, 1000 * bar.p95], [row, row], color=BLACK, linewidth=0.9)
        axes.plot([1000 * bar.bound] * 2, [row - 0.4, row + 0.4], color=BLACK, linewidth=1.6)
        text = f"{100 * bar.bound / bar.p50:.0f} % of the {bar.limit} bound"
        axes.annotate(
            text, (1000 * bar.p95, row), (4, 0), textcoords="offset points", va="center", fontsize=7.0
        )
    axes.set_yticks(range(len(bars)), [f"{bar.scale}p" if bar.scale > 1 else "p" for bar in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, 1000 * 1.9 * max(bar.p95 for bar in bars))
    axes.set_xlabel("time of a step (ms), its machine's bound marked")
    return figure
