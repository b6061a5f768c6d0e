"""mini-wan: a complete `WanPipeline` of ten million parameters, built from scratch.

Clips of 9 frames at 64 px are 5 latent frames of 16 x 16 x 12, that is 5 x 64 base tokens. Nothing here
trains; `experiments.recipes.wan_vae` and `experiments.recipes.wan_train` do. Everything is diffusers' and
transformers' own classes, so that the saved folder loads with `WanPipeline.from_pretrained`.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from ddit_eval.world import vocabulary
from ddit_eval.world.motion import DIRECTIONS, GROWTH, TURNS
from experiments.recipes.pipeline import TEXT_WIDTH, build_t5_tokenizer

SIDE = 64  # pixels
FRAMES = 9
TIME_FACTOR = 2  # frames a latent frame, after the first
SPACE_FACTOR = 4  # pixels a latent pixel
TOKEN_SIDE = 2 * SPACE_FACTOR  # pixels
LATENT_CHANNELS = 12  # of 96 numbers that a latent pixel stands for; with 4 the shapes are lost
FLOW_SHIFT = 2.0  # Wan's own 3 is for 480p; a small picture needs fewer steps at high noise


def video_vocabulary() -> tuple[str, ...]:
    """Every word that a clip's caption can hold; those of still scenes come first, in their order."""
    words = ["moves turns crosses that while camera pans", *DIRECTIONS, *TURNS, *GROWTH]
    return tuple(dict.fromkeys([*vocabulary(), *" ".join(words).split()]))


def build_wan_vae() -> Any:
    """Built as Wan 2.2's: squares of 2 x 2 pixels become channels, then one halving in space and time."""
    return AutoencoderKLWan(
        base_dim=24,
        z_dim=LATENT_CHANNELS,
        dim_mult=[2, 2],
        num_res_blocks=1,
        temperal_downsample=[True],
        is_residual=True,
        patch_size=2,
        in_channels=12,
        out_channels=12,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        scale_factor_temporal=TIME_FACTOR,
        scale_factor_spatial=SPACE_FACTOR,
    )


def build_umt5(tokens: int) -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=tokens,
            d_model=TEXT_WIDTH,
            d_kv=24,
            d_ff=2 * TEXT_WIDTH,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            use_cache=False,
            is_encoder_decoder=False,
        )
    )


def build_wan_transformer(latent_channels: int) -> WanTransformer3DModel:
    """Width 360 = 9 heads x 40: twice what a 2p patch of 12 channels emits, half of what a 4p patch does."""
    return WanTransformer3DModel(
        num_attention_heads=9,
        attention_head_dim=40,
        in_channels=latent_channels,
        out_channels=latent_channels,
        text_dim=TEXT_WIDTH,
        freq_dim=64,
        ffn_dim=512,
        num_layers=5,
    )


def build_wan_pipeline(vae: Any, seed: int = 0) -> Any:
    """An untrained mini-wan around a trained VAE."""
    torch.manual_seed(seed)
    tokenizer = build_t5_tokenizer(video_vocabulary())
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=build_umt5(len(tokenizer)),
        vae=vae,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT
        ),
        transformer=build_wan_transformer(vae.config.z_dim),
    )


def latent_frames(frames: int, factor: int = TIME_FACTOR) -> list[float]:
    """The frame of a clip, fractional, in the middle of the `factor` frames that each latent frame covers."""
    return [0.0, *(first + (factor - 1) / 2 for first in range(1, frames, factor))]
