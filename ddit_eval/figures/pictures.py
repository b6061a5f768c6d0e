"""Pictures side by side: prompts down, methods across, the base first."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddit_eval.errors import DditError
from ddit_eval.figures.style import PAGE, shorten, styled
from ddit_eval.system.pictures import read_levels


@styled
def picture_grid(
    pictures: Sequence[Sequence[Any]],
    *,
    columns: Sequence[str],
    rows: Sequence[str] | None = None,
    notes: Sequence[str] | None = None,
) -> Figure:
    """A grid of pictures.

    `pictures[r][c]`: a path, or an array (H, W, 3) of bytes or of floats in 0..1.
    `columns`: the methods, `notes`: below each, smaller (e.g. "1.6×, 26 dB"), `rows`: the prompts.
    """
    if not pictures or not columns:
        raise DditError("picture_grid needs at least one row and one column of pictures")
    for r, row in enumerate(pictures):
        if len(row) != len(columns):
            raise DditError(f"row {r} of the picture grid has {len(row)} pictures for {len(columns)} columns")
    label = 1.0 if rows else 0.0
    gap = 0.04
    cell = (PAGE - label - 0.04) / len(columns)
    # Of one line where that fits between its neighbours.
    below = [[note] if len(note) <= cell * 16 else note.split(", ") for note in notes or ()]
    under = 0.12 * max(map(len, below), default=0)
    head = 0.2 + under + 0.12 * max(len(_wrap(c, cell)) - 1 for c in columns)
    figure = Figure(figsize=(PAGE, head + cell * len(pictures) + 0.02))
    total = figure.get_figheight()
    for r, row in enumerate(pictures):
        for c, picture in enumerate(row):
            left, bottom = label + c * cell, total - head - (r + 1) * cell
            axes = figure.add_axes(
                (left / PAGE, (bottom + gap) / total, (cell - gap) / PAGE, (cell - gap) / total)
            )
            show(axes, picture)
        if rows:
            middle = total - head - (r + 0.5) * cell + gap / 2
            prompt = textwrap.fill(shorten(rows[r], 70), 18)
            figure.text(0.02 / PAGE, middle / total, prompt, va="center", fontsize=7.0)
    for c, name in enumerate(columns):
        x = (label + (c + 0.5) * cell - gap / 2) / PAGE
        y = total - head + 0.04 + under
        figure.text(x, y / total, "\n".join(_wrap(name, cell)), ha="center", va="bottom", fontsize=7.0,
                    linespacing=1.05)  # fmt: skip
        if notes:
            figure.text(x, (y - 0.01) / total, "\n".join(below[c]), ha="center", va="top", fontsize=7.0,
                        linespacing=1.05, color="#555555")  # fmt: skip
    return figure


def _wrap(name: str, cell: float) -> list[str]:
    return textwrap.wrap(name, max(6, int(cell * 16)), break_on_hyphens=True) or [""]


def show(axes: Axes, picture: Any) -> None:
    """Small pictures are enlarged without smoothing, so that what is shown is what was made."""
    pixels = pixels_of(picture)
    axes.set_axis_off()
    axes.imshow(pixels, interpolation="nearest" if max(pixels.shape[:2]) <= 256 else "antialiased")


def pixels_of(picture: Any) -> np.ndarray:
    return read_levels(Path(picture), moving=True) if isinstance(picture, str | Path) else np.asarray(picture)
