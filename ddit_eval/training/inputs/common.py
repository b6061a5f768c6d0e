"""From clean pictures and prompts to the transformer's own inputs: what is common, and whose is which."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddit_eval.ddit.families import family_of
from ddit_eval.errors import DditError
from ddit_eval.training.inputs import pictures as picture_inputs
from ddit_eval.training.inputs import videos as video_inputs
from ddit_eval.training.inputs.noised import Noised

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
