"""A tiny random FluxPipeline that drives the whole package in milliseconds."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

from experiments.recipes.pipeline import (
    TEXT_WIDTH,
    build_clip,
    build_clip_tokenizer,
    build_t5,
    build_t5_tokenizer,
)

CALL = {"height": 32, "width": 32, "max_sequence_length": 8, "output_type": "latent"}


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(4, 8),
        layers_per_block=1,
        latent_channels=3,
        norm_num_groups=2,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def tiny_transformer(guidance_embeds: bool = False) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=12,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6),
    )


def tiny_flux(seed: int = 0, guidance_embeds: bool = False) -> FluxPipeline:
    """Random weights, VAE factor 2: a 32 px picture has 8 x 8 = 64 base tokens."""
    torch.manual_seed(seed)
    tokenizer, tokenizer_2 = build_clip_tokenizer(), build_t5_tokenizer()
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=tiny_vae().eval(),
        text_encoder=build_clip(tokenizer).eval(),
        tokenizer=tokenizer,
        text_encoder_2=build_t5(tokenizer_2).eval(),
        tokenizer_2=tokenizer_2,
        transformer=tiny_transformer(guidance_embeds).eval(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
