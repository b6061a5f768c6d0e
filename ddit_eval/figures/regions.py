"""The patch sizes of single steps over the picture that came of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from ddit_eval.errors import DditError
from ddit_eval.figures.pictures import pixels_of, show
from ddit_eval.figures.style import PAGE, scale_colour, scale_patches, shorten, styled


def parse_sizes(text: str) -> np.ndarray[Any, Any]:
    """(F, H, W) scales from a trace's `sizes`: digits, rows parted by / and frames by |."""
    return np.array([[[int(d, 36) for d in row] for row in frame.split("/")] for frame in text.split("|")])


def patches_of(sizes: np.ndarray[Any, Any]) -> dict[int, list[tuple[int, int]]]:
    """(row, column) of the first base token of every patch of one frame (H, W), by scale."""
    found: dict[int, list[tuple[int, int]]] = {}
    for scale in np.unique(sizes):
        rows, columns = np.nonzero(sizes == scale)
        firsts = {(r // scale * scale, c // scale * scale) for r, c in zip(rows, columns, strict=True)}
        found[int(scale)] = sorted((int(r), int(c)) for r, c in firsts)
    return found


@styled
def region_maps(
    pictures: Sequence[Any],
    maps: Sequence[Sequence[tuple[str, np.ndarray[Any, Any]]]],
    *,
    rows: Sequence[str],
    title: str | None = None,
) -> Figure:
    """A row a prompt: its picture, then the tiling of some steps over it.

    `pictures[r]`: a path or an array, `maps[r]`: (heading, sizes (H, W)) of as many steps in each row.
    """
    if not pictures or len({len(row) for row in maps}) != 1 or not maps[0]:
        raise DditError("region_maps needs a picture and as many maps for each row")
    across = 1 + len(maps[0])
    cell = PAGE / across
    figure = Figure(figsize=(PAGE, cell * len(pictures) + 0.2 * len(pictures) + 0.55))
    panels = figure.subplots(len(pictures), across, squeeze=False)
    tall = figure.get_figheight()
    figure.subplots_adjust(
        left=0.01, right=0.99, top=1 - 0.42 / tall, bottom=0.28 / tall, wspace=0.04, hspace=0.12
    )
    for panel, picture, row, name in zip(panels, pictures, maps, rows, strict=True):
        image = pixels_of(picture)
        show(panel[0], image)
        panel[0].set_title(shorten(name, 22), fontsize=6)
        for axes, (heading, sizes) in zip(panel[1:], row, strict=True):
            _tile(axes, image, sizes, heading)
    scales = sorted({int(s) for row in maps for _, sizes in row for s in np.unique(sizes)})
    _legend(figure, scales)
    if title:
        figure.suptitle(title, y=1 - 0.04 / tall, va="top")
    return figure


@styled
def region_film(
    pictures: Sequence[Any],
    maps: Sequence[Sequence[np.ndarray[Any, Any]]],
    *,
    headings: Sequence[Sequence[str]],
    title: str | None = None,
) -> list[Image.Image]:
    """A frame a step: the pictures side by side, each under the tiling that it had in that step.

    `maps[r][k]`: sizes (H, W) of picture r in step k, `headings[r][k]`: what stands above it.
    """
    steps = {len(row) for row in maps}
    if not pictures or len(steps) != 1 or steps == {0}:
        raise DditError("region_film needs pictures with as many steps each")
    images = [pixels_of(picture) for picture in pictures]
    cell = PAGE / max(4, len(images))
    scales = sorted({int(s) for row in maps for sizes in row for s in np.unique(sizes)})
    frames = []
    for step in range(*steps):
        figure = Figure(figsize=(cell * len(images), cell + 0.75), dpi=110)
        canvas = FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(images), squeeze=False)[0]
        tall = figure.get_figheight()
        figure.subplots_adjust(left=0.01, right=0.99, top=1 - 0.45 / tall, bottom=0.3 / tall, wspace=0.05)
        for axes, image, row, heads in zip(panels, images, maps, headings, strict=True):
            _tile(axes, image, row[step], heads[step])
        _legend(figure, scales)
        figure.suptitle(
            f"{title + ', ' if title else ''}step {step + 1} of {len(maps[0])}", y=1 - 0.04 / tall, va="top"
        )
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    return frames


def _legend(figure: Figure, scales: Sequence[int]) -> None:
    handles = scale_patches(scales, alpha=0.45, edgecolor="#555555")
    figure.legend(handles=handles, loc="lower center", ncols=len(scales))


def _tile(axes: Axes, image: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any], heading: str) -> None:
    """The picture with its patches as tinted squares."""
    show(axes, image)
    axes.set_title(heading, fontsize=6)
    token = image.shape[1] / sizes.shape[1]  # pixels a side
    for scale, firsts in patches_of(sizes).items():
        side = scale * token
        squares = [Rectangle((c * token - 0.5, r * token - 0.5), side, side) for r, c in firsts]
        face, edge = (to_rgba(scale_colour(scale), alpha) for alpha in (0.35, 0.9))
        axes.add_collection(PatchCollection(squares, facecolor=face, edgecolor=edge, linewidth=0.35))
