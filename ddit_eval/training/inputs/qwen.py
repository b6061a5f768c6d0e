"""Qwen-Image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.ddit.diffusers_private import pack_latents, unpack_latents
from ddit_eval.training.inputs.base import Inputs, noised


class QwenImage(Inputs):
    """Its VAE is one of videos; a picture is one frame."""

    @torch.no_grad()
    def build(
        self, pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
    ) -> dict[str, Any]:
        device, dtype = latents.device, pipe.transformer.dtype
        text, mask = pipe.encode_prompt(prompts, device=device, max_sequence_length=text_tokens)
        b, c, h, w = latents.shape
        return {
            "hidden_states": pack_latents(pipe, noised(latents, noise, t), b, c, h, w).to(dtype),
            "timestep": t.to(device, dtype),
            "guidance": None,
            "encoder_hidden_states": text.to(dtype),
            "encoder_hidden_states_mask": mask,
            "img_shapes": [[(1, h // 2, w // 2)]] * b,
            "return_dict": False,
        }

    def encode(self, pipe: Any, pictures: Tensor) -> Tensor:
        return super().encode(pipe, pictures[:, :, None])[:, :, 0]

    def unpack(self, pipe: Any, out: Tensor, side: int, frames: int) -> Tensor:
        return unpack_latents(pipe, out, side, side, pipe.vae_scale_factor)[:, :, 0]
