"""Flow times as a sampler visits them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ddit_eval.errors import DditError

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
