"""Direct labels that keep off the points, the error bars and one another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from ddit_eval.figures.style import FAINT, INK

RADII = np.array(
    [6.0, 10.0, 15.0, 21.0, 28.0, 37.0, 48.0, 60.0]
)  # points, from the mark to the label's near side
ANGLES = np.deg2rad(np.arange(0, 360, 15))
LEADER_FROM = 10.0  # beyond this radius a thin line leads back to the mark
# Cost per square point: covering another label, leaving the frame, covering a mark or a bar.
LABEL, FRAME, DATA = 40.0, 20.0, 3.0


def label_points(
    axes: Axes,
    positions: Sequence[tuple[float, float]],
    texts: Sequence[str],
    colours: Sequence[ColorType] | None = None,
    bars: Sequence[Sequence[tuple[float, float]]] = (),
    fontsize: float = 7.0,
) -> np.ndarray:
    """Write each text near its position (data coordinates), greedily, the most crowded position first.

    `bars`: polylines in data coordinates (error bars, curves) that labels should not cover. Call it last,
    when limits are final. Returns the labels' boxes (n, 4) in points (1/72 inch): left, bottom, right, top,
    in the order given.
    """
    if not texts:
        return np.zeros((0, 4))
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # settles the layout, so that pixels mean something
    scale = 72.0 / figure.dpi
    marks = axes.transData.transform(np.asarray(positions, float)) * scale
    frame = np.asarray(axes.get_window_extent().extents) * scale
    sizes = [_size(axes, text, fontsize) * scale for text in texts]
    chains = [_along(axes.transData.transform(np.asarray(bar, float)) * scale) for bar in bars]
    obstacles = np.vstack([_boxes(marks, 3.0), *(_boxes(chain, 0.8) for chain in chains)])
    gaps = np.linalg.norm(marks[:, None] - marks[None], axis=-1)
    crowd = np.exp(-gaps / 25.0).sum(axis=1)

    placed = np.full((len(texts), 4), np.nan)
    for i in sorted(range(len(texts)), key=lambda i: (-round(crowd[i], 6), i)):
        done = placed[~np.isnan(placed[:, 0])]
        placed[i], near = _best(marks[i], sizes[i], obstacles, done, frame)
        far = np.hypot(*(near - marks[i])) > LEADER_FROM
        axes.annotate(
            texts[i], positions[i], xytext=tuple((placed[i, :2] + placed[i, 2:]) / 2 - marks[i]),
            textcoords="offset points", ha="center", va="center", fontsize=fontsize, annotation_clip=False,
            color=colours[i] if colours else INK,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2.5}
            if far else None,
        )  # fmt: skip
    return placed


def _best(
    mark: np.ndarray, size: np.ndarray, obstacles: np.ndarray, labels: np.ndarray, frame: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest of all angles and radii, as (box, the label's point nearest to the mark)."""
    radius, angle = (grid.ravel() for grid in np.meshgrid(RADII, ANGLES, indexing="ij"))
    way = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    near = mark + radius[:, None] * way
    low = near - size * (1 - way) / 2  # the nearest point slides along the label's edge as the angle turns
    boxes = np.hstack([low, low + size])
    padded = boxes + np.array([-1.0, -0.5, 1.0, 0.5])
    area = float(np.prod(size + np.array([2.0, 1.0])))
    cost = 0.35 * radius + 0.5 * np.abs(way[:, 1])
    cost += LABEL * _overlap(padded, labels) + DATA * _overlap(padded, obstacles)
    cost += FRAME * (area - _overlap(padded, frame[None]))
    for i in np.nonzero(radius > LEADER_FROM)[0]:
        leader = _boxes(_along(np.stack([mark, near[i]])), 0.8)[2:]
        cost[i] += 4 * _overlap(leader, labels).sum() + _overlap(leader, obstacles).sum()
    best = int(np.argmin(np.round(cost, 6)))
    return boxes[best], near[best]


def _size(axes: Axes, text: str, fontsize: float) -> np.ndarray:
    """Width and height of a text in pixels."""
    artist = axes.text(0, 0, text, fontsize=fontsize)
    extent = artist.get_window_extent()
    artist.remove()
    return np.array([extent.width, extent.height])


def _boxes(points: np.ndarray, half: float) -> np.ndarray:
    return np.hstack([points - half, points + half])


def _along(ends: np.ndarray, spacing: float = 3.0) -> np.ndarray:
    """A polyline as points, about `spacing` apart."""
    parts = []
    for start, stop in pairwise(ends):
        count = max(1, int(np.hypot(*(stop - start)) // spacing))
        parts.append(start + np.linspace(0, 1, count + 1)[:, None] * (stop - start))
    return np.vstack(parts) if parts else ends


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that each of (n, 4) boxes shares with all of (m, 4) others, summed -> (n,)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    total: np.ndarray = np.clip(high - low, 0, None).prod(axis=-1).sum(axis=1)
    return total
