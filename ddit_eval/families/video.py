"""What the video families share: from a latent video to base tokens, and where these lie."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.patching.layout import Grid


def patchify(latents: Tensor, patch: int = 2) -> Tensor:
    """(B, C, F, H, W) to base tokens (B, F * H/p * W/p, C * p * p), frame by frame and row by row."""
    b, c, frames, height, width = latents.shape
    cells = latents.view(b, c, frames, height // patch, patch, width // patch, patch)
    return cells.permute(0, 2, 3, 5, 1, 4, 6).reshape(b, -1, c * patch * patch)


def grid_ids(grid: Grid, device: torch.device) -> Tensor:
    """Frame, row and column of every base token, (N, 3) float32."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)


def normalised(vae: Any, latents: Tensor) -> Tensor:
    """Latents (B, C, F, H, W) as the transformer sees them: mean 0, variance 1 in each channel."""
    mean, std = (
        torch.tensor(values, device=latents.device).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (latents - mean) / std
