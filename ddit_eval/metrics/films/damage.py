"""Known damage to videos, and which video metric sees it: negative controls, as `metrics.damage` has for
pictures. Frames that stand still or come in the wrong order must not pass for good video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics import damage
from ddit_eval.metrics.damage import Sighting, sighting
from ddit_eval.metrics.films.frames import Video
from ddit_eval.metrics.films.metric import VideoMetric

# Videos (N, T, 3, H, W) in [0, 1] to as many of the same shape.
Damage = Callable[[Tensor], Tensor]

PACE = 2 / 64  # of the side, from one frame to the next: dynamic by VBench's measure


def moving_scenes(count: int, frames: int = 8, side: int = 64, seed: int = 31) -> tuple[Tensor, list[str]]:
    """Held-out scenes of the captioned world whose things drift to the right through their places, with the
    backdrop still: (count, frames, 3, side, side) in [0, 1], and their captions."""
    from ddit_eval.world import caption, render, sample_scenes

    scenes = sample_scenes(seed, 0, count, "heldout")
    films = []
    for scene in scenes:
        offsets = [PACE * (t - (frames - 1) / 2) for t in range(frames)]
        drift = [replace(scene, things=tuple(replace(a, x=a.x + d) for a in scene.things)) for d in offsets]
        films.append(torch.from_numpy(render(drift, side)).float().clamp(0, 1))
    return torch.stack(films), [caption(scene) for scene in scenes]


def each_frame(of_pictures: damage.Damage) -> Damage:
    """A damage to pictures, done to every frame."""
    return lambda videos: of_pictures(videos.flatten(0, 1)).view_as(videos)


def shuffle(videos: Tensor) -> Tensor:
    """The same frames in an order that jumps: 0, T/2, 1, T/2 + 1, ..."""
    half = (videos.shape[1] + 1) // 2
    order = [i // 2 + half * (i % 2) for i in range(videos.shape[1])]
    return videos[:, order]


def freeze(videos: Tensor) -> Tensor:
    """The first frame, all the time."""
    return videos[:, :1].expand_as(videos)


def flicker(videos: Tensor, light: float = 0.8) -> Tensor:
    """Every other frame is darker."""
    dark = torch.ones(videos.shape[1]).to(videos)
    dark[1::2] = light
    return videos * dark.view(1, -1, 1, 1, 1)


def cut(videos: Tensor) -> Tensor:
    """Half-way, the video becomes the next one."""
    half = videos.shape[1] // 2
    return torch.cat([videos[:, :half], videos.roll(-1, 0)[:, half:]], 1)


def swap(videos: Tensor) -> Tensor:
    """Each video stands for the next prompt."""
    return videos.roll(1, 0)


DAMAGES: dict[str, Damage] = {
    "blur": each_frame(damage.blur),
    "recolour": each_frame(damage.recolour),
    "grain": each_frame(damage.grain),
    "frame shuffle": shuffle,
    "frozen": freeze,
    "flicker": flicker,
    "cut to another": cut,
    "another prompt's": swap,
}


def sightings(
    metrics: Sequence[VideoMetric],
    videos: Tensor,
    prompts: Sequence[str],
    damages: Mapping[str, Damage] = DAMAGES,
) -> list[Sighting]:
    """Every metric under every damage; videos (N, T, 3, H, W) in [0, 1] of the prompts, N at least 2.

    As `metrics.damage.sightings`; a damage that is called a gain is "fooled", as a frozen video fools
    whatever measures calm alone.
    """
    if len(videos) < 2:
        raise DditError(f"the damage table needs at least 2 videos, not {len(videos)}")
    stacks = {"": videos} | {name: damage(videos).clamp(0, 1) for name, damage in damages.items()}
    films = {name: [Video(film.float()) for film in stack] for name, stack in stacks.items()}
    rows = []
    for metric in metrics:
        whole = metric.values(films[""], prompts)
        for name in damages:
            values = metric.values(films[name], prompts)
            rows.append(sighting(metric.name, name, whole, values, metric.direction))
    return rows
