"""Cut-outs around objects: most of what a caption asks for, at a quarter of a picture's tokens.

FLUX reads positions from the ids that come with the tokens, so a cut-out with its own ids is a
lawful input and is learnt from like a whole picture (as Patch Diffusion does, arXiv 2304.12526).
One batch has one set of ids; so scenes are chosen that have an object at the same spot.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ddit_eval.world import Scene


def place_window(
    scene: Scene,
    side: int,
    window: int,
    rng: np.random.Generator,
    favour: Mapping[str, float] | None = None,
) -> tuple[int, int]:
    """Top row and left column of a window, in tokens, that holds one of the scene's objects.

    `favour` gives shapes a weight above the others' 1.
    """
    weights = np.array([(favour or {}).get(t.shape, 1.0) for t in scene.things])
    thing = scene.things[rng.choice(len(weights), p=weights / weights.sum())]
    corner = [round(c * side - window / 2 + rng.uniform(-1, 1)) for c in (thing.y, thing.x)]
    top, left = (min(max(c, 0), side - window) for c in corner)
    return top, left


def nearest_scenes(
    scenes: list[Scene],
    corner: tuple[int, int],
    side: int,
    window: int,
    count: int,
    favour: Mapping[str, float] | None = None,
) -> list[Scene]:
    """The `count` scenes that have an object closest to the window's centre, nearest first.

    The distance to an object of a favoured shape is divided by its weight.
    """
    y, x = ((c + window / 2) / side for c in corner)
    distance = [
        min(np.hypot(t.x - x, t.y - y) / (favour or {}).get(t.shape, 1.0) for t in scene.things)
        for scene in scenes
    ]
    return [scenes[i] for i in np.argsort(distance, kind="stable")[:count]]


def window_index(corner: tuple[int, int], side: int, window: int) -> Tensor:
    """Indices (window^2,) of the window's tokens in a picture of side^2 tokens, row by row."""
    rows, columns = (torch.arange(c, c + window) for c in corner)
    return (rows[:, None] * side + columns).flatten()
