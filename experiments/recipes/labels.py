"""What covers each cell of a scene, as class numbers and places for training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddit_eval.world import Scene
from ddit_eval.world.render import render_labels
from ddit_eval.world.scene import COLOURS, SHAPES, TEXTURES


def token_labels(scenes: list[Scene], side: int) -> Tensor:
    """Shape, colour and texture (1-based, 0 for none) under each token; (B, side^2, 3)."""
    owner = render_labels(scenes, side).reshape(len(scenes), -1)
    looks = np.zeros((len(scenes), 4, 3), np.int64)
    for row, scene in zip(looks, scenes, strict=True):
        row[1 : len(scene.things) + 1] = thing_looks(scene).numpy() + 1
    return torch.from_numpy(np.take_along_axis(looks, owner[..., None].astype(np.int64), 1))


def token_offsets(scenes: list[Scene], side: int) -> Tensor:
    """Where on its object a token lies: (x, y) from the object's centre in radii; (B, side^2, 2).

    0 where there is no object; use `token_labels` to tell.
    """
    owner = render_labels(scenes, side).reshape(len(scenes), -1)[..., None].astype(np.int64)
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side
    y, x = np.meshgrid(centres, centres, indexing="ij")
    grid = np.stack([x.ravel(), y.ravel()], -1)
    places = np.zeros((len(scenes), 4, 3), np.float32)
    places[:, 0, 2] = np.inf
    for row, scene in zip(places, scenes, strict=True):
        row[1 : len(scene.things) + 1] = [(t.x, t.y, t.radius) for t in scene.things]
    mine = np.take_along_axis(places, owner, 1)
    return torch.from_numpy((grid - mine[..., :2]) / mine[..., 2:])


def thing_places(scene: Scene) -> Tensor:
    """Centre (x, y) and radius of each thing, as fractions of the side; (things, 3)."""
    return torch.tensor([(t.x, t.y, t.radius) for t in scene.things], dtype=torch.float32)


def thing_looks(scene: Scene) -> Tensor:
    """Shape, colour and texture of each thing as numbers; (things, 3)."""
    looks = [
        (SHAPES.index(t.shape), COLOURS.index(t.colour), TEXTURES.index(t.texture)) for t in scene.things
    ]
    return torch.tensor(looks)
