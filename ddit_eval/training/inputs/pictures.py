"""From clean latents of pictures (B, C, h, w) and prompts to the transformer's own inputs, by family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.training.inputs.noised import Noised, mixed


@torch.no_grad()
def flux_inputs(
    pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
) -> Noised:
    """FLUX's inputs for latents (B, C, h, w) at times t (B,)."""
    device, dtype = latents.device, pipe.transformer.dtype
    text, pooled, txt_ids = pipe.encode_prompt(
        prompt=prompts, prompt_2=None, device=device, max_sequence_length=text_tokens
    )
    b, c, h, w = latents.shape
    z = mixed(latents, noise, t)
    kwargs: dict[str, Any] = {
        "hidden_states": pipe._pack_latents(z, b, c, h, w).to(dtype),
        "timestep": t.to(device, dtype),
        "guidance": None,
        "pooled_projections": pooled.to(dtype),
        "encoder_hidden_states": text.to(dtype),
        "txt_ids": txt_ids.to(dtype),
        "img_ids": pipe._prepare_latent_image_ids(b, h // 2, w // 2, device, dtype),
        "return_dict": False,
    }
    if pipe.transformer.config.guidance_embeds:
        kwargs["guidance"] = torch.full((b,), 3.5, device=device, dtype=torch.float32)
    return Noised(kwargs, t)


@torch.no_grad()
def flux2_inputs(
    pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
) -> Noised:
    """FLUX.2's inputs; its latents are normalised in groups of 2 x 2, as its VAE has them."""
    device, dtype = latents.device, pipe.transformer.dtype
    text, text_ids = pipe.encode_prompt(prompts, device=device, max_sequence_length=text_tokens)
    groups = pipe._patchify_latents(mixed(latents, noise, t))
    kwargs: dict[str, Any] = {
        "hidden_states": pipe._pack_latents(groups).to(dtype),
        "timestep": t.to(device, dtype),
        "guidance": None,
        "encoder_hidden_states": text.to(dtype),
        "txt_ids": text_ids.to(device),
        "img_ids": pipe._prepare_latent_ids(groups).to(device),
        "return_dict": False,
    }
    if pipe.transformer.config.guidance_embeds:
        kwargs["guidance"] = torch.full((len(latents),), 4.0, device=device, dtype=torch.float32)
    return Noised(kwargs, t)


@torch.no_grad()
def qwen_inputs(
    pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
) -> Noised:
    """Qwen-Image's inputs."""
    device, dtype = latents.device, pipe.transformer.dtype
    text, mask = pipe.encode_prompt(prompts, device=device, max_sequence_length=text_tokens)
    b, c, h, w = latents.shape
    kwargs: dict[str, Any] = {
        "hidden_states": pipe._pack_latents(mixed(latents, noise, t), b, c, h, w).to(dtype),
        "timestep": t.to(device, dtype),
        "guidance": None,
        "encoder_hidden_states": text.to(dtype),
        "encoder_hidden_states_mask": mask,
        "img_shapes": [[(1, h // 2, w // 2)]] * b,
        "return_dict": False,
    }
    return Noised(kwargs, t)


@torch.no_grad()
def sd3_inputs(
    pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
) -> Noised:
    """Stable Diffusion 3's inputs."""
    device, dtype = latents.device, pipe.transformer.dtype
    text, _, pooled, _ = pipe.encode_prompt(
        prompt=prompts,
        prompt_2=None,
        prompt_3=None,
        device=device,
        do_classifier_free_guidance=False,
        max_sequence_length=text_tokens,
    )
    kwargs: dict[str, Any] = {
        "hidden_states": mixed(latents, noise, t).to(dtype),
        "timestep": t.to(device, dtype) * 1000,
        "encoder_hidden_states": text.to(dtype),
        "pooled_projections": pooled.to(dtype),
        "return_dict": False,
    }
    return Noised(kwargs, t)
