"""What the video families share: from a latent video to base tokens, and where these lie."""

from __future__ import annotations

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
