"""Seconds per denoising step, method by method, stacked by the scale that they went to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ddit_eval.errors import DditError
from ddit_eval.figures.style import BLACK, COLUMN, new_figure, scale_colour, scale_patches, styled


@dataclass(frozen=True)
class StepTimes:
    """One method: for every step its mean seconds over the runs, in parts by the scale that they went to."""

    label: str
    parts: Sequence[Mapping[int, float]]


@styled
def time_per_step(methods: Sequence[StepTimes]) -> Figure:
    """A panel a method: the mean time of each step in milliseconds, as a bar whose parts are the scales'
    shares of it: a step that half of the runs took coarse has a bar of two parts."""
    if not methods:
        raise DditError("time_per_step needs at least one method with timed steps")
    figure = new_figure(COLUMN, 0.75 + 0.8 * len(methods))
    panels = figure.subplots(len(methods), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    seen: set[int] = set()
    for axes, method in zip(panels, methods, strict=True):
        if not method.parts:
            raise DditError(f"{method.label} has no timed steps; give their seconds by scale")
        steps = np.arange(len(method.parts))
        below = np.zeros(len(steps))
        for scale in sorted(set().union(*method.parts)):
            part = 1000 * np.array([step.get(scale, 0.0) for step in method.parts])
            axes.bar(steps, part, 0.86, below, color=scale_colour(scale),
                     edgecolor=BLACK, linewidth=0.35, gid=f"{method.label}-{scale}")  # fmt: skip
            below += part
            seen.add(scale)
        axes.set_title(f"{method.label}: {below.sum():.0f} ms", loc="left", fontsize=7.5, pad=2.5)
        axes.margins(x=0.01)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.grid(True, axis="y", zorder=-2)
        axes.set_axisbelow(True)
    panels[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 4, 5, 10]))
    panels[-1].set_xlabel("step")
    figure.supylabel("time of the step (ms)", fontsize=7.5)
    figure.legend(
        handles=scale_patches(sorted(seen), edgecolor=BLACK, linewidth=0.35),
        loc="outside lower center",
        ncols=4,
        columnspacing=1.4,
    )
    return figure
