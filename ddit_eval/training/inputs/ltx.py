"""LTX-Video."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.ddit.diffusers_private import normalize_latents, pack_latents, unpack_latents
from ddit_eval.training.inputs.base import Inputs, noised


class Ltx(Inputs):
    """At the pipeline's own 25 frames a second."""

    @torch.no_grad()
    def build(
        self, pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
    ) -> dict[str, Any]:
        device, dtype = latents.device, pipe.transformer.dtype
        text, mask, _, _ = pipe.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=text_tokens, device=device
        )
        _, _, frames, height, width = latents.shape
        space = pipe.vae_spatial_compression_ratio
        return {
            "hidden_states": pack_latents(pipe, noised(latents, noise, t)).to(dtype),
            "timestep": t.to(device, dtype) * 1000,
            "encoder_hidden_states": text.to(dtype),
            "encoder_attention_mask": mask,
            "num_frames": frames,
            "height": height,
            "width": width,
            "rope_interpolation_scale": (pipe.vae_temporal_compression_ratio / 25, space, space),
            "return_dict": False,
        }

    def normalise(self, pipe: Any, latents: Tensor) -> Tensor:
        vae = pipe.vae
        return normalize_latents(pipe, latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)

    def unpack(self, pipe: Any, out: Tensor, side: int, frames: int) -> Tensor:
        cells = side // pipe.vae_spatial_compression_ratio
        count = (frames - 1) // pipe.vae_temporal_compression_ratio + 1
        patch = (pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
        return unpack_latents(pipe, out, count, cells, cells, *patch)
