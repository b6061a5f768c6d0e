"""From clean pictures and prompts to the transformer's own inputs: what is common, and whose is which."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddit_eval.distil import picture_inputs, video_inputs
from ddit_eval.distil.noised import Noised
from ddit_eval.errors import DditError
from ddit_eval.families import family_of
from ddit_eval.families.video import normalised

Span = tuple[float, float]


def shift_of(scheduler: Any, tokens: int) -> float:
    """How far the sampler shifts its steps towards noise: s -> shift s / (1 + (shift - 1) s).

    tokens: base tokens of a picture, on which FLUX's shift depends.
    """
    config = scheduler.config
    if config.get("use_dynamic_shifting"):
        few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        return math.exp(low + (tokens - few) / (many - few) * (high - low))
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
    vae, kind = pipe.vae, family_of(pipe.transformer).name
    pictures = pictures.to(vae.device, vae.dtype)
    if kind == "qwen-image":  # a video VAE
        return normalised(vae, vae.encode(pictures[:, :, None]).latent_dist.mode().float())[:, :, 0]
    z = vae.encode(pictures).latent_dist.mode().float()
    if kind == "ltx":
        return pipe._normalize_latents(z, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    if kind == "flux2":
        mean, var = (v.float().view(1, -1, 1, 1) for v in (vae.bn.running_mean, vae.bn.running_var))
        groups = (pipe._patchify_latents(z) - mean) / (var + vae.config.batch_norm_eps).sqrt()
        return pipe._unpatchify_latents(groups)
    if z.ndim == 5:
        return normalised(vae, z)
    return (z - vae.config.shift_factor) * vae.config.scaling_factor


INPUTS = {
    "flux": picture_inputs.flux_inputs,
    "flux2": picture_inputs.flux2_inputs,
    "qwen-image": picture_inputs.qwen_inputs,
    "sd3": picture_inputs.sd3_inputs,
    "wan": video_inputs.wan_inputs,
    "hunyuan-video": video_inputs.hunyuan_inputs,
    "hunyuan-video-1.5": video_inputs.hunyuan_15_inputs,
    "ltx": video_inputs.ltx_inputs,
}


def inputs_for(pipe: Any) -> Callable[[Any, Tensor, list[str], Tensor, Tensor, int], Noised]:
    """The input builder of this pipeline's family. Raises `DditError` where there is none."""
    family = family_of(pipe.transformer)
    if family.name not in INPUTS:
        raise DditError(f"distillation knows no inputs for {family.name}; supported: {', '.join(INPUTS)}")
    return INPUTS[family.name]
