"""Scenes to pixels: signed distances, anti-aliased, the same scene at any resolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ddit_eval.world.scene import Background, Scene, Thing

Array = NDArray[np.float32]

_RGB = {
    "red": (0.88, 0.12, 0.14),
    "orange": (0.97, 0.52, 0.08),
    "yellow": (0.97, 0.88, 0.16),
    "green": (0.13, 0.62, 0.22),
    "cyan": (0.25, 0.85, 0.90),
    "blue": (0.14, 0.30, 0.92),
    "purple": (0.52, 0.16, 0.68),
    "pink": (0.98, 0.55, 0.76),
    "white": (0.96, 0.96, 0.96),
    "gray": (0.55, 0.55, 0.56),
    "black": (0.06, 0.06, 0.07),
    "brown": (0.42, 0.29, 0.20),
    "navy": (0.12, 0.16, 0.34),
}
_DARKEN = 0.40  # the second colour of a texture, as a share of the first
_PERIOD = 0.10  # of stripes and dots on objects
_NOISE_CELLS = 32  # noise is drawn on this grid at every resolution


def _rgb(name: str) -> Array:
    return np.asarray(_RGB[name], np.float32)


def _star_distance(x: Array, y: Array) -> Array:
    """Approximate signed distance to a five-pointed star of outer radius 1."""
    angle = np.arctan2(x, -y)
    wedge = 2 * np.pi / 5
    folded = np.abs((angle + wedge / 2) % wedge - wedge / 2)
    radius = np.hypot(x, y)
    px, py = radius * np.sin(folded), radius * np.cos(folded)
    # The edge runs from the tip (0, 1) to the inner corner at half a wedge.
    inner = 0.44
    ex, ey = inner * np.sin(wedge / 2), inner * np.cos(wedge / 2) - 1.0
    return (px * -ey + (py - 1.0) * ex) / np.float32(np.hypot(ex, ey))


def _distance(shape: str, x: Array, y: Array) -> Array:
    """Signed distance (negative inside) to a shape of radius 1 centred at the origin."""
    if shape == "circle":
        return np.hypot(x, y) - np.float32(0.92)
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.80)
    if shape == "triangle":
        return np.maximum(np.abs(x) * np.float32(0.866) - y * np.float32(0.5), y) - np.float32(0.5)
    if shape == "star":
        return _star_distance(x, y)
    bar, arm = 0.30, 0.95
    upright = np.maximum(np.abs(x) - bar, np.abs(y) - arm)
    across = np.maximum(np.abs(x) - arm, np.abs(y) - bar)
    return np.minimum(upright, across)


def _coverage(distance: Array, pixel: float) -> Array:
    return np.clip(0.5 - distance / pixel, 0.0, 1.0)


def _stripes(phase: Array, period: float, pixel: float) -> Array:
    """1 on the stripe and 0 between, anti-aliased; `phase` is a length."""
    wave = np.abs((phase / period) % 1.0 - 0.5) - 0.25
    return _coverage(wave * period, pixel)


def _dots(x: Array, y: Array, period: float, pixel: float) -> Array:
    u, v = ((x / period) % 1.0 - 0.5), ((y / period) % 1.0 - 0.5)
    return _coverage((np.hypot(u, v) - 0.32) * period, pixel)


def _cell(at: Array, pixel: float, per_side: int) -> NDArray[np.int64]:
    """Which of `per_side` cells a pixel begins in; the quarter pixel keeps rounding off the edges."""
    return np.floor((at - pixel / 2) * per_side + pixel / 4).astype(np.int64)


def _paint_background(background: Background, x: Array, y: Array, pixel: float) -> Array:
    rng = np.random.default_rng(background.seed)
    one, two = (_rgb(c)[:, None, None] for c in background.colours)
    angle = rng.choice([0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4])
    phase = float(rng.random())
    along = (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32)
    if background.kind == "plain":
        mix = np.zeros_like(x)
    elif background.kind == "gradient":
        mix = (along - along.min()) / (along.max() - along.min())
    elif background.kind == "striped":
        mix = _stripes(along + phase, 0.16, pixel)
    elif background.kind == "checkered":
        a, b = (_stripes(t + phase, 0.25, pixel) for t in (x, y))
        mix = a * b + (1 - a) * (1 - b)
    else:
        cells = rng.random((_NOISE_CELLS, _NOISE_CELLS), np.float32)
        per_side = min(_NOISE_CELLS, len(x))
        rows, columns = (_cell(c, pixel, per_side) % _NOISE_CELLS for c in (y[:, 0], x[0]))
        mix = cells[np.ix_(rows, columns)]
    return one + (two - one) * mix


def _thing_layer(thing: Thing, x: Array, y: Array, pixel: float) -> tuple[Array, Array]:
    """Colour (3, H, W) and coverage (H, W) of one thing."""
    cos, sin = np.float32(np.cos(thing.angle)), np.float32(np.sin(thing.angle))
    u, v = x - np.float32(thing.x), y - np.float32(thing.y)
    u, v = cos * u + sin * v, cos * v - sin * u
    r = np.float32(thing.radius)
    drop = np.float32(0.2) * r if thing.shape == "triangle" else np.float32(0.0)
    alpha = _coverage(_distance(thing.shape, u / r, (v - drop) / r) * r, pixel)
    colour = _rgb(thing.colour)[:, None, None]
    if thing.texture == "striped":
        mix = _stripes(u + v, _PERIOD * 1.41, pixel)
    elif thing.texture == "dotted":
        mix = _dots(u, v, _PERIOD, pixel)
    else:
        return np.broadcast_to(colour, (3, *x.shape)), alpha
    return colour * (1 - (1 - np.float32(_DARKEN)) * mix), alpha


def _window(thing: Thing, side: int) -> tuple[slice, slice]:
    """The pixels that a thing can touch."""
    reach = thing.radius * 1.25
    low = [max(0, int((c - reach) * side)) for c in (thing.y, thing.x)]
    high = [min(side, int((c + reach) * side) + 1) for c in (thing.y, thing.x)]
    return slice(low[0], high[0]), slice(low[1], high[1])


@lru_cache(maxsize=8)
def _grid(side: int) -> tuple[Array, Array]:
    centres = ((np.arange(side) + 0.5) / side).astype(np.float32)
    y, x = np.meshgrid(centres, centres, indexing="ij")
    x.flags.writeable = y.flags.writeable = False
    return x, y


def backdrop(background: Background, side: int, pan: tuple[float, float] = (0.0, 0.0)) -> Array:
    """The background alone, (3, side, side), as a camera sees it that stands `pan` (x, y) off.

    Patterns go on for ever; a gradient follows the camera.
    """
    x, y = _grid(side)
    return _paint_background(background, x + np.float32(pan[0]), y + np.float32(pan[1]), 1 / side)


def draw_things(picture: Array, things: Sequence[Thing]) -> None:
    """Draw `things` over `picture` (3, side, side) in place, the last on top."""
    side = picture.shape[-1]
    x, y = _grid(side)
    for thing in things:
        at = _window(thing, side)
        colour, alpha = _thing_layer(thing, x[at], y[at], 1 / side)
        patch = picture[:, *at]
        patch += (colour - patch) * alpha


def render(scenes: Sequence[Scene], side: int) -> Array:
    """Draw scenes as float32 RGB in [0, 1], shape (N, 3, side, side)."""
    out = np.empty((len(scenes), 3, side, side), np.float32)
    for picture, scene in zip(out, scenes, strict=True):
        picture[:] = backdrop(scene.background, side)
        draw_things(picture, scene.things)
    return out


def render_labels(scenes: Sequence[Scene], side: int) -> NDArray[np.uint8]:
    """Which thing covers each pixel: 0 for none, i + 1 for thing i; (N, side, side)."""
    x, y = _grid(side)
    out = np.zeros((len(scenes), side, side), np.uint8)
    for labels, scene in zip(out, scenes, strict=True):
        for index, thing in enumerate(scene.things):
            at = _window(thing, side)
            labels[at][_thing_layer(thing, x[at], y[at], 1 / side)[1] > 0.5] = index + 1
    return out
