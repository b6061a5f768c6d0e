"""Training the reader on the captioned world.

python -m experiments.recipes.reader --out OUT
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from safetensors.torch import save_file
from torch import Tensor

from ddit_eval.world import Scene, render, sample_moving_scenes, sample_scenes
from ddit_eval.world.reader import CLASSES, SIDE, Reader, read
from ddit_eval.world.scene import Split
from experiments.recipes.labels import token_labels

SPLITS: tuple[Split, ...] = ("train", "heldout")


def labels(scenes: list[Scene], side: int) -> Tensor:
    """Shape, colour and texture per cell, 1-based, 0 for background; (N, 3, side, side)."""
    return token_labels(scenes, side).transpose(1, 2).unflatten(2, (side, side))


def damage(x: Tensor) -> Tensor:
    """Blur, noise and tint, as a decoder or a hurried sampler would add; NCHW in [0, 1]."""
    n = len(x)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
    x = torch.lerp(x, blurred, torch.rand(n, 1, 1, 1))
    x = x + torch.rand(n, 1, 1, 1).square() * 0.12 * torch.randn_like(x)
    return (x * (1 + 0.08 * torch.randn(n, 3, 1, 1)) + 0.04 * torch.randn(n, 3, 1, 1)).clamp(0, 1)


def accuracy(scenes: list[Scene], pictures: Tensor, reader: Reader) -> dict[str, float]:
    """Share of true objects whose nearest found object has the right attributes."""
    right: dict[str, list[bool]] = {"shape": [], "colour": [], "texture": [], "count": []}
    for scene, found in zip(scenes, read(pictures, reader), strict=True):
        right["count"].append(len(found) == len(scene.things))
        for thing in scene.things:
            near = min(found, key=lambda f: math.hypot(f.x - thing.x, f.y - thing.y), default=None)
            for name in ("shape", "colour", "texture"):
                right[name].append(near is not None and getattr(near, name) == getattr(thing, name))
    return {name: float(np.mean(values)) for name, values in right.items()}


def moments(seed: int, start: int, count: int, split: Split) -> list[Scene]:
    """Clips `start` to `start + count`, each at one moment: things that turned, grew or stand close."""
    when = np.random.default_rng([seed, 3, start]).random(count)
    clips = sample_moving_scenes(seed, start, count, split)
    return [clip.at(float(time)) for clip, time in zip(clips, when, strict=True)]


def training_scenes(seed: int, start: int, count: int) -> list[Scene]:
    """Half of them scenes at rest, half moments of clips; of both splits, since the reader must know the
    combinations that the generator never saw."""
    quarter = count // 4
    parts = [draw(seed, start, quarter, split) for draw in (sample_scenes, moments) for split in SPLITS]
    return [scene for part in parts for scene in part]


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    steps: int = 1400,
    batch: int = 32,
    lr: float = 3e-3,
    seed: Annotated[int, typer.Option(help="Of weights and scenes; the shipped reader's is 0.")] = 0,
    unseen: Annotated[int, typer.Option(help="True scenes, and moments, that it is measured on.")] = 500,
) -> None:
    """Train the reader and print its accuracy on unseen true scenes."""
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    reader = Reader()
    optimizer = torch.optim.AdamW(reader.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for step in range(steps):
        scenes = training_scenes(1 + 2 * seed, step * batch, batch)
        x = damage(torch.from_numpy(render(scenes, SIDE)))
        y = labels(scenes, SIDE // 2)
        parts = reader(x).split(CLASSES, 1)
        loss = torch.stack([F.cross_entropy(p, y[:, i]) for i, p in enumerate(parts)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(step, round(float(loss.detach()), 4), flush=True)
    reader.eval()
    result = {}
    for name, draw in {"true_scenes": sample_scenes, "true_moments": moments}.items():
        scenes = draw(2, 0, unseen, "heldout")
        result[name] = accuracy(scenes, torch.from_numpy(render(scenes, SIDE)), reader)
    print(result)
    save_file({k: v.contiguous() for k, v in reader.state_dict().items()}, out / "reader.safetensors")
    (out / "training.json").write_text(json.dumps({"steps": steps, "batch": batch} | result, indent=1))


if __name__ == "__main__":
    typer.run(main)
