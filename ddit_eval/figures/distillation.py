"""Distillation error by timestep: the start values against the trained adapter, per scale."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from ddit_eval.figures.style import COLUMN, FAINT, INK, new_figure, scale_colour, styled
from ddit_eval.schema.distillation import Distillation, ErrorRow

MARKERS = "osD^v" * 3  # per scale, finest first
# What a scale should reach, as (t from, t to, error); drawn as light lines.
TARGETS = {2: ((0.0, 0.5, 0.15), (0.5, 1.0, 0.05)), 4: ((0.0, 0.5, 0.30), (0.5, 1.0, 0.10))}


@styled
def distillation_error(data: Distillation) -> Figure:
    """MSE of the velocity over its variance against t (1 = noise), on a logarithmic axis; a panel a side."""
    sides = sorted({row.side for row in data.rows})
    scales = sorted({row.scale for row in data.rows})
    figure = new_figure(COLUMN * min(len(sides), 2), 0.75 * COLUMN)
    panels = figure.subplots(1, len(sides), squeeze=False, sharey=True)[0]
    for axes, side in zip(panels, sides, strict=True):
        rows = [row for row in data.rows if row.side == side]
        _panel(axes, data.timesteps, rows, scales)
        axes.set_title(f"{side} px" if len(sides) > 1 else "")
    panels[0].set_ylabel("error / variance of velocity")
    handles = [
        Line2D([], [], color=scale_colour(s), linewidth=1.4, marker=marker, markersize=3, label=f"{s}p")
        for s, marker in zip(scales, MARKERS, strict=False)
    ]
    stages = {row.stage for row in data.rows}
    if "start" in stages:
        handles.append(Line2D([], [], color=INK, linestyle=(0, (3, 2)), linewidth=0.9, label="start values"))
    if "trained" in stages:
        handles.append(Line2D([], [], color=INK, linewidth=1.2, label="trained"))
    if TARGETS.keys() & {*scales}:
        handles.append(Line2D([], [], color=FAINT, linewidth=2.6, alpha=0.5, label="target"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=0.9, handletextpad=0.4
    )
    return figure


def _panel(axes: Axes, times: Sequence[float], rows: Sequence[ErrorRow], scales: list[int]) -> None:
    for scale, marker in zip(scales, MARKERS, strict=False):
        colour = scale_colour(scale)  # as in the schedule heatmap
        for start, stop, error in TARGETS.get(scale, ()):
            axes.plot(
                [start, stop], [error, error], color=colour, linewidth=2.6, alpha=0.25, zorder=1,
                solid_capstyle="butt",
            )  # fmt: skip
        for row in (row for row in rows if row.scale == scale):
            trained = row.stage == "trained"
            axes.plot(
                times, row.error, color=colour, marker=marker, markersize=3,
                markerfacecolor=None if trained else "white", markeredgewidth=0.8,
                linestyle="-" if trained else (0, (3, 2)), linewidth=1.2 if trained else 0.9, zorder=3,
                label=f"{scale}/{row.stage}",
            )  # fmt: skip
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_yticks([v for v in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if low <= v <= high])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, zorder=-2)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("t (0 = picture, 1 = noise)")
