"""What mini-wan's text encoder is taught of the grammar of clips, before and while it sees any."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddit_eval.world import MovingScene, caption_clip, sample_moving_scenes
from experiments.recipes.words import PLACE_WEIGHT, WordHead, teach


class ClipHead(nn.Module):
    """Place, radius and looks of an object in the first and the last frame, and its turn in between,
    read off the features of the word for its shape."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.last = WordHead(width), WordHead(width)
        self.turn = nn.Linear(width, 1)

    def loss(self, features: Tensor, clips: list[MovingScene]) -> tuple[Tensor, Tensor]:
        """Mean squared error of places (and turns) and mean cross-entropy of the looks; features
        (things, width)."""
        ends = [
            head.loss(features, [clip.at(time) for clip in clips])
            for time, head in ((0.0, self.first), (1.0, self.last))
        ]
        turns = torch.tensor([m.turn for clip in clips for m in clip.motions], device=features.device)
        turn = F.mse_loss(self.turn(features)[:, 0], turns) / PLACE_WEIGHT  # radians: a larger scale
        places, looks = (torch.stack(part).mean() for part in zip(*ends, strict=True))
        return places + turn, looks


def moving_captions(seed: int, start: int, count: int) -> tuple[list[Any], list[str]]:
    """Moving scenes and their captions."""
    clips, words = sample_moving_scenes(seed, start, count), np.random.default_rng([seed, start])
    return clips, [caption_clip(clip, words) for clip in clips]


def teach_clips(encoder: nn.Module, tokenizer: Any, captions: int, batch: int, lr: float, seed: int) -> float:
    """Train the text encoder in place; the root mean square error of the places at the end."""
    head = ClipHead(encoder.config.d_model)  # type: ignore[union-attr, arg-type]
    return teach(encoder, tokenizer, captions, batch, lr, seed, moving_captions, head, masked=True)
