"""FLUX.1 and FLUX.2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.ddit.diffusers_private import (
    latent_ids,
    latent_image_ids,
    pack_latents,
    patchify_latents,
    unpack_latents,
    unpatchify_latents,
)
from ddit_eval.training.inputs.base import Inputs, noised


class Flux(Inputs):
    """Tokens of 2 x 2 latent pixels."""

    @torch.no_grad()
    def build(
        self, pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
    ) -> dict[str, Any]:
        device, dtype = latents.device, pipe.transformer.dtype
        text, pooled, txt_ids = pipe.encode_prompt(
            prompt=prompts, prompt_2=None, device=device, max_sequence_length=text_tokens
        )
        b, c, h, w = latents.shape
        z = noised(latents, noise, t)
        kwargs: dict[str, Any] = {
            "hidden_states": pack_latents(pipe, z, b, c, h, w).to(dtype),
            "timestep": t.to(device, dtype),
            "guidance": None,
            "pooled_projections": pooled.to(dtype),
            "encoder_hidden_states": text.to(dtype),
            "txt_ids": txt_ids.to(dtype),
            "img_ids": latent_image_ids(pipe, b, h // 2, w // 2, device, dtype),
            "return_dict": False,
        }
        if pipe.transformer.config.guidance_embeds:
            kwargs["guidance"] = torch.full((b,), 3.5, device=device, dtype=torch.float32)
        return kwargs

    def unpack(self, pipe: Any, out: Tensor, side: int, frames: int) -> Tensor:
        return unpack_latents(pipe, out, side, side, pipe.vae_scale_factor)


class Flux2(Inputs):
    """Its latents are normalised in groups of 2 x 2, as its VAE has them."""

    @torch.no_grad()
    def build(
        self, pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
    ) -> dict[str, Any]:
        device, dtype = latents.device, pipe.transformer.dtype
        text, text_ids = pipe.encode_prompt(prompts, device=device, max_sequence_length=text_tokens)
        groups = patchify_latents(pipe, noised(latents, noise, t))
        kwargs: dict[str, Any] = {
            "hidden_states": pack_latents(pipe, groups).to(dtype),
            "timestep": t.to(device, dtype),
            "guidance": None,
            "encoder_hidden_states": text.to(dtype),
            "txt_ids": text_ids.to(device),
            "img_ids": latent_ids(pipe, groups).to(device),
            "return_dict": False,
        }
        if pipe.transformer.config.guidance_embeds:
            kwargs["guidance"] = torch.full((len(latents),), 4.0, device=device, dtype=torch.float32)
        return kwargs

    def normalise(self, pipe: Any, latents: Tensor) -> Tensor:
        vae = pipe.vae
        mean, var = (v.float().view(1, -1, 1, 1) for v in (vae.bn.running_mean, vae.bn.running_var))
        groups = (patchify_latents(pipe, latents) - mean) / (var + vae.config.batch_norm_eps).sqrt()
        return unpatchify_latents(pipe, groups)

    def unpack(self, pipe: Any, out: Tensor, side: int, frames: int) -> Tensor:
        height = side // (2 * pipe.vae_scale_factor)
        return unpatchify_latents(pipe, out.transpose(1, 2).unflatten(2, (height, -1)))
