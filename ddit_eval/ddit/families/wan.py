"""Wan 2.1 and 2.2: a video grid with rotary positions inside (diffusers' WanTransformer3DModel)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.ddit.families.family import Call, attention, layers_of
from ddit_eval.ddit.families.video import VideoFamily, grid_ids
from ddit_eval.ddit.layout import Layout

_POSITIONAL = ("hidden_states", "timestep", "encoder_hidden_states", "encoder_hidden_states_image")


@dataclass(frozen=True)
class Wan(VideoFamily):
    """Tokens are 1 x 2 x 2 latent pixels; the embedding is channel first, the head channel last."""

    name: str = "wan"
    class_name: str = "WanTransformer3DModel"
    patch: int = 2
    time_scale: float = 1000.0
    embedding: str = "patch_embedding"
    position: str = "rope"
    head: str = "proj_out"
    head_channel_first: bool = False
    guided_by: str = "guidance_scale"

    def feed_forwards(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """Text enters by cross-attention alone, so that only image tokens pass here."""
        return layers_of(transformer, "blocks", "ffn.net.0.proj", "ffn.net.2")

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """Self-attention, and the queries of the attention to the text."""
        return layers_of(transformer, "blocks", *attention("attn1", "to_out.0"), "attn2.to_q")

    def read(self, transformer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        given = {**dict(zip(_POSITIONAL, args, strict=False)), **kwargs}
        deep, side, _ = transformer.config.patch_size
        return self.call(given["hidden_states"], given["timestep"], (deep, side))

    def positions(self, module: Any, call: Call, layout: Layout, output: Any) -> tuple[Tensor, Tensor]:
        """Rotary tables (cos, sin), each (1, tokens, 1, head size), at the patches' centres."""
        from diffusers.models.embeddings import get_1d_rotary_pos_embed  # seconds, which evaluation spares

        table = module.freqs_cos
        centres: Any = layout.centres(grid_ids(layout.grid, table.device)).double()
        tables = [
            get_1d_rotary_pos_embed(
                size, centres[:, axis], 10000.0, use_real=True, repeat_interleave_real=True,
                freqs_dtype=torch.float32 if table.device.type == "mps" else torch.float64,
            )
            for axis, size in enumerate((module.t_dim, module.h_dim, module.w_dim))
        ]  # fmt: skip
        cos, sin = (torch.cat([pair[i] for pair in tables], 1).to(table.dtype) for i in (0, 1))
        return cos[None, :, None], sin[None, :, None]

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
        """Of text to video."""
        d = config.num_attention_heads * config.attention_head_dim
        n, words, blocks = layout.tokens, text_tokens, config.num_layers
        cells = prod(config.patch_size)
        return {
            "embed": layout.base_tokens * config.in_channels * cells * d + words * (config.text_dim + d) * d,
            "modulation": (config.freq_dim + d + 6 * d) * d,
            # q, k, v, out of the image and q, out towards the text; k, v of the text
            "blocks": blocks * (6 * n * d * d + 2 * words * d * d + 2 * n * d * config.ffn_dim),
            "attention": blocks * 2 * n * (n + words) * d,
            "head": n * d * cells * config.out_channels,
        }
