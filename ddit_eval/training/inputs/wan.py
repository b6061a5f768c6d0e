"""Wan 2.1 and 2.2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.training.inputs.base import Inputs, noised


class Wan(Inputs):
    """Latents (B, C, F, h, w) as they are."""

    @torch.no_grad()
    def build(
        self, pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
    ) -> dict[str, Any]:
        device, dtype = latents.device, pipe.transformer.dtype
        text, _ = pipe.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=text_tokens, device=device
        )
        return {
            "hidden_states": noised(latents, noise, t).to(dtype),
            "timestep": t.to(device) * 1000,
            "encoder_hidden_states": text.to(dtype),
            "return_dict": False,
        }
