"""Known damage to films, and which film metric sees it: negative controls, as `metrics.damage` has for
pictures. Frames that stand still or come in the wrong order must not pass for good film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics import damage
from ddit_eval.metrics.damage import Damage, losses
from ddit_eval.metrics.metric import AnyMetric
from ddit_eval.schema.quality import Sighting
from ddit_eval.world import caption, render, sample_scenes

PACE = 2 / 64  # of the side, from one frame to the next: dynamic by VBench's measure


def moving_scenes(count: int, frames: int = 8, side: int = 64, seed: int = 31) -> tuple[Tensor, list[str]]:
    """Held-out scenes of the captioned world whose things drift to the right through their places, with the
    backdrop still: (count, frames, 3, side, side) in [0, 1], and their captions."""
    scenes = sample_scenes(seed, 0, count, "heldout")
    films = []
    for scene in scenes:
        offsets = [PACE * (t - (frames - 1) / 2) for t in range(frames)]
        drift = [replace(scene, things=tuple(replace(a, x=a.x + d) for a in scene.things)) for d in offsets]
        films.append(torch.from_numpy(render(drift, side)).float().clamp(0, 1))
    return torch.stack(films), [caption(scene) for scene in scenes]


def each_frame(of_pictures: Damage) -> Damage:
    """A damage to pictures, done to every frame."""
    return lambda films: of_pictures(films.flatten(0, 1)).view_as(films)


def shuffle(films: Tensor) -> Tensor:
    """The same frames in an order that jumps: 0, T/2, 1, T/2 + 1, ..."""
    half = (films.shape[1] + 1) // 2
    order = [i // 2 + half * (i % 2) for i in range(films.shape[1])]
    return films[:, order]


def freeze(films: Tensor) -> Tensor:
    """The first frame, all the time."""
    return films[:, :1].expand_as(films)


def flicker(films: Tensor, light: float = 0.8) -> Tensor:
    """Every other frame is darker."""
    dark = torch.ones(films.shape[1]).to(films)
    dark[1::2] = light
    return films * dark.view(1, -1, 1, 1, 1)


def cut(films: Tensor) -> Tensor:
    """Half-way, the film becomes the next one."""
    half = films.shape[1] // 2
    return torch.cat([films[:, :half], films.roll(-1, 0)[:, half:]], 1)


DAMAGES: dict[str, Damage] = {
    "blur": each_frame(damage.blur),
    "recolour": each_frame(damage.recolour),
    "grain": each_frame(damage.grain),
    "frame shuffle": shuffle,
    "frozen": freeze,
    "flicker": flicker,
    "cut to another": cut,
    "another prompt's": damage.swap,
}


def sightings(metrics: Sequence[AnyMetric], films: Tensor, prompts: Sequence[str]) -> list[Sighting]:
    """Every metric under every damage; films (N, T, 3, H, W) in [0, 1] of the prompts, N at least 2.

    As `metrics.damage.sightings`; a damage that is called a gain is "fooled", as a frozen film fools
    whatever measures calm alone.
    """
    if len(films) < 2:
        raise DditError(f"the damage table needs at least 2 films, not {len(films)}")
    damaged = ((name, damage(films).clamp(0, 1)) for name, damage in DAMAGES.items())
    return losses(metrics, films, damaged, None, prompts)
