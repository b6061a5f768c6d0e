"""Tiny random HunyuanVideo pipelines: 9 frames are 3 latent frames of 4 x 4 base tokens. Text is handed over
as embeddings, since their own text encoders have no small form."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.guiders import ClassifierFreeGuidance
from torch import Tensor

LATENTS, TEXT = 4, 16
_ROPE: Any = (4, 6, 6)


def tiny_transformer(condition: str | None = None) -> HunyuanVideoTransformer3DModel:
    """condition: None, or how a first picture enters: "latent_concat" or "token_replace"."""
    return HunyuanVideoTransformer3DModel(
        in_channels=2 * LATENTS + 1 if condition == "latent_concat" else LATENTS,
        out_channels=LATENTS,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=TEXT,
        pooled_projection_dim=TEXT,
        rope_axes_dim=_ROPE,
        image_condition_type=condition,
    ).eval()


def tiny_transformer_15() -> HunyuanVideo15Transformer3DModel:
    return HunyuanVideo15Transformer3DModel(
        in_channels=2 * LATENTS + 1,
        out_channels=LATENTS,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        num_refiner_layers=1,
        text_embed_dim=TEXT,
        text_embed_2_dim=TEXT,
        image_embed_dim=TEXT,
        rope_axes_dim=_ROPE,
    ).eval()


class Tiny:
    """A pipeline, and the call that makes a clip with it, as latents."""

    def __init__(self, pipe: Any, call: dict[str, Any], guided: dict[str, Any]):
        self.pipe, self.call, self.guided = pipe, call, guided
        pipe.set_progress_bar_config(disable=True)

    def run(self, steps: int = 5, guided: bool = False, **extra: Any) -> Tensor:
        call = self.call | (self.guided if guided else {}) | extra
        noise = torch.Generator().manual_seed(0)
        return self.pipe(num_inference_steps=steps, generator=noise, output_type="latent", **call).frames


def _text(seed: int, words: int = 6) -> Tensor:
    return torch.randn(1, words, TEXT, generator=torch.Generator().manual_seed(seed))


def tiny_hunyuan() -> Tiny:
    torch.manual_seed(0)
    parts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "vae"))
    pipe = HunyuanVideoPipeline(
        transformer=tiny_transformer(), scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), **parts
    )
    texts = [
        {
            f"{name}prompt_embeds": _text(seed),
            f"{name}pooled_prompt_embeds": _text(seed + 1)[:, 0],
            f"{name}prompt_attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]]),
        }
        for name, seed in (("", 1), ("negative_", 3))
    ]
    # Without a VAE the pipeline takes 8 pixels for a latent pixel and 4 frames for a latent frame.
    return Tiny(
        pipe, texts[0] | {"height": 64, "width": 64, "num_frames": 9}, texts[1] | {"true_cfg_scale": 2}
    )


def tiny_hunyuan_15() -> Tiny:
    """Guided or not, it calls as its guider says: `guided` alone asks for two calls a step."""
    torch.manual_seed(0)
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=LATENTS,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    )
    parts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipe = HunyuanVideo15Pipeline(
        transformer=tiny_transformer_15(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        vae=vae,
        guider=ClassifierFreeGuidance(guidance_scale=2.0, enabled=True),
        **parts,
    )
    pipe.vision_num_semantic_tokens = 3
    mask, mask_2 = torch.tensor([[1, 1, 1, 1, 0, 0]]), torch.tensor([[1, 0, 0, 0]])
    texts = [
        {
            f"{name}prompt_embeds": _text(seed),
            f"{name}prompt_embeds_mask": mask,
            f"{name}prompt_embeds_2": _text(seed + 1, 4),
            f"{name}prompt_embeds_mask_2": mask_2,
        }
        for name, seed in (("", 1), ("negative_", 3))
    ]
    call = texts[0] | texts[1] | {"height": 16, "width": 16, "num_frames": 9}
    return Tiny(pipe, call, {})
