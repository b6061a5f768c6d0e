"""Speed against quality: every method with both intervals, the null row as the width of no effect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter, NullLocator

from ddit_eval.errors import DditError
from ddit_eval.figures.labels import label_points
from ddit_eval.figures.style import FAINT, PAGE, MethodGroup, darker, new_figure, styled

Interval = tuple[float, float, float]  # value, low, high


@dataclass(frozen=True)
class Point:
    """One method: its label, its group, and two intervals (value, low, high)."""

    label: str
    group: MethodGroup
    speed: Interval
    quality: Interval


@styled
def speed_quality(
    points: Sequence[Point],
    *,
    quality_name: str = "PSNR to base (dB)",
    direction: str = "higher",
    null: Interval | None = None,
    frontier: Sequence[tuple[float, float]] = (),
    flops: bool = False,
) -> Figure:
    """Quality against speed-up, both with their 95 % intervals; up and to the right is better.

    Infinite quality (a PSNR of the same picture) sits on a line of its own at the top. `null`: the speed-up
    interval of the base against itself, a grey band: nothing inside it is a speed-up. `frontier`:
    (speed-up, quality) of the interpolated fewer-steps curve that a verdict was read from.
    `direction="lower"` turns the axis round; `flops`: FLOP ratios stand for speed-ups.
    """
    if not points:
        raise DditError("speed_quality needs at least one method; the result files name none")
    figure = new_figure(PAGE, 0.58 * PAGE)
    axes = figure.subplots()
    top = _infinity_line(axes, points)
    bars: list[list[tuple[float, float]]] = []
    for point in points:
        colour, marker = point.group.colour, point.group.marker
        x, (y, y0, y1) = point.speed[0], (top if math.isinf(v) else v for v in point.quality)
        size = 9.0 if marker == "*" else 4.5
        axes.plot([point.speed[1], point.speed[2]], [y, y], color=colour, linewidth=0.9, zorder=2)
        axes.plot([x, x], [y0, y1], color=colour, linewidth=0.9, zorder=2)
        axes.plot(
            [x], [y], marker, color=colour, markersize=size, markeredgecolor="white", markeredgewidth=0.4,
            zorder=5 if point.group.name == "base" else 3, gid=point.label,
        )  # fmt: skip
        bars += [[(point.speed[1], y), (point.speed[2], y)], [(x, y0), (x, y1)]]
    groups = list(dict.fromkeys(p.group for p in points))
    for group in (g for g in groups if g.joined):
        curve = sorted((p.speed[0], p.quality[0]) for p in points if p.group == group)
        curve = list(frontier) or [(x, y) for x, y in curve if math.isfinite(y)]
        if len(curve) > 1:
            axes.plot(*zip(*curve, strict=True), color=group.colour, linewidth=0.8, alpha=0.5, zorder=1)
            bars.append(curve[:: max(1, len(curve) // 20)])
    if null is not None:
        axes.axvspan(null[1], null[2], color="#eeeeee", zorder=0, linewidth=0)
    _reference(axes, points)
    speed_axis(axes, min(p.speed[1] for p in points), max(p.speed[2] for p in points))
    axes.set_xlabel("FLOPs of the base ÷ FLOPs" if flops else "measured speed-up over the base (×)")
    axes.set_ylabel(quality_name)
    axes.margins(y=0.08)
    if direction == "lower":
        axes.invert_yaxis()
    _legend(figure, groups, null)
    positions = [(p.speed[0], top if math.isinf(p.quality[0]) else p.quality[0]) for p in points]
    colours = [darker(p.group.colour) for p in points]
    label_points(axes, positions, [p.label for p in points], colours, bars)
    return figure


def _infinity_line(axes: Axes, points: Sequence[Point]) -> float:
    """Where infinity is drawn; marks it as off the axis where any point is infinite."""
    finite = [v for p in points for v in p.quality if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    top = high + 0.14 * ((high - low) or 1.0)
    if any(math.isinf(p.quality[0]) for p in points):
        axes.axhline(top - 0.07 * ((high - low) or 1.0), color=FAINT, linewidth=0.6, dashes=(2, 2), zorder=0)
        axes.annotate(
            "∞", (0, top), (-4, 0), ("axes fraction", "data"), "offset points",
            ha="right", va="center", fontsize=9,
        )  # fmt: skip
        ticks = axes.yaxis.get_major_locator().tick_values(low, high)
        axes.set_yticks([t for t in ticks if low <= t <= high])
    return top


def _reference(axes: Axes, points: Sequence[Point]) -> None:
    base = next((p for p in points if p.group.name == "base"), None)
    if base and math.isfinite(base.quality[0]):
        axes.axhspan(base.quality[1], base.quality[2], color="#f4f4f4", zorder=-1, linewidth=0)
        axes.axhline(base.quality[0], color=FAINT, linewidth=0.6, dashes=(4, 2), zorder=0)


def speed_axis(axes: Axes, low: float, high: float) -> None:
    """Ratios, so logarithmic, with plain numbers at the ticks."""
    axes.set_xscale("log")
    axes.set_xlim(low / 1.04, high * 1.06)
    ticks = (0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30)
    axes.set_xticks([t for t in ticks if low / 1.04 <= t <= high * 1.06])
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, axis="y", zorder=-2)


def _legend(figure: Figure, groups: Sequence[MethodGroup], null: Interval | None) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=g.colour, marker=g.marker, linestyle="", markersize=size, label=g.name)
        for g in groups
        for size in [7 if g.marker == "*" else 4.5]
    ]
    if null is not None:
        handles.append(Patch(facecolor="#e4e4e4", label="no effect (base again)"))
    # One row of eight names and more is wider than the figure.
    columns = len(handles) if len(handles) < 8 else math.ceil(len(handles) / 2)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.1, handletextpad=0.5
    )
