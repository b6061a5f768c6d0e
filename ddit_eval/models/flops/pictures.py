"""Operations of the transformers that make pictures, by part, without an adapter.

The attachment keeps the base's own embedding (of every base token) and head (of every token of the layout)
running, and they are counted so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddit_eval.ddit.layout import Layout


def flux(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' FluxTransformer2DModel."""
    d = config.num_attention_heads * config.attention_head_dim
    n, words = layout.tokens, text_tokens
    tokens = n + words
    c_in, c_out = config.in_channels, config.out_channels or config.in_channels
    # sinusoid of 256 and pooled text, two linear layers each
    time = (256 + d) * d * (2 if config.guidance_embeds else 1) + (config.pooled_projection_dim + d) * d
    modulation = (12 * config.num_layers + 3 * config.num_single_layers + 2) * d * d
    blocks = config.num_layers + config.num_single_layers
    # A double block has q, k, v, out (4) and a feed-forward of 4 + 4; a single one has q, k, v (3), 4, and
    # one projection of attention and feed-forward together (5).
    projections = blocks * 12 * tokens * d * d
    attention = blocks * 2 * tokens * tokens * d
    macs = {
        "embed": layout.base_tokens * c_in * d + words * config.joint_attention_dim * d,
        "modulation": time + modulation,
        "blocks": projections,
        "attention": attention,
        "head": n * d * config.patch_size**2 * c_out,
    }
    return {part: 2 * count for part, count in macs.items()}


def flux2(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' Flux2Transformer2DModel, whose blocks share their modulation."""
    d = config.num_attention_heads * config.attention_head_dim
    tokens, blocks = layout.tokens + text_tokens, config.num_layers + config.num_single_layers
    inner = int(d * config.mlp_ratio)
    c_out = config.out_channels or config.in_channels
    macs = {
        "embed": (layout.base_tokens * config.in_channels + text_tokens * config.joint_attention_dim) * d,
        "modulation": (config.timestep_guidance_channels + d) * d * (1 + bool(config.guidance_embeds))
        + (2 * 6 + 3 + 2) * d * d,
        # q, k, v and the way back, and a gated feed-forward of three products, in both kinds of block
        "blocks": blocks * tokens * (4 * d + 3 * inner) * d,
        "attention": blocks * 2 * tokens * tokens * d,
        "head": layout.tokens * d * config.patch_size**2 * c_out,
    }
    return {part: 2 * count for part, count in macs.items()}


def qwen_image(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' QwenImageTransformer2DModel."""
    d = config.num_attention_heads * config.attention_head_dim
    tokens = layout.tokens + text_tokens
    macs = {
        "embed": (layout.base_tokens * config.in_channels + text_tokens * config.joint_attention_dim) * d,
        "modulation": (256 + d) * d + (12 * config.num_layers + 2) * d * d,
        "blocks": config.num_layers * 12 * tokens * d * d,
        "attention": config.num_layers * 2 * tokens * tokens * d,
        "head": layout.tokens * d * config.patch_size**2 * (config.out_channels or config.in_channels),
    }
    return {part: 2 * count for part, count in macs.items()}


def stable_diffusion_3(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' SD3Transformer2DModel."""
    d = config.num_attention_heads * config.attention_head_dim
    n, words, blocks, dual = layout.tokens, text_tokens, config.num_layers, len(config.dual_attention_layers)
    cells = config.patch_size**2
    macs = {
        "embed": layout.base_tokens * config.in_channels * cells * d
        + words * config.joint_attention_dim * config.caption_projection_dim,
        # The last block gives the text keys and values, and then leaves it.
        "modulation": (256 + d) * d
        + (config.pooled_projection_dim + d) * d
        + (12 * blocks - 4 + 3 * dual + 2) * d * d,
        "blocks": (12 * blocks * (n + words) - 9 * words + 4 * dual * n) * d * d,
        "attention": (blocks * (n + words) ** 2 + dual * n * n) * 2 * d,
        "head": n * d * cells * (config.out_channels or config.in_channels),
    }
    return {part: 2 * count for part, count in macs.items()}


def pixart(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' PixArtTransformer2DModel."""
    d = config.num_attention_heads * config.attention_head_dim
    n, words, blocks = layout.tokens, text_tokens, config.num_layers
    cells, third = config.patch_size**2, d // 3
    sizes = config.use_additional_conditions
    if sizes is None:  # as the transformer decides
        sizes = config.sample_size == 128
    text = 0 if config.caption_channels is None else words * (config.caption_channels + d) * d
    macs = {
        "embed": layout.base_tokens * config.in_channels * cells * d + text,
        # height, width and their ratio, embedded where the model is told them
        "modulation": (256 + d) * d + 6 * d * d + (3 * (256 + third) * third if sizes else 0),
        # self-attention (4), the text's queries and way back (2), the feed-forward (8); the text's k and v
        "blocks": blocks * (14 * n * d * d + 2 * words * config.cross_attention_dim * d),
        "attention": blocks * 2 * n * (n + words) * d,
        "head": n * d * cells * (config.out_channels or config.in_channels),
    }
    return {part: 2 * count for part, count in macs.items()}


def dit(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' DiTTransformer2DModel; it has a class and no text."""
    d = config.num_attention_heads * config.attention_head_dim
    n, blocks, cells = layout.tokens, config.num_layers, config.patch_size**2
    macs = {
        "embed": layout.base_tokens * config.in_channels * cells * d,
        # Every block embeds the time anew, and the head once more.
        "modulation": (blocks + 1) * (256 + d) * d + (6 * blocks + 2) * d * d,
        "blocks": blocks * 12 * n * d * d,
        "attention": blocks * 2 * n * n * d,
        "head": n * d * cells * (config.out_channels or config.in_channels),
    }
    return {part: 2 * count for part, count in macs.items()}
