"""What a coarse step does to the picture, and every way of choosing the steps against the best one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator

from ddit_eval.errors import DditError
from ddit_eval.figures.style import (
    BLACK,
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    PAGE,
    PURPLE,
    SKY,
    VERMILION,
    darker,
    new_figure,
    scale_colour,
    styled,
)
from ddit_eval.schema.oracle import Harm, Oracle, Row

# Colour, marker and line of each way, the best first: grey print still tells them apart.
WAYS = {
    "oracle": (BLACK, "*", "-"),
    "shared oracle": (ORANGE, "v", "-"),
    "calibrated": (GREEN, "D", "-"),
    "DDiT": (BLUE, "o", ":"),
    "fine-first": (SKY, "^", "--"),
    "random": (PURPLE, "X", "--"),
    "coarse-first": (SKY, "s", ":"),
    "fewer steps": (VERMILION, "P", "-."),
}
NAMES = {
    "oracle": "oracle, a schedule each",
    "shared oracle": "oracle, one for all",
    "calibrated": "calibrated (ours)",
}


@styled
def oracle_figure(content: Oracle) -> Figure:
    """Two panels of oracle.json.

    Left: mean squared error of the final picture after one coarse step, by step and scale, on a logarithmic
    axis; the band holds the middle half of the prompts. Right: PSNR to the base's picture against cost (a
    share of the base's FLOPs, cheaper to the right), with 95 % intervals.
    Raises `DditError` where there is no row to draw.
    """
    if not content.rows:
        raise DditError("the oracle's figure needs at least one row; run `ddit-eval oracle` again")
    figure = new_figure(PAGE, 0.46 * PAGE)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    _harm(left, content.harm)
    _tradeoff(right, content.rows)
    right.set_title(f"{content.n} held-out prompts, {content.steps} steps", loc="left")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4, columnspacing=1.4)
    return figure


def _harm(axes: Axes, harm: Harm) -> None:
    low, high = harm.quartiles
    worst = max(mean[0] for mean in harm.mean)
    for scale, mean, below, above in zip(harm.scales, harm.mean, low, high, strict=True):
        at = np.arange(1, len(mean) + 1)
        colour = scale_colour(scale)
        axes.fill_between(at, below, above, color=colour, alpha=0.2, linewidth=0)
        axes.plot(at, mean, color=colour, marker="o" if scale == 2 else "s", markersize=2.5)
        axes.annotate(
            f"scale {scale}", (at[0], mean[0]), xytext=(3, 4 if mean[0] == worst else -9),
            textcoords="offset points", fontsize=7.0,
            color=darker(str(colour)) if isinstance(colour, str) else colour,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())  # no mathematics, which texts of figures are not
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.4)))
    axes.set_xlabel("the one coarse step, of the run")
    axes.set_ylabel("harm to the final picture (MSE)")
    axes.set_title("one coarse step alone", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(y=0.12)
    axes.grid(True, axis="y")
    twin = axes.secondary_yaxis("right", functions=(_decibels, _mse))
    twin.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    twin.yaxis.set_minor_locator(NullLocator())
    twin.yaxis.set_major_formatter("{x:g}")
    twin.set_ylabel("dB", rotation=0, labelpad=4)


def _decibels(mse: Any) -> Any:
    return -10 * np.log10(np.maximum(mse, 1e-12))


def _mse(decibels: Any) -> Any:
    return 10 ** (-np.asarray(decibels, float) / 10)


def _tradeoff(axes: Axes, rows: Sequence[Row]) -> None:
    for order, (family, (colour, marker, line)) in enumerate(WAYS.items()):
        own = sorted((row for row in rows if row.family == family), key=lambda row: row.cost)
        points = [(row.cost, row.psnr) for row in own if math.isfinite(row.psnr.value)]
        if not points:
            continue
        x = [cost for cost, _ in points]
        for cost, psnr in points:
            axes.plot([cost, cost], [psnr.low, psnr.high], color=colour, linewidth=0.7, alpha=0.7, zorder=2)
        axes.plot(
            x, [psnr.value for _, psnr in points], color=colour, marker=marker, linestyle=line, linewidth=0.9,
            markersize=7 if marker == "*" else 4.5, markeredgecolor="white", markeredgewidth=0.4,
            zorder=10 - order, label=NAMES.get(family, family),
        )  # fmt: skip
    axes.axvline(1.0, color=FAINT, linewidth=0.6, dashes=(2, 2), zorder=0)
    axes.invert_xaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel("cost, share of the base's FLOPs")
    axes.set_ylabel("PSNR to the base (dB)")
    axes.grid(True, axis="y")
