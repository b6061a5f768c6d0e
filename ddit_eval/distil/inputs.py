"""From clean latents and prompts to the transformer's own inputs, one function a family."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.families import family_of
from ddit_eval.families.video import normalised

Span = tuple[float, float]


@dataclass
class Noised:
    """A batch on the flow z_t = (1 - t) z_0 + t noise, with everything that the model is told."""

    kwargs: dict[str, Any]  # the transformer's keyword arguments, hidden_states = z_t included
    t: Tensor  # (B,) in 0..1


def shift_of(scheduler: Any, tokens: int) -> float:
    """How far the sampler shifts its steps towards noise: s -> shift s / (1 + (shift - 1) s).

    tokens: base tokens of a picture, on which FLUX's shift depends.
    """
    config = scheduler.config
    if config.get("use_dynamic_shifting"):
        return math.exp(0.5 + (tokens - 256) / (4096 - 256) * (1.15 - 0.5))
    return float(config.get("flow_shift") or config.get("shift") or 1.0)


def sample_timesteps(
    count: int, shift: float, generator: torch.Generator | None = None, span: Span = (0.0, 1.0)
) -> Tensor:
    """Times spread as the sampler visits them: uniform under its shift, within `span`."""
    low, high = (t / (shift - (shift - 1) * t) for t in span)
    u = (low + (high - low) * torch.rand(count, generator=generator)).clamp_min(1e-3)
    return shift / (shift + (1 / u - 1))


def span_of(pipe: Any, part: str) -> Span:
    """The times in 0..1 at which the pipeline calls its transformer `part`; Wan 2.2 shares them out.

    Raises `DditError` where it has no such transformer.
    """
    if getattr(pipe, part, None) is None:
        raise DditError(f"part: this pipeline has no {part}; leave `part` out to train its transformer")
    boundary = pipe.config.get("boundary_ratio") if getattr(pipe, "transformer_2", None) is not None else None
    if boundary is None:
        return (0.0, 1.0)
    return (boundary, 1.0) if part == "transformer" else (0.0, boundary)


@torch.no_grad()
def encode(pipe: Any, pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), or clips (B, 3, F, H, W), in [-1, 1] to normalised latents, float32."""
    vae = pipe.vae
    z = vae.encode(pictures.to(vae.device, vae.dtype)).latent_dist.mode()
    if z.ndim == 5:
        return normalised(vae, z.float())
    return ((z - vae.config.shift_factor) * vae.config.scaling_factor).float()


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
    mix = t.to(device)[:, None, None, None]
    z = (1 - mix) * latents + mix * noise.to(device)
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
def wan_inputs(
    pipe: Any, latents: Tensor, prompts: list[str], t: Tensor, noise: Tensor, text_tokens: int
) -> Noised:
    """Wan's inputs for latents (B, C, F, h, w) at times t (B,)."""
    device, dtype = latents.device, pipe.transformer.dtype
    text, _ = pipe.encode_prompt(
        prompts, do_classifier_free_guidance=False, max_sequence_length=text_tokens, device=device
    )
    mix = t.to(device)[:, None, None, None, None]
    kwargs: dict[str, Any] = {
        "hidden_states": ((1 - mix) * latents + mix * noise.to(device)).to(dtype),
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
    mix = t.to(device)[:, None, None, None, None]
    kwargs: dict[str, Any] = {
        "hidden_states": ((1 - mix) * latents + mix * noise.to(device)).to(dtype),
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
    mix = t.to(device)[:, None, None, None, None]
    z = (1 - mix) * latents + mix * noise.to(device)
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


INPUTS = {
    "flux": flux_inputs,
    "wan": wan_inputs,
    "hunyuan-video": hunyuan_inputs,
    "hunyuan-video-1.5": hunyuan_15_inputs,
}


def inputs_for(pipe: Any) -> Callable[[Any, Tensor, list[str], Tensor, Tensor, int], Noised]:
    """The input builder of this pipeline's family. Raises `DditError` where there is none."""
    family = family_of(pipe.transformer)
    if family.name not in INPUTS:
        raise DditError(f"distillation knows no inputs for {family.name}; supported: {', '.join(INPUTS)}")
    return INPUTS[family.name]
