"""What distillation needs of a model family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddit_eval.ddit.families.video import normalised


class Inputs:
    """Between pictures or clips, clean latents and a transformer's own inputs, in one family."""

    unit = 1000.0  # of the transformer's timesteps, for times in 0..1
    exact = False  # whether timesteps stay float32 beside weights of another type

    @torch.no_grad()
    def build(
        self, pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
    ) -> dict[str, Any]:
        """The transformer's keyword arguments for z_t = (1 - t) z_0 + t noise and all that it is told.

        latents (B, C, [F,] h, w), normalised; t (B,) in 0..1.
        """
        device, dtype = latents.device, pipe.transformer.dtype
        t = t.to(device)
        share = t.view(-1, *[1] * (latents.ndim - 1))
        z = (1 - share) * latents + share * noise.to(device)
        return {
            "hidden_states": self.tokens(pipe, z).to(dtype),
            "timestep": (t if self.exact else t.to(dtype)) * self.unit,
            **self.told(pipe, z, prompts, text_tokens),
            "return_dict": False,
        }

    def told(self, pipe: Any, z: Tensor, prompts: list[str], text_tokens: int) -> dict[str, Any]:
        """What the transformer is told beside z_t (B, C, [F,] h, w) and the time."""
        raise NotImplementedError

    def tokens(self, pipe: Any, z: Tensor) -> Tensor:
        """z_t as the transformer takes it."""
        return z

    @torch.no_grad()
    def encode(self, pipe: Any, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), or clips (B, 3, F, H, W), in [-1, 1] to normalised latents, float32."""
        vae = pipe.vae
        latents = vae.encode(pictures.to(vae.device, vae.dtype)).latent_dist.mode().float()
        return self.normalise(pipe, latents)

    def normalise(self, pipe: Any, latents: Tensor) -> Tensor:
        """Latents as the VAE gives them to those that the transformer has."""
        config = pipe.vae.config
        if latents.ndim == 5:
            return normalised(pipe.vae, latents)
        return (latents - config.shift_factor) * config.scaling_factor

    def unpack(self, pipe: Any, out: Tensor, side: int, frames: int) -> Tensor:
        """What the pipeline gives for `output_type="latent"`, as `encode` would give it.

        side, frames: of the pictures or clips, in pixels.
        """
        return out


def guidance(pipe: Any, z: Tensor, scale: float) -> Tensor | None:
    """The guidance scale (B,) of a transformer that is told it, else None."""
    told = pipe.transformer.config.guidance_embeds
    return torch.full((len(z),), scale, device=z.device) if told else None
