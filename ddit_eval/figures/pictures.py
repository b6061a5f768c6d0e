"""Pictures side by side: prompts down, methods across, the base first."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ddit_eval.errors import DditError
from ddit_eval.figures.style import PAGE, shorten, styled


@styled
def picture_grid(
    pictures: Sequence[Sequence[Any]],
    *,
    columns: Sequence[str],
    rows: Sequence[str] | None = None,
    notes: Sequence[str] | None = None,
    width: float = PAGE,
    label_share: float = 1.0,
) -> Figure:
    """A grid of pictures.

    `pictures[r][c]`: a path, or an array (H, W, 3) of bytes or of floats in 0..1, or None (left blank).
    `columns`: the methods, `notes`: a second, smaller line under each (e.g. "1.6×, 26 dB"), `rows`: the
    prompts. Small pictures are enlarged without smoothing, so that what is shown is what was made.
    """
    if not pictures or not columns:
        raise DditError("picture_grid needs at least one row and one column of pictures")
    for r, row in enumerate(pictures):
        if len(row) != len(columns):
            raise DditError(f"row {r} of the picture grid has {len(row)} pictures for {len(columns)} columns")
    label = label_share if rows else 0.0
    gap = 0.04
    cell = (width - label - 0.04) / len(columns)
    head = 0.2 + 0.13 * bool(notes) + 0.12 * max(_lines(c, cell) - 1 for c in columns)
    figure = Figure(figsize=(width, head + cell * len(pictures) + 0.02))
    total = figure.get_figheight()
    for r, row in enumerate(pictures):
        for c, picture in enumerate(row):
            left, bottom = label + c * cell, total - head - (r + 1) * cell
            axes = figure.add_axes(
                (left / width, (bottom + gap) / total, (cell - gap) / width, (cell - gap) / total)
            )
            axes.set_axis_off()
            if picture is not None:
                pixels = pixels_of(picture)
                small = max(pixels.shape[:2]) <= 256
                axes.imshow(pixels, interpolation="nearest" if small else "antialiased")
        if rows:
            middle = total - head - (r + 0.5) * cell + gap / 2
            figure.text(
                0.02 / width,
                middle / total,
                textwrap.fill(shorten(rows[r], 70), 18),
                va="center",
                fontsize=7.0,
            )
    for c, name in enumerate(columns):
        x = (label + (c + 0.5) * cell - gap / 2) / width
        y = total - head + 0.04 + 0.13 * bool(notes)
        figure.text(x, y / total, "\n".join(_wrap(name, cell)), ha="center", va="bottom", fontsize=7.0,
                    linespacing=1.05)  # fmt: skip
        if notes:
            figure.text(x, (total - head + 0.04) / total, notes[c], ha="center", va="bottom", fontsize=7.0,
                        color="#555555")  # fmt: skip
    return figure


def _wrap(name: str, cell: float) -> list[str]:
    return textwrap.wrap(name, max(6, int(cell * 16)), break_on_hyphens=True) or [""]


def _lines(name: str, cell: float) -> int:
    return len(_wrap(name, cell))


def pixels_of(picture: Any) -> np.ndarray:
    if isinstance(picture, str | Path):
        from PIL import Image

        with Image.open(picture) as image:
            return np.asarray(image.convert("RGB"))
    return np.asarray(picture)
