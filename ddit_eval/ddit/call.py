"""How a pipeline is called: what its call takes, from prompts and seeds."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch


def set_guidance(pipe: Any, scale: float) -> None:
    """Give the guidance scale to a pipeline whose call does not take it: HunyuanVideo 1.5 has a guider.

    Other pipelines are left as they are.
    """
    if getattr(pipe, "guider", None) is not None:
        pipe.guider = pipe.guider.new(guidance_scale=scale)


def accepted(pipe: Any) -> set[str]:
    """Names of what the pipeline's call takes."""
    return set(inspect.signature(pipe.__call__).parameters)


def call_arguments(
    pipe: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    size: Sequence[int],
    steps: int,
    text_tokens: int,
    guidance_scale: float,
    **more: Any,
) -> dict[str, Any]:
    """The pipeline call that makes a sample of each prompt from its seed, less what that call does not take.

    size: height and width in pixels, of a clip the number of frames, too.
    """
    wanted: dict[str, Any] = {
        "prompt": list(prompts),
        "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        "height": size[0],
        "width": size[1],
        "num_frames": size[2] if len(size) > 2 else 1,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "max_sequence_length": text_tokens,
    }
    taken = accepted(pipe)
    return {name: value for name, value in (wanted | more).items() if name in taken}
