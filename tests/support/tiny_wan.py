"""A tiny random WanPipeline: 9 frames of 32 px are 3 latent frames of 4 x 4 base tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel  # type: ignore[attr-defined]

from experiments.recipes.pipeline import build_t5_tokenizer

LATENTS = 3
STEPS = 5
ONE = ("a red star",)
CALL = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 8, "output_type": "latent"}


def tiny_wan_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=LATENTS,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * LATENTS,
        latents_std=[1.0] * LATENTS,
        scale_factor_spatial=4,
    )


def tiny_wan_transformer(in_channels: int = LATENTS, text: int = 16) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=in_channels,
        out_channels=LATENTS,
        text_dim=text,
        freq_dim=16,
        ffn_dim=48,
        num_layers=2,
    )


def tiny_wan(seed: int = 0) -> WanPipeline:
    torch.manual_seed(seed)
    tokenizer = build_t5_tokenizer()
    pipe = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(
            UMT5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ).eval(),
        vae=tiny_wan_vae().eval(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=tiny_wan_transformer().eval(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run_wan(
    pipe: WanPipeline, prompts: Sequence[str] = ONE, steps: int = STEPS, guidance: float = 1.0, **extra: Any
) -> Tensor:
    noise = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    call: dict[str, Any] = {**CALL, **extra, "num_inference_steps": steps, "guidance_scale": guidance}
    return pipe(list(prompts), generator=noise, **call).frames
