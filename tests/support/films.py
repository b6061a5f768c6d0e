"""Small films: noise, sliding cloths, flat frames, and a thing of the world that moves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddit_eval.metrics.films import flow
from ddit_eval.metrics.films.frames import Film, film_of
from ddit_eval.world import Scene, render, sample_scenes


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def cloth(count: int, side: int, seed: int = 0) -> Tensor:
    """Smooth random pictures, textured everywhere."""
    return flow._blurred(noise(count, 3, side, side, seed=seed), 1.5).mul(3).sub(1).clamp(0, 1)


def sliding(count: int, by: int = 1, side: int = 64, seed: int = 0) -> Tensor:
    """A window that moves to the left over a cloth, so that what is seen moves right by `by` px a frame."""
    wide = cloth(1, side + 64, seed)[0, :, :side]
    return torch.stack([wide[..., 60 - by * t : 60 - by * t + side] for t in range(count)])


def flat(levels: list[float], side: int = 16) -> Tensor:
    return torch.tensor(levels, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, side, side).clone()


def scene(seed: int = 11) -> Scene:
    """A lone thing over a plain backdrop."""
    some = sample_scenes(seed=seed, start=0, count=200, split="heldout")
    return next(s for s in some if len(s.things) == 1 and s.background.kind == "plain")


def moved(one: Scene, dx: float, **changes: Any) -> Scene:
    """The scene with its thing `dx` px (of 64) further to the right."""
    thing = one.things[0]
    return dataclasses.replace(one, things=(dataclasses.replace(thing, x=thing.x + dx / 64, **changes),))


def filmed(scenes: list[Scene]) -> Film:
    return film_of(torch.from_numpy(np.asarray(render(scenes, 64))).float().clamp(0, 1))


def drive(step: float, count: int = 8) -> Film:
    """The thing of a scene moves right by `step` px a frame, through the middle."""
    start = dataclasses.replace(scene(), things=(dataclasses.replace(scene().things[0], x=0.5),))
    return filmed([moved(start, step * (t - (count - 1) / 2)) for t in range(count)])
