"""Prompt adherence of films of the captioned world: are the promised things there, and do they move as said?

The world's reader lists the objects of every frame; a thing's track is where it was found, frame by frame.
Of true films it names all of the things that move or rest, .94 of those that turn, .90 to .98 of those that
grow or shrink and .86 of those that cross, which hide each other; so a figure needs that of true films
beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import Column, Metric
from ddit_eval.metrics.pictures.adherence import MARGIN, is_prompted, match
from ddit_eval.metrics.pictures.reader_lpips import missing
from ddit_eval.metrics.weights import READER, shipped
from ddit_eval.world.motion import DIRECTIONS, OPPOSITE
from ddit_eval.world.motion_caption import MovingPrompt, parse_clip
from ddit_eval.world.reader import Found, read

if TYPE_CHECKING:
    from torch import Tensor

# Things move by at least .3 of the side in a film, the reader places them within .03; a direction counts
# where the track goes at least this far that way, and further that way than any other.
LEAST_WAY = 0.12
COLUMNS = ("object-frames", "direction-accuracy")

Track = list[tuple[int, float, float]]  # frame, x, y of the frames in which a thing was found


def tracks(prompt: MovingPrompt, frames: Sequence[Sequence[Found]]) -> list[Track]:
    """Where each prompted thing was found with the right shape and colour."""
    found: list[Track] = [[] for _ in prompt.still.things]
    for number, objects in enumerate(frames):
        assigned = match(prompt.still.things, objects)
        for track, thing, one in zip(found, prompt.still.things, assigned, strict=True):
            if one is not None and is_prompted(thing, one):
                track.append((number, one.x, one.y))
    return found


def object_frames(found: Sequence[Track], frames: int) -> float:
    """Share of frames in which a thing was found, mean over the things; nan where none is prompted."""
    return sum(map(len, found)) / (len(found) * frames) if found else math.nan


def promised_ways(prompt: MovingPrompt) -> list[str | None]:
    """The direction in which each thing drifts through the picture, None where the caption fixes none.

    Under a panning camera a thing at rest drifts the other way; one that moves as well may do either.
    """
    ways: list[str | None] = []
    for words in prompt.motions:
        moving = words.removeprefix("moves ") if words.startswith("moves ") else None
        if prompt.camera:
            ways.append(None if moving else OPPOSITE[prompt.camera])
        else:
            ways.append(moving)
    return ways


def goes(track: Track, way: str, frames: int) -> bool:
    """Whether a track, extended to the whole film by its least-squares line, goes that way.

    A thing that is seen in fewer than half of the frames goes nowhere.
    """
    if len(track) < max(2, frames / 2):
        return False
    number, x, y = np.array(track, float).T
    dx, dy = ((frames - 1) * np.polyfit(number, place, 1)[0] for place in (x, y))
    sign = DIRECTIONS[way]
    along, across = dx * sign[0] + dy * sign[1], dx * sign[1] + dy * sign[0]
    return bool(along >= LEAST_WAY and along > abs(across))


def direction_accuracy(prompt: MovingPrompt, found: Sequence[Track], frames: int) -> float:
    """Share of the things with a promised direction whose track goes that way; nan where there is none."""
    asked = [(track, way) for track, way in zip(found, promised_ways(prompt), strict=True) if way]
    return sum(goes(track, way, frames) for track, way in asked) / len(asked) if asked else math.nan


def motion_columns(films: Tensor, prompts: Sequence[str]) -> dict[str, list[float]]:
    """`COLUMNS` of films (N, F, 3, H, W) in [0, 1], one value a film, 0 to 1.

    object-frames       share of frames with each prompted thing, by shape and colour, mean over the things
    direction-accuracy  share of things that go where the caption says; nan where it says of none
    """
    if films.ndim != 5 or len(films) != len(prompts):
        raise DditError(
            f"films {tuple(films.shape)} and {len(prompts)} prompts: give (N, F, 3, H, W), a prompt each"
        )
    length = films.shape[1]
    objects = read(films.flatten(0, 1).cpu())
    columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for number, text in enumerate(prompts):
        prompt = parse_clip(text)
        found = tracks(prompt, objects[number * length : (number + 1) * length])
        columns["object-frames"].append(object_frames(found, length))
        columns["direction-accuracy"].append(direction_accuracy(prompt, found, length))
    return columns


METRIC = Metric(
    "motion-adherence",
    tuple(
        Column(name, "higher", 0.0, 1.0, role="adherence", rank=rank, margin=MARGIN)
        for rank, name in enumerate(COLUMNS, 1)
    ),
    "prompts",
    lambda films, _, prompts: motion_columns(films, prompts),
    source="objects read off each frame, and the way that each goes",
    network="world reader (shipped)",
    note="mean over the films whose prompt asks; the reader's own errors are included",
    weights=shipped(READER),
    missing=missing,
    of="films",
)
