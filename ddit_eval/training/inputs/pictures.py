"""FLUX.1 and FLUX.2, Qwen-Image, Stable Diffusion 3."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ddit_eval.ddit.diffusers_private import (
    latent_ids,
    latent_image_ids,
    pack_latents,
    patchify_latents,
    unpack_latents,
    unpatchify_latents,
)
from ddit_eval.training.inputs.base import Inputs, guidance


class Flux(Inputs):
    """Tokens of 2 x 2 latent pixels."""

    unit = 1.0

    def told(self, pipe: Any, z: Tensor, prompts: list[str], text_tokens: int) -> dict[str, Any]:
        dtype = pipe.transformer.dtype
        text, pooled, txt_ids = pipe.encode_prompt(
            prompt=prompts, prompt_2=None, device=z.device, max_sequence_length=text_tokens
        )
        b, _, h, w = z.shape
        return {
            "guidance": guidance(pipe, z, 3.5),
            "pooled_projections": pooled.to(dtype),
            "encoder_hidden_states": text.to(dtype),
            "txt_ids": txt_ids.to(dtype),
            "img_ids": latent_image_ids(pipe, b, h // 2, w // 2, z.device, dtype),
        }

    def tokens(self, pipe: Any, z: Tensor) -> Tensor:
        return pack_latents(pipe, z, *z.shape)

    def unpack(self, pipe: Any, out: Tensor, side: int, frames: int) -> Tensor:
        return unpack_latents(pipe, out, side, side, pipe.vae_scale_factor)


class Flux2(Inputs):
    """Its latents are normalised in groups of 2 x 2, as its VAE has them."""

    unit = 1.0

    def told(self, pipe: Any, z: Tensor, prompts: list[str], text_tokens: int) -> dict[str, Any]:
        text, text_ids = pipe.encode_prompt(prompts, device=z.device, max_sequence_length=text_tokens)
        return {
            "guidance": guidance(pipe, z, 4.0),
            "encoder_hidden_states": text.to(pipe.transformer.dtype),
            "txt_ids": text_ids.to(z.device),
            "img_ids": latent_ids(pipe, patchify_latents(pipe, z)).to(z.device),
        }

    def tokens(self, pipe: Any, z: Tensor) -> Tensor:
        return pack_latents(pipe, patchify_latents(pipe, z))

    def normalise(self, pipe: Any, latents: Tensor) -> Tensor:
        vae = pipe.vae
        mean, var = (v.float().view(1, -1, 1, 1) for v in (vae.bn.running_mean, vae.bn.running_var))
        groups = (patchify_latents(pipe, latents) - mean) / (var + vae.config.batch_norm_eps).sqrt()
        return unpatchify_latents(pipe, groups)

    def unpack(self, pipe: Any, out: Tensor, side: int, frames: int) -> Tensor:
        height = side // (2 * pipe.vae_scale_factor)
        return unpatchify_latents(pipe, out.transpose(1, 2).unflatten(2, (height, -1)))


class QwenImage(Inputs):
    """Its VAE is one of videos; a picture is one frame."""

    unit = 1.0

    def told(self, pipe: Any, z: Tensor, prompts: list[str], text_tokens: int) -> dict[str, Any]:
        text, mask = pipe.encode_prompt(prompts, device=z.device, max_sequence_length=text_tokens)
        b, _, h, w = z.shape
        return {
            "guidance": None,
            "encoder_hidden_states": text.to(pipe.transformer.dtype),
            "encoder_hidden_states_mask": mask,
            "img_shapes": [[(1, h // 2, w // 2)]] * b,
        }

    def tokens(self, pipe: Any, z: Tensor) -> Tensor:
        return pack_latents(pipe, z, *z.shape)

    def encode(self, pipe: Any, pictures: Tensor) -> Tensor:
        return super().encode(pipe, pictures[:, :, None])[:, :, 0]

    def unpack(self, pipe: Any, out: Tensor, side: int, frames: int) -> Tensor:
        return unpack_latents(pipe, out, side, side, pipe.vae_scale_factor)[:, :, 0]


class StableDiffusion3(Inputs):
    """Latents as they are."""

    def told(self, pipe: Any, z: Tensor, prompts: list[str], text_tokens: int) -> dict[str, Any]:
        dtype = pipe.transformer.dtype
        text, _, pooled, _ = pipe.encode_prompt(
            prompt=prompts,
            prompt_2=None,
            prompt_3=None,
            device=z.device,
            do_classifier_free_guidance=False,
            max_sequence_length=text_tokens,
        )
        return {"encoder_hidden_states": text.to(dtype), "pooled_projections": pooled.to(dtype)}
