"""Clean pictures or clips with prompts, as a pure function of (seed, start): any step can be replayed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.system.pictures import SUFFIXES, files_in, read_levels
from ddit_eval.system.prompts import caption as caption_in
from ddit_eval.training.distil.config import Source
from ddit_eval.world import caption, caption_clip, render, render_clip, sample_moving_scenes, sample_scenes

Pictures = Callable[[int, int, int], tuple[Tensor, list[str]]]
"""(start, count, side) -> pictures (N, 3, [F,] side, side) in [-1, 1], and their prompts."""


def world_pictures(source: Source) -> Pictures:
    """Training scenes of the captioned world, in motion where the source has several frames."""

    def draw(start: int, count: int, side: int) -> tuple[Tensor, list[str]]:
        scenes, texts = _world(source, start, count)
        if source.frames > 1:
            return torch.from_numpy(render_clip(scenes, side, source.frames)).transpose(1, 2) * 2 - 1, texts
        return torch.from_numpy(render(scenes, side)) * 2 - 1, texts

    return draw


def world_prompts(source: Source, start: int, count: int) -> list[str]:
    """The captions of `world_pictures`, undrawn."""
    return _world(source, start, count)[1]


def _world(source: Source, start: int, count: int) -> tuple[list[Any], list[str]]:
    words = np.random.default_rng([source.seed, 17, start])
    if source.frames > 1:
        clips = sample_moving_scenes(source.seed + 101, start, count)
        return clips, [caption_clip(clip, words) for clip in clips]
    scenes = sample_scenes(source.seed + 101, start, count)
    return scenes, [caption(scene, words) for scene in scenes]


def folder_pictures(source: Source) -> Pictures:
    """Pictures of a folder, each with its prompt in a .txt of the same name."""
    if source.path is None or not source.path.is_dir():
        raise DditError(
            f"source folder {source.path} does not exist: give a folder of pictures with .txt prompts"
        )
    captions, pictures = files_in(source.path, (".txt",)), files_in(source.path, SUFFIXES)
    if not pictures:
        raise DditError(f"source folder {source.path} holds no picture with a .txt prompt beside it")
    if alone := [path for name, path in pictures.items() if name not in captions]:
        raise DditError(
            f"{len(alone)} pictures have no .txt prompt beside them, the first is {alone[0]}; write "
            "the prompt to a file of its name, or move it out"
        )
    files = sorted((path, caption_in(captions[name])) for name, path in pictures.items())
    order = np.random.default_rng(source.seed).permutation(len(files))

    def one(path: Path, side: int) -> Tensor:
        square = Image.fromarray(read_levels(path)).resize((side, side), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.asarray(square, np.float32)).permute(2, 0, 1) / 127.5 - 1

    def draw(start: int, count: int, side: int) -> tuple[Tensor, list[str]]:
        chosen = [files[order[(start + i) % len(files)]] for i in range(count)]
        return torch.stack([one(path, side) for path, _ in chosen]), [text for _, text in chosen]

    return draw


def pictures_of(source: Source) -> Pictures:
    return folder_pictures(source) if source.kind == "folder" else world_pictures(source)
