"""What the video families share: from a latent video to base tokens, and where these lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddit_eval.ddit.families.family import Call, ModelFamily
from ddit_eval.ddit.layout import Grid

TOKEN_TIMES = "it has a timestep for each token (as Wan 2.2 TI2V has), which a coarse patch cannot share"


@dataclass(frozen=True)
class VideoFamily(ModelFamily):
    """Latents (B, C, F, H, W), embedded by a convolution over 1 x p x p latent pixels."""

    video: bool = True

    def call(self, latents: Tensor, timestep: Tensor, patch_size: tuple[int, int], given: int = 0) -> Call:
        """One transformer call; timestep (B,) as the scheduler counts, patch_size (frames, side)."""
        frames, height, width = latents.shape[2:]
        deep, side = patch_size
        refused = TOKEN_TIMES if timestep.ndim > 1 else ""
        if patch_size != (1, self.patch):
            refused = (
                f"its transformer has patches of {deep} x {side} x {side}, "
                f"only 1 x {self.patch} x {self.patch} is known here"
            )
        return Call(
            latents,
            timestep / self.time_scale,
            partial(patchify, patch=self.patch),
            where=(frames // deep, height // side, width // side),
            given=given,
            refused=refused,
        )

    def grid(self, call: Call) -> Grid:
        frames, height, width = call.where
        return (frames, height, width)

    def fewest_positions(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][:1, :1, :1, : self.patch, : self.patch],)

    def embedded(self, output: Tensor) -> Tensor:
        return output.flatten(2).transpose(1, 2)

    def as_embedded(self, tokens: Tensor) -> Tensor:
        # What follows flattens the last three axes and swaps.
        return tokens.transpose(1, 2)[..., None, None]


def patchify(latents: Tensor, patch: int = 2) -> Tensor:
    """(B, C, F, H, W) to base tokens (B, F * H/p * W/p, C * p * p), frame by frame and row by row."""
    b, c, frames, height, width = latents.shape
    cells = latents.view(b, c, frames, height // patch, patch, width // patch, patch)
    return cells.permute(0, 2, 3, 5, 1, 4, 6).reshape(b, -1, c * patch * patch)


def unpatchify(tokens: Tensor, shape: Sequence[int], patch: int = 2) -> Tensor:
    """The inverse of `patchify`, to latents of `shape` (B, C, F, H, W)."""
    b, c, frames, height, width = shape
    cells = tokens.view(b, frames, height // patch, width // patch, c, patch, patch)
    return cells.permute(0, 4, 1, 2, 5, 3, 6).reshape(b, c, frames, height, width)


def grid_ids(grid: Grid, device: torch.device) -> Tensor:
    """Frame, row and column of every base token, (N, 3) float32."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)


def normalised(vae: Any, latents: Tensor) -> Tensor:
    """Latents (B, C, F, H, W) as the transformer sees them: the VAE's mean and deviation in each channel, or
    its one factor, taken out."""
    mean, std = _statistics(vae, latents.device)
    return (latents - mean) / std


def unnormalised(vae: Any, latents: Tensor) -> Tensor:
    """The inverse of `normalised`: latents as the VAE decodes them."""
    mean, std = _statistics(vae, latents.device)
    return latents * std + mean


def _statistics(vae: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the VAE's latents, (1, C, 1, 1, 1), or the same of its one factor."""
    if "latents_mean" not in vae.config:
        return torch.zeros(1, device=device), torch.full((1,), 1 / vae.config.scaling_factor, device=device)
    mean, std = (
        torch.tensor(values, device=device).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, std
