"""Heatmaps of what a scheduler did (scale) and of what it saw (signal): prompts down, steps across."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import LogLocator, NullFormatter

from ddit_eval.errors import DditError
from ddit_eval.figures.style import (
    COLUMN,
    VERMILION,
    new_figure,
    scale_colour,
    scale_patches,
    shorten,
    styled,
)

LABELLED_ROWS = 12  # up to here every row carries its prompt; above it only numbers
NO_SIGNAL = "#d9d9d9"


@styled
def schedule_heatmap(
    scales: Sequence[Sequence[int]],
    *,
    labels: Sequence[str] | None = None,
    timesteps: Sequence[float] | None = None,
    title: str | None = None,
    known: Sequence[int] = (1, 2, 4),
) -> Figure:
    """Which scale ran at which step.

    `scales`: one row a prompt, one entry a step (rows may differ in length). `labels`: the prompts.
    `timesteps`: the scheduler's own timesteps (1000 .. 0) of the steps, shown along the top. `known`:
    scales that the legend names even where the data lack them. Right for a single row, too.
    """
    grid = _grid(scales)
    levels = sorted(set(known) | {int(s) for s in np.unique(grid[np.isfinite(grid)])})
    figure, axes = _canvas(grid, labels, title)
    codes = np.full(grid.shape, np.nan)
    for code, scale in enumerate(levels):
        codes[grid == scale] = code
    colours = ListedColormap([scale_colour(s) for s in levels])
    axes.pcolormesh(codes, cmap=colours, norm=BoundaryNorm(np.arange(len(levels) + 1) - 0.5, len(levels)),
                    edgecolors="white", linewidth=0.4 if grid.size <= 1600 else 0.0)  # fmt: skip
    _frame(axes, grid, labels, timesteps)
    figure.legend(
        handles=scale_patches(levels, edgecolor="#888888", linewidth=0.4),
        loc="outside lower center",
        ncols=len(levels),
        columnspacing=1.4,
    )
    return figure


@styled
def signal_heatmap(
    signals: Sequence[Sequence[float | None]],
    *,
    tau: float | None = None,
    timesteps: Sequence[float] | None = None,
    title: str | None = None,
    name: str = "signal",
) -> Figure:
    """The scheduler's signal per prompt and step on a logarithmic scale, with the border where it crosses
    `tau`.

    `signals`: one row a prompt; None where the history was still too short (drawn grey). `tau` is drawn
    along cell borders, not interpolated, because a decision is taken per cell.
    """
    grid = _grid(signals)
    seen = grid[np.isfinite(grid) & (grid > 0)]
    figure, axes = _canvas(grid, None, title)
    axes.set_facecolor(NO_SIGNAL)
    if seen.size:
        low, high = float(seen.min()), float(seen.max())
        # Keep tau on the bar unless it is far off.
        if tau is not None and tau > 0 and low / 3 < tau < 3 * high:
            low, high = min(low, tau / 1.05), max(high, tau * 1.05)
        norm = LogNorm(low, high if high > low else low * 1.01)
        mesh = axes.pcolormesh(np.clip(grid, low, None), cmap="cividis", norm=norm)
        bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=12 if len(grid) < 8 else 25)
        bar.set_label(name)
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,), numticks=12))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        if tau is not None:
            cells = _border(grid, tau)
            border = LineCollection(cells, colors=VERMILION, linewidths=1.0, capstyle="projecting")
            # A light casing keeps the line apart from dark and from yellow cells.
            border.set_path_effects([Stroke(linewidth=2.2, foreground="white"), Normal()])
            axes.add_collection(border)
            if low <= tau <= high:
                bar.ax.axhline(tau, color=VERMILION, linewidth=1.6)
            axes.plot([], [], color=VERMILION, linewidth=1.4, label=f"tau = {tau:g}{_outside(seen, tau)}")
    _frame(axes, grid, None, timesteps)
    handles, _ = axes.get_legend_handles_labels()
    if not np.isfinite(grid).all():
        handles.append(Patch(facecolor=NO_SIGNAL, label="no signal yet"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=1.4)
    return figure


def _grid(rows: Sequence[Sequence[float | None]] | Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of possibly different lengths -> (rows, longest) float array, NaN where there is nothing."""
    if not rows or not max(len(row) for row in rows):
        raise DditError("a heatmap needs at least one row with at least one step; the trace is empty")
    grid = np.full((len(rows), max(len(row) for row in rows)), np.nan)
    for i, row in enumerate(rows):
        grid[i, : len(row)] = [np.nan if v is None else float(v) for v in row]
    return grid


def _canvas(grid: np.ndarray, labels: Sequence[str] | None, title: str | None) -> tuple[Figure, Axes]:
    rows = len(grid)
    if rows == 1 and labels and not title:  # a single prompt has the whole width above its row
        title = textwrap.fill(shorten(labels[0], 400), int(17 * COLUMN))
    row = 0.26 if rows <= LABELLED_ROWS else 0.075
    head = 0.95 + 0.16 * (title or "").count("\n") + 0.2 * bool(title)
    figure = new_figure(COLUMN, min(max(row * rows, 0.3), 3.6) + head)
    axes = figure.subplots()
    if title:
        axes.set_title(title, loc="left", fontsize=8.0 if "\n" not in title else 7.5)
    return figure, axes


def _frame(
    axes: Axes, grid: np.ndarray, labels: Sequence[str] | None, timesteps: Sequence[float] | None
) -> None:
    rows, steps = grid.shape
    axes.invert_yaxis()
    for spine in axes.spines.values():
        spine.set_visible(False)
    stride = next(s for s in (1, 2, 4, 5, 10, 20, 50, 100, 200, 500, 1000) if steps / s <= 8 or s == 1000)
    ticks = np.arange(0, steps, stride)
    axes.set_xticks(ticks + 0.5, [str(t) for t in ticks])
    axes.set_xlabel("step")
    if rows == 1:
        axes.set_yticks([])
    elif labels is not None and rows <= LABELLED_ROWS:
        names = [textwrap.fill(shorten(label, 44), 22) for label in labels]
        axes.set_yticks(np.arange(rows) + 0.5, names, fontsize=7.0)
        axes.tick_params(axis="y", length=0)
    else:
        spacing = next(s for s in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if rows / s <= 8 or s == 1024)
        axes.set_yticks(np.arange(0, rows, spacing) + 0.5, [str(i) for i in range(0, rows, spacing)])
        axes.set_ylabel("prompt")
    if timesteps is not None and len(timesteps) == steps:
        top = axes.secondary_xaxis("top")
        top.set_xticks(ticks + 0.5, [f"{timesteps[int(t)]:.0f}" for t in ticks])
        top.tick_params(length=2)
        top.spines["top"].set_visible(False)
        top.set_xlabel("timestep")


def _outside(seen: np.ndarray, tau: float) -> str:
    return " (below all)" if tau <= seen.min() else " (above all)" if tau > seen.max() else ""


def _border(grid: np.ndarray, tau: float) -> list[list[tuple[float, float]]]:
    """The segments between neighbouring cells of which one is below `tau` and the other is not."""
    below, known = grid < tau, np.isfinite(grid)
    lines: list[list[tuple[float, float]]] = []
    for r, c in zip(*np.nonzero((below[:, 1:] != below[:, :-1]) & known[:, 1:] & known[:, :-1]), strict=True):
        lines.append([(c + 1.0, float(r)), (c + 1.0, r + 1.0)])
    for r, c in zip(*np.nonzero((below[1:] != below[:-1]) & known[1:] & known[:-1]), strict=True):
        lines.append([(float(c), r + 1.0), (c + 1.0, r + 1.0)])
    return lines
