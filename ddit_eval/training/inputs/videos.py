"""Wan 2.1 and 2.2, HunyuanVideo and HunyuanVideo 1.5, LTX-Video; latents are (B, C, F, h, w)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.ddit.diffusers_private import normalize_latents, pack_latents, unpack_latents
from ddit_eval.training.inputs.base import Inputs, guidance


class Wan(Inputs):
    """Latents as they are."""

    exact = True

    def told(self, pipe: Any, z: Tensor, prompts: list[str], text_tokens: int) -> dict[str, Any]:
        text, _ = pipe.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=text_tokens, device=z.device
        )
        return {"encoder_hidden_states": text.to(pipe.transformer.dtype)}


class HunyuanVideo(Inputs):
    """Latents as they are."""

    exact = True

    def told(self, pipe: Any, z: Tensor, prompts: list[str], text_tokens: int) -> dict[str, Any]:
        dtype = pipe.transformer.dtype
        text, pooled, mask = pipe.encode_prompt(prompts, device=z.device, max_sequence_length=text_tokens)
        scale = guidance(pipe, z, 6000.0)
        return {
            "encoder_hidden_states": text.to(dtype),
            "encoder_attention_mask": mask.to(dtype),
            "pooled_projections": pooled.to(dtype),
            "guidance": None if scale is None else scale.to(dtype),
        }


class HunyuanVideo15(Inputs):
    """Text to video: no picture, its channels and their mask are zero."""

    def told(self, pipe: Any, z: Tensor, prompts: list[str], text_tokens: int) -> dict[str, Any]:
        device, dtype, b = z.device, pipe.transformer.dtype, len(z)
        text, mask, glyphs, glyph_mask = pipe.encode_prompt(prompts, device=device, dtype=dtype, batch_size=b)
        seen = pipe.transformer.config.image_embed_dim
        return {
            "encoder_hidden_states": text,
            "encoder_attention_mask": mask,
            "encoder_hidden_states_2": glyphs,
            "encoder_attention_mask_2": glyph_mask,
            "image_embeds": torch.zeros(b, pipe.vision_num_semantic_tokens, seen, device=device, dtype=dtype),
        }

    def tokens(self, pipe: Any, z: Tensor) -> Tensor:
        nothing = torch.zeros_like(z[:, :1]).expand(-1, z.shape[1] + 1, -1, -1, -1)
        return torch.cat([z, nothing], 1)


class Ltx(Inputs):
    """At the pipeline's own 25 frames a second."""

    def told(self, pipe: Any, z: Tensor, prompts: list[str], text_tokens: int) -> dict[str, Any]:
        text, mask, _, _ = pipe.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=text_tokens, device=z.device
        )
        _, _, frames, height, width = z.shape
        space = pipe.vae_spatial_compression_ratio
        return {
            "encoder_hidden_states": text.to(pipe.transformer.dtype),
            "encoder_attention_mask": mask,
            "num_frames": frames,
            "height": height,
            "width": width,
            "rope_interpolation_scale": (pipe.vae_temporal_compression_ratio / 25, space, space),
        }

    def tokens(self, pipe: Any, z: Tensor) -> Tensor:
        return pack_latents(pipe, z)

    def normalise(self, pipe: Any, latents: Tensor) -> Tensor:
        vae = pipe.vae
        return normalize_latents(pipe, latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)

    def unpack(self, pipe: Any, out: Tensor, side: int, frames: int) -> Tensor:
        cells = side // pipe.vae_spatial_compression_ratio
        count = (frames - 1) // pipe.vae_temporal_compression_ratio + 1
        patch = (pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
        return unpack_latents(pipe, out, count, cells, cells, *patch)
