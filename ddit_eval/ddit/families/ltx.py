"""LTX-Video: packed tokens of single latent pixels, rotary positions in seconds and pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.ddit.families.family import FEED_FORWARD, Call, ModelFamily, attention, layers_of
from ddit_eval.ddit.families.flux import as_they_are
from ddit_eval.ddit.families.video import TOKEN_TIMES
from ddit_eval.ddit.layout import Grid, Layout
from ddit_eval.errors import DditError

_POSITIONAL = (
    "hidden_states",
    "encoder_hidden_states",
    "timestep",
    "encoder_attention_mask",
    "num_frames",
    "height",
    "width",
    "rope_interpolation_scale",
    "video_coords",
)


@dataclass(frozen=True)
class Ltx(ModelFamily):
    """The pipeline packs a video frame by frame; text enters by cross-attention alone."""

    name: str = "ltx"
    class_name: str = "LTXVideoTransformer3DModel"
    patch: int = 1
    time_scale: float = 1000.0
    embedding: str = "proj_in"
    position: str = "rope"
    head: str = "proj_out"
    video: bool = True
    guided_by: str = "guidance_scale"

    def feed_forwards(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        return layers_of(transformer, "transformer_blocks", *FEED_FORWARD)

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """Self-attention, and the queries of the attention to the text."""
        return layers_of(transformer, "transformer_blocks", *attention("attn1", "to_out.0"), "attn2.to_q")

    def read(self, transformer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        given = {**dict(zip(_POSITIONAL, args, strict=False)), **kwargs}
        latents, timestep, coords = given["hidden_states"], given["timestep"], given.get("video_coords")
        refused = TOKEN_TIMES if timestep.ndim > 1 and timestep.shape[1] > 1 else ""
        if transformer.config.patch_size != 1 or transformer.config.patch_size_t != 1:
            refused = "its transformer has patches of its own, only single latent pixels are known here"
        if coords is None:
            frames, height, width = given["num_frames"], given["height"], given["width"]
            where, beside = (frames, height, width), given.get("rope_interpolation_scale")
            if latents.shape[1] != frames * height * width:
                refused = f"{latents.shape[1]} tokens do not fill a grid of {frames} x {height} x {width}"
        else:
            where = beside = coords
        timestep = timestep.flatten(1).amax(1) if timestep.ndim > 1 else timestep
        return Call(
            latents,
            timestep / self.time_scale,
            as_they_are,
            where=where,
            beside=beside,
            refused=refused,
        )

    def grid(self, call: Call) -> Grid:
        """Where coordinates are handed over, read off these, which costs device synchronisations."""
        if isinstance(call.where, tuple):
            frames, height, width = call.where
            return (frames, height, width)
        frames, height, width = (len(axis.unique()) for axis in call.where[0])
        if prod((frames, height, width)) != call.where.shape[-1]:
            raise DditError(
                f"{call.where.shape[-1]} tokens do not fill one grid of {frames} x {height} x {width}; "
                "coarse patches need a plain text-to-video call (tokens of given frames are not supported)"
            )
        return (frames, height, width)

    def positions(self, module: Any, call: Call, layout: Layout, output: Any) -> tuple[Tensor, Tensor]:
        """Rotary tables (cos, sin), each (1, tokens, d), at the patches' centres."""
        device = call.handed.device
        if isinstance(call.where, tuple):
            # Shares of the model's base size, by which the module divides what it is handed.
            from ddit_eval.ddit.diffusers_private import video_coords  # seconds, which evaluation spares

            shares = video_coords(module, 1, *layout.grid, call.beside, device)[0]
            sizes = (module.base_num_frames, module.base_height, module.base_width)
            coords = shares * torch.tensor(sizes, device=device)
        else:
            coords = call.where[0].T
        return module.forward(call.handed[:1, :1], video_coords=layout.centres(coords).T[None])

    def fewest_positions(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, _, _, _, scale, coords = args
        return (hidden[:1, :1], 1, 1, 1, scale, None if coords is None else coords[:1, :, :1])

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
        d = config.num_attention_heads * config.attention_head_dim
        n, words, blocks = layout.tokens, text_tokens, config.num_layers
        return {
            "embed": layout.base_tokens * config.in_channels * d + words * (config.caption_channels + d) * d,
            "modulation": (256 + d) * d + 6 * d * d,
            # self-attention (4), the text's queries and way back (2), feed-forward (8); the text's k and v
            "blocks": blocks * (14 * n * d * d + 2 * words * config.cross_attention_dim * d),
            "attention": blocks * 2 * n * (n + words) * d,
            "head": n * d * config.out_channels,
        }
