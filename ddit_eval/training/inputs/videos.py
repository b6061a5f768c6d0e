"""From clean latents of clips (B, C, F, h, w) and prompts to the transformer's own inputs, by family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.training.inputs.noised import Noised, mixed


@torch.no_grad()
def wan_inputs(
    pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
) -> Noised:
    """Wan's inputs for latents (B, C, F, h, w) at times t (B,)."""
    device, dtype = latents.device, pipe.transformer.dtype
    text, _ = pipe.encode_prompt(
        prompts, do_classifier_free_guidance=False, max_sequence_length=text_tokens, device=device
    )
    kwargs: dict[str, Any] = {
        "hidden_states": mixed(latents, noise, t).to(dtype),
        "timestep": t.to(device) * 1000,
        "encoder_hidden_states": text.to(dtype),
        "return_dict": False,
    }
    return Noised(kwargs, t)


@torch.no_grad()
def hunyuan_inputs(
    pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
) -> Noised:
    """HunyuanVideo's inputs for latents (B, C, F, h, w) at times t (B,)."""
    device, dtype = latents.device, pipe.transformer.dtype
    text, pooled, mask = pipe.encode_prompt(prompts, device=device, max_sequence_length=text_tokens)
    kwargs: dict[str, Any] = {
        "hidden_states": mixed(latents, noise, t).to(dtype),
        "timestep": t.to(device) * 1000,
        "encoder_hidden_states": text.to(dtype),
        "encoder_attention_mask": mask.to(dtype),
        "pooled_projections": pooled.to(dtype),
        "return_dict": False,
    }
    if pipe.transformer.config.guidance_embeds:
        kwargs["guidance"] = torch.full((len(latents),), 6000.0, device=device, dtype=dtype)
    return Noised(kwargs, t)


@torch.no_grad()
def hunyuan_15_inputs(
    pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
) -> Noised:
    """HunyuanVideo 1.5's inputs, text to video: no picture, its channels and their mask are zero."""
    device, dtype, b = latents.device, pipe.transformer.dtype, len(latents)
    text, mask, glyphs, glyph_mask = pipe.encode_prompt(prompts, device=device, dtype=dtype, batch_size=b)
    z = mixed(latents, noise, t)
    nothing = torch.zeros_like(z[:, :1]).expand(-1, z.shape[1] + 1, -1, -1, -1)
    seen = pipe.transformer.config.image_embed_dim
    kwargs: dict[str, Any] = {
        "hidden_states": torch.cat([z, nothing], 1).to(dtype),
        "timestep": t.to(device, dtype) * 1000,
        "encoder_hidden_states": text,
        "encoder_attention_mask": mask,
        "encoder_hidden_states_2": glyphs,
        "encoder_attention_mask_2": glyph_mask,
        "image_embeds": torch.zeros(b, pipe.vision_num_semantic_tokens, seen, device=device, dtype=dtype),
        "return_dict": False,
    }
    return Noised(kwargs, t)


@torch.no_grad()
def ltx_inputs(
    pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
) -> Noised:
    """LTX's inputs, at the pipeline's own 25 frames a second."""
    device, dtype = latents.device, pipe.transformer.dtype
    text, mask, _, _ = pipe.encode_prompt(
        prompts, do_classifier_free_guidance=False, max_sequence_length=text_tokens, device=device
    )
    _, _, frames, height, width = latents.shape
    space = pipe.vae_spatial_compression_ratio
    kwargs: dict[str, Any] = {
        "hidden_states": pipe._pack_latents(mixed(latents, noise, t)).to(dtype),
        "timestep": t.to(device, dtype) * 1000,
        "encoder_hidden_states": text.to(dtype),
        "encoder_attention_mask": mask,
        "num_frames": frames,
        "height": height,
        "width": width,
        "rope_interpolation_scale": (pipe.vae_temporal_compression_ratio / 25, space, space),
        "return_dict": False,
    }
    return Noised(kwargs, t)
