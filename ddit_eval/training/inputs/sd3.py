"""Stable Diffusion 3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.training.inputs.base import Inputs, noised


class StableDiffusion3(Inputs):
    """Latents as they are."""

    @torch.no_grad()
    def build(
        self, pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
    ) -> dict[str, Any]:
        device, dtype = latents.device, pipe.transformer.dtype
        text, _, pooled, _ = pipe.encode_prompt(
            prompt=prompts,
            prompt_2=None,
            prompt_3=None,
            device=device,
            do_classifier_free_guidance=False,
            max_sequence_length=text_tokens,
        )
        return {
            "hidden_states": noised(latents, noise, t).to(dtype),
            "timestep": t.to(device, dtype) * 1000,
            "encoder_hidden_states": text.to(dtype),
            "pooled_projections": pooled.to(dtype),
            "return_dict": False,
        }
