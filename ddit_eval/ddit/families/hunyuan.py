"""HunyuanVideo and HunyuanVideo 1.5: video grids with rotary positions inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.ddit.families.family import FEED_FORWARD, Call, attention, layers_of
from ddit_eval.ddit.families.video import VideoFamily, grid_ids
from ddit_eval.ddit.layout import Layout

_POSITIONAL = ("hidden_states", "timestep")  # both models' forward goes on differently


@dataclass(frozen=True)
class HunyuanVideo15(VideoFamily):
    """Tokens are single latent pixels: 32 channels that are generated, then a picture's 32 and their mask.

    Every block has the text in a stream of its own.
    """

    name: str = "hunyuan-video-1.5"
    class_name: str = "HunyuanVideo15Transformer3DModel"
    patch: int = 1
    time_scale: float = 1000.0
    embedding: str = "x_embedder.proj"
    position: str = "rope"
    head: str = "proj_out"
    guided_by: str = "guidance_scale"  # of the pipeline's guider
    embeds: tuple[str, ...] = (
        "prompt_embeds",
        "prompt_embeds_mask",
        "prompt_embeds_2",
        "prompt_embeds_mask_2",
    )

    def feed_forwards(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        yield from layers_of(transformer, "transformer_blocks", *FEED_FORWARD)

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """Queries, keys and values of the image, and its output projection."""
        yield from layers_of(transformer, "transformer_blocks", *attention("attn", "to_out.0"))

    def read(self, transformer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        given = {**dict(zip(_POSITIONAL, args, strict=False)), **kwargs}
        config = transformer.config
        # A picture that replaces the first frame: clean at every step, with its own modulation.
        replaced = getattr(config, "image_condition_type", None) == "token_replace"
        sizes = (config.patch_size_t, config.patch_size)
        return self.call(given["hidden_states"], given["timestep"], sizes, given=int(replaced))

    def positions(self, module: Any, call: Call, layout: Layout, output: Any) -> tuple[Tensor, Tensor]:
        """Rotary tables (cos, sin), each (tokens, head size), at the patches' centres."""
        from diffusers.models.embeddings import get_1d_rotary_pos_embed  # seconds, which evaluation spares

        centres: Any = layout.centres(grid_ids(layout.grid, call.handed.device))
        tables = [
            get_1d_rotary_pos_embed(size, centres[:, axis], module.theta, use_real=True)
            for axis, size in enumerate(module.rope_dim)
        ]
        return torch.cat([cos for cos, _ in tables], 1), torch.cat([sin for _, sin in tables], 1)

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
        """text_tokens: of all that its blocks see as text, 729 of a picture and 256 of glyphs among them."""
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
        return macs


@dataclass(frozen=True)
class HunyuanVideo(HunyuanVideo15):
    """Tokens of 2 x 2 latent pixels; after the double blocks come single ones, where the text stands behind
    the image. A picture enters as further channels, or in the place of the first frame."""

    name: str = "hunyuan-video"
    class_name: str = "HunyuanVideoTransformer3DModel"
    patch: int = 2
    text_first: bool = False
    guided_by: str = "true_cfg_scale"
    embeds: tuple[str, ...] = ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask")

    def feed_forwards(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        yield from super().feed_forwards(transformer)
        yield from layers_of(transformer, "single_transformer_blocks", "proj_mlp", "proj_out")

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """A single block's output projection is its feed-forward's."""
        yield from super().attentions(transformer)
        yield from layers_of(transformer, "single_transformer_blocks", *attention("attn"))

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
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
        return macs


def _refined(config: Any, words: int, d: int) -> dict[str, int]:
    """Multiply-adds of the small transformer through which HunyuanVideo's text goes first."""
    layers = config.num_refiner_layers
    return {
        "embed": words * config.text_embed_dim * d,
        "modulation": (256 + d) * d + (config.text_embed_dim + d) * d + layers * 2 * d * d,
        "blocks": layers * 12 * words * d * d,
        "attention": layers * 2 * words**2 * d,
    }
