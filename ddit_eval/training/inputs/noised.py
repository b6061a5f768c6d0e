"""A batch on the flow from data to noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class Noised:
    """A batch on the flow z_t = (1 - t) z_0 + t noise, with everything that the model is told."""

    kwargs: dict[str, Any]  # the transformer's keyword arguments, hidden_states = z_t included
    t: Tensor  # (B,) in 0..1


def mixed(latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """z_t = (1 - t) z_0 + t noise, where the latents (B, ...) are; t (B,)."""
    t = t.to(latents.device).view(-1, *[1] * (latents.ndim - 1))
    return (1 - t) * latents + t * noise.to(latents.device)
