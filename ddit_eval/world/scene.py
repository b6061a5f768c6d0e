"""What a scene is made of, and how one is drawn at random from a seed.

Coordinates and lengths are fractions of the picture's side; x grows to the right, y downwards.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
TEXTURES = ("solid", "striped", "dotted")
SIZES = ("small", "medium", "large")
RADIUS = {"small": 0.14, "medium": 0.175, "large": 0.21}
BACKGROUNDS = ("plain", "gradient", "striped", "checkered", "noisy")
BACKGROUND_COLOURS = ("white", "gray", "black", "brown", "navy")
RELATIONS = ("above", "below", "left", "right")
PLACES = ("left", "right", "top", "bottom", "middle")

Split = Literal["train", "heldout"]


@dataclass(frozen=True)
class Thing:
    """One object: what it looks like, its centre (x, y) and its radius."""

    shape: str
    colour: str
    texture: str
    size: str
    x: float
    y: float
    radius: float
    angle: float = 0.0


@dataclass(frozen=True)
class Background:
    """A backdrop of one or two colours; `seed` fixes phases, angles and the noise."""

    kind: str
    colours: tuple[str, str]
    seed: int


@dataclass(frozen=True)
class Scene:
    """One to three things over a background.

    `place` says where a lone thing (or the third one) stands; `relation` says where the first
    of two or three things stands as seen from the second.
    """

    things: tuple[Thing, ...]
    background: Background
    place: str | None
    relation: str | None


def is_held_out(shape: str, colour: str, texture: str) -> bool:
    """Whether this combination never appears in the training split (about one in ten)."""
    key = f"{texture} {colour} {shape}".encode()
    return hashlib.sha256(key).digest()[0] < 26


_HELD_OUT = [(s, c, t) for s in SHAPES for c in COLOURS for t in TEXTURES if is_held_out(s, c, t)]
_SEEN = [(s, c, t) for s in SHAPES for c in COLOURS for t in TEXTURES if not is_held_out(s, c, t)]


def sample_looks(
    rng: np.random.Generator, count: int, split: Split, textured: float
) -> list[tuple[str, str, str]]:
    """Draw `count` different (shape, colour) looks; in the held-out split one is unseen."""
    looks: list[tuple[str, str, str]] = []
    if split == "heldout":
        looks.append(_HELD_OUT[rng.integers(len(_HELD_OUT))])
    while len(looks) < count:
        # The texture is drawn first so that solid objects stay the most common ones.
        texture = TEXTURES[0] if rng.random() > textured else TEXTURES[1 + rng.integers(2)]
        shape, colour, drawn = _SEEN[rng.integers(len(_SEEN))]
        if drawn == texture and all(colour != c for _, c, _ in looks):
            looks.append((shape, colour, texture))
    order = rng.permutation(count)
    return [looks[i] for i in order]


def _centres(
    rng: np.random.Generator, radii: list[float], relation: str | None, place: str | None
) -> list[tuple[float, float]]:
    """Centres that honour the place and the relation and keep the things apart."""
    jitter = lambda width: float(rng.uniform(-width, width))  # noqa: E731
    if len(radii) == 1:
        low, high = radii[0] + 0.05, 1 - radii[0] - 0.05
        spot = {
            "left": (low + 0.03, 0.5),
            "right": (high - 0.03, 0.5),
            "top": (0.5, low + 0.03),
            "bottom": (0.5, high - 0.03),
            "middle": (0.5, 0.5),
        }[place or "middle"]
        return [(spot[0] + jitter(0.03), spot[1] + jitter(0.03))]
    gap = 1 - 2 * (radii[0] + radii[1])
    first = radii[0] + gap * rng.uniform(0.2, 0.4)
    second = 1 - radii[1] - gap * rng.uniform(0.2, 0.4)
    if relation in ("below", "right"):
        first, second = 1 - first, 1 - second
    # With a third thing the pair moves to the other side of the picture.
    side = {"left": 0.73, "top": 0.73, "right": 0.27, "bottom": 0.27}.get(place or "", 0.5)
    width = 0.02 if place else 0.08
    pair = [(side + jitter(width), first), (side + jitter(width), second)]
    if place:
        pair.append((1 - side + jitter(0.02), 0.5 + jitter(0.12)))
    if relation in ("left", "right"):
        pair = [(y, x) for x, y in pair]
    return pair


def sample_background(rng: np.random.Generator, busy: float) -> Background:
    """Draw a backdrop; `busy` from 0 (plain or a gradient) to 1 (mostly patterns)."""
    calm = [0.6, 0.4, 0.0, 0.0, 0.0]
    wild = [0.05, 0.1, 0.3, 0.3, 0.25]
    kind = str(
        rng.choice(BACKGROUNDS, p=[(1 - busy) * c + busy * w for c, w in zip(calm, wild, strict=True)])
    )
    one, two = rng.choice(len(BACKGROUND_COLOURS), 2, replace=False)
    colours = (BACKGROUND_COLOURS[one], BACKGROUND_COLOURS[two])
    return Background(kind, colours, int(rng.integers(2**31)))


def sample_scene(rng: np.random.Generator, split: Split = "train") -> Scene:
    """Draw one scene. `split="heldout"` forces a combination that training never shows."""
    count = int(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25]))
    # Busyness ties textures to backgrounds, so that prompts range from very simple to very busy.
    busy = rng.random()
    looks = sample_looks(rng, count, split, textured=0.15 + 0.6 * busy)
    sizes = [str(rng.choice(SIZES)) for _ in range(count)]
    shrink = 0.9 if count == 3 else 1.0
    radii = [RADIUS[s] * shrink * float(rng.uniform(0.96, 1.04)) for s in sizes]
    relation = place = None
    if count == 1:
        place = str(rng.choice(PLACES))
    else:
        relation = str(rng.choice(RELATIONS))
        if count == 3:
            sides = ("left", "right") if relation in ("above", "below") else ("top", "bottom")
            place = str(rng.choice(sides))
    centres = _centres(rng, radii, relation, place)
    things = tuple(
        Thing(shape, colour, texture, size, x, y, radius, float(rng.uniform(-0.2, 0.2)))
        for (shape, colour, texture), size, radius, (x, y) in zip(looks, sizes, radii, centres, strict=True)
    )
    return Scene(things, sample_background(rng, busy), place, relation)


def sample_scenes(seed: int, start: int, count: int, split: Split = "train") -> list[Scene]:
    """Scenes `start` to `start + count` of the endless sequence that belongs to `seed`."""
    stream = 0 if split == "train" else 1
    return [
        sample_scene(np.random.default_rng([seed, stream, index]), split)
        for index in range(start, start + count)
    ]
