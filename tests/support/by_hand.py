"""Denoising loops written out, with steps that call no transformer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from tests.support.tiny import CALL
from tests.support.tiny_wan import CALL as CLIP

PROMPT = "a red star"


def skipping(call: Callable[[Tensor, Any], Tensor], plan: Sequence[int], times: Tensor, gain: float) -> Any:
    """`call` where the plan has a 1; where it has a 0 what it said last, or with a gain the line through the
    last two."""
    said: list[tuple[float, Tensor]] = []

    def velocity(step: int, latents: Tensor) -> Tensor:
        now = float(times[step])
        if plan[step]:
            said.append((now, call(latents, times[step])))
            return said[-1][1]
        last, v = said[-1]
        if not gain or len(said) < 2:
            return v
        before, w = said[-2]
        return v + (gain * ((now - last) / (last - before))) * (v - w)

    return velocity


@torch.no_grad()
def flux(pipe: Any, plan: Sequence[int], gain: float = 0.0, guidance: float = 1.0) -> Tensor:
    """Latents of a tiny FLUX; guidance above 1 calls twice a step."""
    latents, ids = pipe.prepare_latents(
        1, 3, 32, 32, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(0)
    )
    config = pipe.scheduler.config
    mu = calculate_shift(
        latents.shape[1], config.base_image_seq_len, config.max_image_seq_len, config.base_shift,
        config.max_shift,
    )  # fmt: skip
    pipe.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / len(plan), len(plan)), mu=mu)
    pipe.scheduler.set_begin_index(0)
    times = pipe.scheduler.timesteps

    def sides(prompt: str) -> Any:
        embeds, pooled, text = pipe.encode_prompt(
            prompt, None, max_sequence_length=CALL["max_sequence_length"]
        )

        def call(latents: Tensor, t: Tensor) -> Tensor:
            return pipe.transformer(
                hidden_states=latents, timestep=t.expand(1) / 1000, pooled_projections=pooled,
                encoder_hidden_states=embeds, txt_ids=text, img_ids=ids,
            ).sample  # fmt: skip

        return skipping(call, plan, times, gain)

    with_prompt, without = sides(PROMPT), sides("")
    for i, t in enumerate(times):
        velocity = with_prompt(i, latents)
        if guidance > 1:
            negative = without(i, latents)
            velocity = negative + guidance * (velocity - negative)
        latents = pipe.scheduler.step(velocity, t, latents, return_dict=False)[0]
    return latents


@torch.no_grad()
def wan(pipe: Any, plan: Sequence[int], gain: float = 0.0, guidance: float = 2.0) -> Tensor:
    """Latents of a tiny Wan, two calls a step."""
    words = CLIP["max_sequence_length"]
    embeds = pipe.encode_prompt(PROMPT, "", True, max_sequence_length=words)
    pipe.scheduler.set_timesteps(len(plan))
    pipe.scheduler.set_begin_index(0)
    times = pipe.scheduler.timesteps
    latents = pipe.prepare_latents(
        1, 3, 32, 32, 9, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(0)
    )

    def side(text: Tensor) -> Any:
        def call(latents: Tensor, t: Tensor) -> Tensor:
            return pipe.transformer(
                hidden_states=latents, timestep=t.expand(1), encoder_hidden_states=text
            ).sample

        return skipping(call, plan, times, gain)

    with_prompt, without = map(side, embeds)
    for i, t in enumerate(times):
        velocity, negative = with_prompt(i, latents), without(i, latents)
        velocity = negative + guidance * (velocity - negative)
        latents = pipe.scheduler.step(velocity, t, latents, return_dict=False)[0]
    return latents
