"""Tiny random pipelines of further families. Text is handed over as embeddings; 4 x 4 base tokens a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLLTXVideo,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    LTXConditionPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor

TEXT = 16  # channels of a text token
WIDTH = {"num_attention_heads": 2, "attention_head_dim": 16}
ROPE: Any = (4, 6, 6)


class Tiny:
    """A pipeline, and the call that makes latents with it; `guided` is added where guidance is wanted."""

    def __init__(self, pipe: Any, call: dict[str, Any], guided: dict[str, Any], plain: dict[str, Any]):
        self.pipe, self.call, self.guided, self.plain = pipe, call, guided, plain
        pipe.transformer.eval()
        pipe.set_progress_bar_config(disable=True)

    def run(self, steps: int = 5, guided: bool = False, samples: int = 1, **extra: Any) -> Tensor:
        """(samples, ...) latents; the noise of a sample is its own."""
        call = self.call | (self.guided if guided else self.plain) | extra
        call = {k: _many(v, samples) for k, v in call.items()}
        noise = [torch.Generator().manual_seed(i) for i in range(samples)]
        out = self.pipe(num_inference_steps=steps, generator=noise, output_type="latent", **call)
        return torch.as_tensor(out.frames if hasattr(out, "frames") else out.images)

    def rows(self, guided: bool) -> int:
        """Samples in a call of the transformer for one sample."""
        return 2 if guided and self.doubles else 1

    @property
    def doubles(self) -> bool:
        """Whether guidance doubles the batch instead of calling twice."""
        return not isinstance(self.pipe, (QwenImagePipeline, Flux2Pipeline))


def _many(value: Any, samples: int) -> Any:
    if isinstance(value, list):
        return value * samples
    return value.repeat(samples, *[1] * (value.ndim - 1)) if isinstance(value, Tensor) else value


def text(seed: int, words: int = 6, channels: int = TEXT) -> Tensor:
    return torch.randn(1, words, channels, generator=torch.Generator().manual_seed(seed))


def _masked() -> dict[str, Any]:
    """The prompt and the negative one, each with a mask."""
    mask = torch.ones(1, 6, dtype=torch.long)
    texts = {"prompt_embeds": text(1), "negative_prompt_embeds": text(3)}
    return texts | {"prompt_attention_mask": mask, "negative_prompt_attention_mask": mask}


def _kl(latent_channels: int, kind: Any = AutoencoderKL, **more: Any) -> Any:
    return kind(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=2,
        mid_block_add_attention=False,
        **more,
    ).eval()


def sd3() -> Tiny:
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        joint_attention_dim=TEXT,
        caption_projection_dim=32,
        pooled_projection_dim=TEXT,
        pos_embed_max_size=12,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
        **WIDTH,
    )
    parts = dict.fromkeys(f"{part}{i}" for part in ("text_encoder", "tokenizer") for i in ("", "_2", "_3"))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    vae = _kl(4, scaling_factor=1.0, shift_factor=0.0)
    pipe = StableDiffusion3Pipeline(transformer=transformer, scheduler=scheduler, vae=vae, **parts)
    texts = [
        {f"{name}prompt_embeds": text(seed), f"{name}pooled_prompt_embeds": text(seed + 1)[:, 0]}
        for name, seed in (("", 1), ("negative_", 3))
    ]
    size = {"height": 16, "width": 16}
    return Tiny(pipe, texts[0] | texts[1] | size, {"guidance_scale": 3.0}, {"guidance_scale": 1.0})


def qwen() -> Tiny:
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, joint_attention_dim=TEXT, axes_dims_rope=ROPE, **WIDTH
    )
    vae = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    pipe = QwenImagePipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
    )
    call = {"prompt_embeds": text(1), "prompt_embeds_mask": torch.ones(1, 6, dtype=torch.long)}
    # The negative prompt has another length, on which its positions depend.
    guided = {
        "negative_prompt_embeds": text(3, 4),
        "negative_prompt_embeds_mask": torch.ones(1, 4, dtype=torch.long),
        "true_cfg_scale": 3.0,
    }
    return Tiny(pipe, call | {"height": 16, "width": 16}, guided, {})


def flux2() -> Tiny:
    """Guidance-distilled: there is no call without the prompt."""
    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        joint_attention_dim=TEXT,
        axes_dims_rope=(4, 4, 4, 4),
        **WIDTH,
    )
    vae = _kl(4, AutoencoderKLFlux2)
    pipe = Flux2Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
    )
    return Tiny(pipe, {"prompt_embeds": text(1), "height": 16, "width": 16}, {}, {})


def _ltx(kind: Any) -> Tiny:
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=32,
        caption_channels=TEXT,
        **WIDTH,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=kind is LTXPipeline)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
    )
    pipe = kind(transformer=transformer, scheduler=scheduler, vae=vae, text_encoder=None, tokenizer=None)
    # A latent pixel is 32 pixels, a latent frame 8 frames.
    size = {"height": 128, "width": 128, "num_frames": 17, "frame_rate": 24}
    return Tiny(pipe, _masked() | size, {"guidance_scale": 3.0}, {"guidance_scale": 1.0})


def ltx() -> Tiny:
    return _ltx(LTXPipeline)


def ltx_condition() -> Tiny:
    """The pipeline that hands over coordinates, and times with an axis of their own."""
    return _ltx(LTXConditionPipeline)


def pixart() -> Tiny:
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=32,
        caption_channels=TEXT,
        use_additional_conditions=False,
        **WIDTH,
    )
    pipe = PixArtAlphaPipeline(
        transformer=transformer, scheduler=DDIMScheduler(), vae=_kl(4), text_encoder=None, tokenizer=None
    )
    call = _masked() | {
        "negative_prompt": None,
        "height": 16,
        "width": 16,
        "use_resolution_binning": False,
    }
    return Tiny(pipe, call, {"guidance_scale": 3.0}, {"guidance_scale": 1.0})


def dit() -> Tiny:
    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        sample_size=8, in_channels=4, out_channels=8, num_layers=2, num_embeds_ada_norm=1000, **WIDTH
    )
    pipe = DiTPipeline(transformer=transformer, scheduler=DDIMScheduler(), vae=_kl(4))
    return Tiny(pipe, {"class_labels": [3]}, {"guidance_scale": 3.0}, {"guidance_scale": 1.0})


MAKERS: dict[str, Callable[[], Tiny]] = {
    "sd3": sd3,
    "qwen-image": qwen,
    "flux2": flux2,
    "ltx": ltx,
    "ltx-condition": ltx_condition,
    "pixart": pixart,
    "dit": dit,
}
