"""Seconds per denoising step, method by method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ddit_eval.errors import DditError
from ddit_eval.figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    styled,
)

CYCLE = (BLACK, BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE)


@dataclass(frozen=True)
class StepTimes:
    """One method: seconds as (prompts, steps)."""

    label: str
    seconds: Sequence[Sequence[float]]


@styled
def time_per_step(
    methods: Sequence[StepTimes], *, width: float = COLUMN, height: float | None = None
) -> Figure:
    """Median time of each step in milliseconds over prompts, with the band from the 10th to the 90th
    percentile."""
    if not methods:
        raise DditError("time_per_step needs at least one method with timed steps")
    figure = new_figure(width, height or 0.72 * width)
    axes = figure.subplots()
    for method, colour in zip(methods, CYCLE * (len(methods) // len(CYCLE) + 1), strict=False):
        grid = 1000 * np.asarray(method.seconds, float)
        steps = np.arange(grid.shape[1])
        low, middle, high = np.percentile(grid, (10, 50, 90), axis=0)
        axes.fill_between(steps, low, high, step="mid", color=colour, alpha=0.15, linewidth=0)
        axes.step(steps, middle, where="mid", color=colour, label=method.label)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 4, 5, 10]))
    axes.set_xlabel("step")
    axes.set_ylabel("time of the step (ms)")
    axes.grid(True, axis="y", zorder=-2)
    figure.legend(loc="outside lower center", ncols=_columns(len(methods)), columnspacing=1.2)
    return figure


def _columns(count: int) -> int:
    """Columns of a legend so that its last line is not nearly empty."""
    return min(range(2, 5), key=lambda n: (-(-count // n) * n - count, -n)) if count > 4 else count
