"""Operations of the transformers that make videos, by part, without an adapter."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddit_eval.ddit.layout import Layout


def wan(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' WanTransformer3DModel (text to video), without an adapter."""
    d = config.num_attention_heads * config.attention_head_dim
    n, words, blocks = layout.tokens, text_tokens, config.num_layers
    cells = prod(config.patch_size)
    macs = {
        "embed": layout.base_tokens * config.in_channels * cells * d + words * (config.text_dim + d) * d,
        "modulation": (config.freq_dim + d + 6 * d) * d,
        # q, k, v, out of the image and q, out towards the text; k, v of the text
        "blocks": blocks * (6 * n * d * d + 2 * words * d * d + 2 * n * d * config.ffn_dim),
        "attention": blocks * 2 * n * (n + words) * d,
        "head": n * d * cells * config.out_channels,
    }
    return {part: 2 * count for part, count in macs.items()}


def hunyuan_video(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' HunyuanVideoTransformer3DModel, without an adapter."""
    d = config.num_attention_heads * config.attention_head_dim
    single = config.num_single_layers
    # A picture in the place of the first frame has a modulation of its own.
    image = 2 if config.image_condition_type == "token_replace" else 1
    pooled = (config.pooled_projection_dim + d) * d
    time = (256 + d) * d * (image + bool(config.guidance_embeds)) + pooled
    modulation = (6 * config.num_layers * (image + 1) + 3 * single * image + 2) * d * d
    tokens = layout.tokens + text_tokens
    macs = _refined(config, text_tokens, d)
    macs["embed"] += layout.base_tokens * config.in_channels * config.patch_size**2 * d
    macs["modulation"] += time + modulation
    # A double block has q, k, v, out (4), a single one q, k, v and its projection back (4).
    macs["blocks"] += (config.num_layers + single) * int((4 + 2 * config.mlp_ratio) * tokens * d * d)
    macs["attention"] += (config.num_layers + single) * 2 * tokens**2 * d
    macs["head"] = layout.tokens * d * config.patch_size**2 * config.out_channels
    return {part: 2 * count for part, count in macs.items()}


def hunyuan_video_15(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' HunyuanVideo15Transformer3DModel, without an adapter.

    text_tokens: of all that its blocks see as text, 729 of a picture and 256 of glyphs among them.
    """
    d = config.num_attention_heads * config.attention_head_dim
    picture, glyphs = 729, 256  # as the pipeline always gives them
    words, tokens = text_tokens - picture - glyphs, layout.tokens + text_tokens
    macs = _refined(config, words, d)
    wide, seen = config.text_embed_2_dim, config.image_embed_dim
    macs["embed"] += layout.base_tokens * config.in_channels * config.patch_size**2 * d
    macs["embed"] += picture * seen * (seen + d) + glyphs * 2048 * (wide + 2048 + d)
    macs["modulation"] += (256 + d) * d + (12 * config.num_layers + 2) * d * d
    macs["blocks"] += config.num_layers * int((4 + 2 * config.mlp_ratio) * tokens * d * d)
    macs["attention"] += config.num_layers * 2 * tokens**2 * d
    macs["head"] = layout.tokens * d * config.patch_size**2 * config.out_channels
    return {part: 2 * count for part, count in macs.items()}


def _refined(config: Any, words: int, d: int) -> dict[str, int]:
    """Multiply-adds of the small transformer through which HunyuanVideo's text goes first."""
    layers = config.num_refiner_layers
    return {
        "embed": words * config.text_embed_dim * d,
        "modulation": (256 + d) * d + (config.text_embed_dim + d) * d + layers * 2 * d * d,
        "blocks": layers * 12 * words * d * d,
        "attention": layers * 2 * words**2 * d,
    }


def ltx(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' LTXVideoTransformer3DModel."""
    d = config.num_attention_heads * config.attention_head_dim
    n, words, blocks = layout.tokens, text_tokens, config.num_layers
    macs = {
        "embed": layout.base_tokens * config.in_channels * d + words * (config.caption_channels + d) * d,
        "modulation": (256 + d) * d + 6 * d * d,
        # self-attention (4), the text's queries and way back (2), the feed-forward (8); the text's k and v
        "blocks": blocks * (14 * n * d * d + 2 * words * config.cross_attention_dim * d),
        "attention": blocks * 2 * n * (n + words) * d,
        "head": n * d * config.out_channels,
    }
    return {part: 2 * count for part, count in macs.items()}
