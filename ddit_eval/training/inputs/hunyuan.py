"""HunyuanVideo and HunyuanVideo 1.5."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.training.inputs.base import Inputs, noised


class HunyuanVideo(Inputs):
    """Latents (B, C, F, h, w) as they are."""

    @torch.no_grad()
    def build(
        self, pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
    ) -> dict[str, Any]:
        device, dtype = latents.device, pipe.transformer.dtype
        text, pooled, mask = pipe.encode_prompt(prompts, device=device, max_sequence_length=text_tokens)
        kwargs: dict[str, Any] = {
            "hidden_states": noised(latents, noise, t).to(dtype),
            "timestep": t.to(device) * 1000,
            "encoder_hidden_states": text.to(dtype),
            "encoder_attention_mask": mask.to(dtype),
            "pooled_projections": pooled.to(dtype),
            "return_dict": False,
        }
        if pipe.transformer.config.guidance_embeds:
            kwargs["guidance"] = torch.full((len(latents),), 6000.0, device=device, dtype=dtype)
        return kwargs


class HunyuanVideo15(Inputs):
    """Text to video: no picture, its channels and their mask are zero."""

    @torch.no_grad()
    def build(
        self, pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
    ) -> dict[str, Any]:
        device, dtype, b = latents.device, pipe.transformer.dtype, len(latents)
        text, mask, glyphs, glyph_mask = pipe.encode_prompt(prompts, device=device, dtype=dtype, batch_size=b)
        z = noised(latents, noise, t)
        nothing = torch.zeros_like(z[:, :1]).expand(-1, z.shape[1] + 1, -1, -1, -1)
        seen = pipe.transformer.config.image_embed_dim
        return {
            "hidden_states": torch.cat([z, nothing], 1).to(dtype),
            "timestep": t.to(device, dtype) * 1000,
            "encoder_hidden_states": text,
            "encoder_attention_mask": mask,
            "encoder_hidden_states_2": glyphs,
            "encoder_attention_mask_2": glyph_mask,
            "image_embeds": torch.zeros(b, pipe.vision_num_semantic_tokens, seen, device=device, dtype=dtype),
            "return_dict": False,
        }
