"""The best ways to each speed-up: with anything, without a coarse patch, by the published rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ddit_eval.figures.labels import label_points
from ddit_eval.figures.style import BLUE, FAINT, PAGE, PURPLE, VERMILION, darker, new_figure, shorten, styled
from ddit_eval.figures.tradeoff import Interval, speed_axis

# Kind: its name, colour, marker and size. The larger lies beneath: a way that is two things shows both.
KINDS = {
    "best": ("best way found", BLUE, "o", 9.0),
    "plain": ("best without a coarse patch", VERMILION, "s", 4.5),
    "ddit": ("best DDiT row", PURPLE, "^", 5.5),
}


@dataclass(frozen=True)
class Found:
    """A way of a kind of `KINDS` to a target."""

    kind: str
    label: str
    speed: Interval
    quality: Interval


@styled
def frontier_figure(
    found: Sequence[Found],
    targets: Sequence[float],
    *,
    quality_name: str = "PSNR to base (dB)",
    direction: str = "higher",
    clock: bool = True,
) -> Figure:
    """Quality on held-out prompts against speed-up, both with their intervals; up and to the right is
    better. `targets`: those asked for, as lines. `clock`: speed-ups are measured, else they are FLOP ratios.
    """
    figure = new_figure(PAGE, 0.5 * PAGE)
    axes = figure.subplots()
    bars: list[list[tuple[float, float]]] = []
    for target in targets:
        axes.axvline(target, color=FAINT, linewidth=0.6, dashes=(4, 2), zorder=0)
    for way in (w for w in found if math.isfinite(w.quality[0])):
        _, colour, marker, size = KINDS[way.kind]
        (x, x0, x1), (y, y0, y1) = way.speed, way.quality
        axes.plot([x0, x1], [y, y], color=colour, linewidth=0.9, zorder=2)
        axes.plot([x, x], [y0, y1], color=colour, linewidth=0.9, zorder=2)
        axes.plot(
            [x], [y], marker, color=colour, markersize=size, markeredgecolor="white", markeredgewidth=0.5,
            zorder=12 - size, gid=way.label,
        )  # fmt: skip
        bars += [[(x0, y), (x1, y)], [(x, y0), (x, y1)]]
    ends = [end for way in found for end in way.speed[1:]]
    ends += [target for target in targets if target < 1.3 * max(ends)]  # those far out of reach are not shown
    speed_axis(axes, min(ends), max(ends))
    axes.set_xlabel("measured speed-up over the base (×)" if clock else "FLOPs of the base over its own (×)")
    axes.set_ylabel(quality_name)
    axes.margins(y=0.1)
    if direction == "lower":
        axes.invert_yaxis()
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=size, label=name)
        for kind, (name, colour, marker, size) in KINDS.items()
        if kind in {way.kind for way in found}
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) or 1)
    named = {(way.speed[0], way.quality[0]): way for way in reversed(found) if math.isfinite(way.quality[0])}
    texts = [shorten(way.label, 34) for way in named.values()]
    label_points(axes, [*named], texts, [darker(KINDS[w.kind][1]) for w in named.values()], bars)
    return figure
