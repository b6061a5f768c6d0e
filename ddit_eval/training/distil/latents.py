"""Clean latents as the transformer has them, of pictures and of what a pipeline has sampled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.families.video import normalised


@torch.no_grad()
def encode(pipe: Any, pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), or clips (B, 3, F, H, W), in [-1, 1] to normalised latents, float32."""
    vae, kind = pipe.vae, family_of(pipe.transformer).name
    pictures = pictures.to(vae.device, vae.dtype)
    if kind == "qwen-image":  # a video VAE
        return normalised(vae, vae.encode(pictures[:, :, None]).latent_dist.mode().float())[:, :, 0]
    z = vae.encode(pictures).latent_dist.mode().float()
    if kind == "ltx":
        return pipe._normalize_latents(z, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    if kind == "flux2":
        mean, var = (v.float().view(1, -1, 1, 1) for v in (vae.bn.running_mean, vae.bn.running_var))
        groups = (pipe._patchify_latents(z) - mean) / (var + vae.config.batch_norm_eps).sqrt()
        return pipe._unpatchify_latents(groups)
    if z.ndim == 5:
        return normalised(vae, z)
    return (z - vae.config.shift_factor) * vae.config.scaling_factor


def unpacked(pipe: Any, out: Tensor, side: int, frames: int) -> Tensor:
    """What a pipeline gives for `output_type="latent"`, as `encode` would give it; float32 on the CPU.

    side, frames: of the pictures or clips, in pixels.
    """
    kind = family_of(pipe.transformer).name
    if kind in ("flux", "qwen-image"):
        out = pipe._unpack_latents(out, side, side, pipe.vae_scale_factor)
        out = out[:, :, 0] if out.ndim == 5 else out
    elif kind == "flux2":
        height = side // (2 * pipe.vae_scale_factor)
        out = pipe._unpatchify_latents(out.transpose(1, 2).unflatten(2, (height, -1)))
    elif kind == "ltx":
        cells = side // pipe.vae_spatial_compression_ratio
        count = (frames - 1) // pipe.vae_temporal_compression_ratio + 1
        patch = (pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
        out = pipe._unpack_latents(out, count, cells, cells, *patch)
    return out.float().cpu()
