"""Scenes in motion: things move, turn, grow and cross, or the camera pans, all at constant speed.

Time runs from 0 (first frame) to 1 (last frame). Lengths are fractions of the picture's side as in
`ddit_eval.world.scene`. All motion of one clip runs along one axis, so that the place and the relation
that a caption names hold from the first frame to the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ddit_eval.errors import DditError
from ddit_eval.world.render import Array, backdrop, draw_things
from ddit_eval.world.scene import RADIUS, SIZES, Scene, Split, Thing, sample_background, sample_looks

Rng = np.random.Generator
Way = tuple[float, float]

DIRECTIONS: dict[str, Way] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
TURNS = {"clockwise": 1.0, "counterclockwise": -1.0}
GROWTH = {"grows": (0.7, 1.15), "shrinks": (1.15, 0.7)}  # radius at the first and the last frame
PATTERNS = ("striped", "checkered", "noisy")  # backgrounds on which a camera's pan can be seen
_LANES = (0.27, 0.73)  # of two things, across the axis of motion

Kind = Literal["still", "moves", "turns", "grows"]


@dataclass(frozen=True)
class Motion:
    """What one thing does during a clip.

    words   as a caption says it; empty for a thing at rest
    shift   way of the centre over the background (x, y)
    turn    radians, clockwise
    growth  factors on the radius at the first and the last frame
    """

    words: str = ""
    shift: Way = (0.0, 0.0)
    turn: float = 0.0
    growth: Way = (1.0, 1.0)


@dataclass(frozen=True)
class MovingScene:
    """A clip: `scene` is its middle, with one motion for each thing.

    camera    direction in which the camera pans, `pan` its way (x, y); things drift against it
    crossing  whether two things pass each other
    """

    scene: Scene
    motions: tuple[Motion, ...]
    camera: str | None = None
    pan: Way = (0.0, 0.0)
    crossing: bool = False

    @property
    def things(self) -> tuple[Thing, ...]:
        """The things as they are in the middle of the clip."""
        return self.scene.things

    def at(self, time: float) -> Scene:
        """The exact scene at one moment: places in the picture, radii and angles."""
        moved = zip(self.scene.things, self.motions, strict=True)
        return replace(self.scene, things=tuple(self._moved(*pair, time) for pair in moved))

    def _moved(self, thing: Thing, motion: Motion, time: float) -> Thing:
        since = time - 0.5
        return replace(
            thing,
            x=thing.x + since * (motion.shift[0] - self.pan[0]),
            y=thing.y + since * (motion.shift[1] - self.pan[1]),
            radius=thing.radius * ((1 - time) * motion.growth[0] + time * motion.growth[1]),
            angle=thing.angle + since * motion.turn,
        )


def times(frames: int) -> list[float]:
    """The moments of a clip's frames; a single frame shows the middle."""
    if frames < 1:
        raise DditError(f"a clip needs at least one frame, got {frames}")
    return [i / (frames - 1) for i in range(frames)] if frames > 1 else [0.5]


def render_clip(scenes: Sequence[MovingScene], side: int, frames: int) -> Array:
    """Draw clips as float32 RGB in [0, 1], shape (N, frames, 3, side, side)."""
    moments = times(frames)
    out = np.empty((len(scenes), frames, 3, side, side), np.float32)
    for clip, scene in zip(out, scenes, strict=True):
        resting = backdrop(scene.scene.background, side)
        for picture, time in zip(clip, moments, strict=True):
            pan = (time * scene.pan[0], time * scene.pan[1])
            picture[:] = backdrop(scene.scene.background, side, pan) if scene.camera else resting
            draw_things(picture, scene.at(time).things)
    return out


def _way(direction: str, length: float) -> Way:
    x, y = DIRECTIONS[direction]
    return (x * length, y * length)


def _moves(rng: Rng, direction: str, low: float = 0.32, high: float = 0.42) -> Motion:
    return Motion(f"moves {direction}", shift=_way(direction, float(rng.uniform(low, high))))


def _draw_motion(rng: Rng, kind: Kind, along: tuple[str, str], round_and_plain: bool) -> Motion:
    if kind == "moves":
        return _moves(rng, along[rng.integers(2)])
    if kind == "turns" and not round_and_plain:  # whose turning could not be seen
        sense = str(rng.choice(list(TURNS)))
        return Motion(f"turns {sense}", turn=TURNS[sense] * float(rng.uniform(0.9, 1.2)))
    if kind == "still":
        return Motion()
    words = str(rng.choice(list(GROWTH)))
    return Motion(words, growth=GROWTH[words])


def _places(rng: Rng, across: tuple[str, str], reach: float) -> tuple[str, float]:
    """A place for a lone thing and its coordinate across the axis of motion."""
    place = str(rng.choice([*across, "middle"]))
    edge = reach + 0.08
    return place, {across[0]: edge, across[1]: 1 - edge, "middle": 0.5}[place]


def sample_moving_scene(rng: Rng, split: Split = "train") -> MovingScene:
    """Draw one clip. `split="heldout"` forces a combination of looks that training never shows."""
    count = 1 + int(rng.random() < 0.5)
    busy = float(rng.random())  # as for still scenes: from simple to busy
    looks = sample_looks(rng, count, split, textured=0.15 + 0.6 * busy)
    background = sample_background(rng, busy)
    sizes = [str(rng.choice(SIZES)) for _ in range(count)]
    radii = [RADIUS[s] * (0.85 if count > 1 else 1.0) * float(rng.uniform(0.96, 1.04)) for s in sizes]
    level = bool(rng.random() < 0.5)  # whether the axis of motion is the horizontal one
    along = ("left", "right") if level else ("up", "down")
    across, beside = (
        (("top", "bottom"), ("above", "below")) if level else (("left", "right"), ("left", "right"))
    )

    camera = along[rng.integers(2)] if background.kind in PATTERNS and rng.random() < 0.35 else None
    pan = _way(camera, float(rng.uniform(0.3, 0.38))) if camera else (0.0, 0.0)
    crossing = count == 2 and camera is None and bool(rng.random() < 0.3)
    if crossing:
        way = along[rng.integers(2)]
        motions = [_moves(rng, d, 0.42, 0.5) for d in (way, OPPOSITE[way])]
    else:
        # Something must move: the first thing, or else the camera.
        shares = {
            "first": (0.0, 0.6, 0.2, 0.2),
            "second": (0.4, 0.3, 0.15, 0.15),
            "panned": (0.5, 0, 0.25, 0.25),
        }
        motions = []
        for i, (shape, _, texture) in enumerate(looks):
            share = shares["panned" if camera else ("first", "second")[i]]
            kind: Kind = ("still", "moves", "turns", "grows")[rng.choice(4, p=share)]
            motions.append(_draw_motion(rng, kind, along, shape == "circle" and texture == "solid"))

    place = relation = None
    middles = [0.5 + float(rng.uniform(-0.03, 0.03)) for _ in looks]
    if count == 1:
        place, lane = _places(rng, across, radii[0] * max(motions[0].growth))
        lanes = [lane]
    elif crossing:
        apart = float(rng.uniform(0.08, 0.14)) * float(rng.choice([-1, 1]))
        lanes = [0.5 - apart, 0.5 + apart]
    else:
        relation = beside[rng.integers(2)]
        lanes = list(_LANES if relation in ("above", "left") else _LANES[::-1])
    lanes = [lane + float(rng.uniform(-0.02, 0.02)) for lane in lanes]
    things = tuple(
        Thing(
            *look, size, *((middle, lane) if level else (lane, middle)), radius, float(rng.uniform(-0.2, 0.2))
        )
        for look, size, middle, lane, radius in zip(looks, sizes, middles, lanes, radii, strict=True)
    )
    return MovingScene(Scene(things, background, place, relation), tuple(motions), camera, pan, crossing)


def sample_moving_scenes(seed: int, start: int, count: int, split: Split = "train") -> list[MovingScene]:
    """Clips `start` to `start + count` of the endless sequence that belongs to `seed`."""
    stream = 2 if split == "train" else 3  # still scenes have 0 and 1
    return [
        sample_moving_scene(np.random.default_rng([seed, stream, index]), split)
        for index in range(start, start + count)
    ]
