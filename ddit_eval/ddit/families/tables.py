"""Families whose embedding adds a table of positions: Stable Diffusion 3, PixArt, DiT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ddit_eval.ddit.families.family import (
    CONTROLLED,
    FEED_FORWARD,
    Call,
    ModelFamily,
    attention,
    bias_of,
    layers_of,
    plain,
)
from ddit_eval.ddit.families.video import patchify
from ddit_eval.ddit.layout import Grid, Layout


@dataclass(frozen=True)
class TableFamily(ModelFamily):
    """Latents (B, C, H, W) through diffusers' PatchEmbed: a convolution, and a table added to its tokens.

    A coarse patch has the mean of the entries that it covers.
    """

    patch: int = 2
    time_scale: float = 1000.0
    embedding: str = "pos_embed"
    weights: str = "pos_embed.proj"
    position: str = ""
    head: str = "proj_out"
    head_channel_first: bool = False
    guided_by: str = "guidance_scale"

    def feed_forwards(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        return layers_of(transformer, "transformer_blocks", *FEED_FORWARD)

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """Self-attention, and the queries of the attention to the text."""
        return layers_of(transformer, "transformer_blocks", *attention("attn1", "to_out.0"), "attn2.to_q")

    def read(self, transformer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        given = dict(zip(self.arguments(), args, strict=False)) | dict(kwargs)
        latents, timestep, side = given["hidden_states"], given["timestep"], transformer.config.patch_size
        refused = CONTROLLED if given.get("block_controlnet_hidden_states") is not None else ""
        if side != self.patch:
            refused = f"its transformer has patches of {side}, only {self.patch} is known here"
        return Call(
            latents,
            (timestep.expand(len(latents)) if timestep.ndim == 0 else timestep) / self.time_scale,
            partial(_patchify, patch=self.patch),
            where=(latents.shape[1], latents.shape[-2] // side, latents.shape[-1] // side),
            aside=given.get("skip_layers") is not None,
            refused=refused,
        )

    def arguments(self) -> tuple[str, ...]:
        """The order of the forward's parameters."""
        raise NotImplementedError

    def grid(self, call: Call) -> Grid:
        _, height, width = call.where
        return (1, height, width)

    def positions(self, module: Any, call: Call, layout: Layout, output: Any) -> Tensor:
        """(1, tokens, d) to add; zero for the tokens of the base patch size, which have theirs."""
        channels, height, width = call.where
        nothing = call.handed.new_zeros(1, channels, height * self.patch, width * self.patch)
        table = module.forward(nothing)[0] - bias_of(plain(module.proj))  # what it makes of nothing
        added = layout.centres(table)
        for s in layout.segments:
            if s.scale == 1:
                added[s.start : s.stop] = 0
        return added[None].to(output.dtype)


@dataclass(frozen=True)
class StableDiffusion3(TableFamily):
    """The text has a stream of its own. A call that skips layers, for guidance, is one more of its step."""

    name: str = "sd3"
    class_name: str = "SD3Transformer2DModel"
    embeds: tuple[str, ...] = ()

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """Of the joint attention, and of the image's own where a block has one."""
        yield from layers_of(transformer, "transformer_blocks", *attention("attn", "to_out.0"))
        for i in transformer.config.dual_attention_layers:
            for name in attention("attn2", "to_out.0"):
                yield f"transformer_blocks.{i}.{name}", transformer.transformer_blocks[i].get_submodule(name)

    def arguments(self) -> tuple[str, ...]:
        return ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep")

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
        d = config.num_attention_heads * config.attention_head_dim
        n, words, blocks = layout.tokens, text_tokens, config.num_layers
        dual = len(config.dual_attention_layers)
        cells = config.patch_size**2
        return {
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


@dataclass(frozen=True)
class PixArt(TableFamily):
    """Predicts noise and its variance, not a velocity; text enters by cross-attention alone."""

    name: str = "pixart"
    class_name: str = "PixArtTransformer2DModel"
    flow: bool = False

    def arguments(self) -> tuple[str, ...]:
        return ("hidden_states", "encoder_hidden_states", "timestep")

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
        d = config.num_attention_heads * config.attention_head_dim
        n, words, blocks = layout.tokens, text_tokens, config.num_layers
        cells, third = config.patch_size**2, d // 3
        sizes = config.use_additional_conditions
        if sizes is None:  # as the transformer decides
            sizes = config.sample_size == 128
        text = 0 if config.caption_channels is None else words * (config.caption_channels + d) * d
        return {
            "embed": layout.base_tokens * config.in_channels * cells * d + text,
            # height, width and their ratio, embedded where the model is told them
            "modulation": (256 + d) * d + 6 * d * d + (3 * (256 + third) * third if sizes else 0),
            # self-attention (4), the text's queries and way back (2), feed-forward (8); the text's k and v
            "blocks": blocks * (14 * n * d * d + 2 * words * config.cross_attention_dim * d),
            "attention": blocks * 2 * n * (n + words) * d,
            "head": n * d * cells * (config.out_channels or config.in_channels),
        }


@dataclass(frozen=True)
class DiT(TableFamily):
    """Class-conditional; predicts noise and its variance, not a velocity."""

    name: str = "dit"
    class_name: str = "DiTTransformer2DModel"
    head: str = "proj_out_2"
    flow: bool = False

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        return layers_of(transformer, "transformer_blocks", *attention("attn1", "to_out.0"))

    def arguments(self) -> tuple[str, ...]:
        return ("hidden_states", "timestep")

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
        """It has a class and no text."""
        d = config.num_attention_heads * config.attention_head_dim
        n, blocks, cells = layout.tokens, config.num_layers, config.patch_size**2
        return {
            "embed": layout.base_tokens * config.in_channels * cells * d,
            # Every block embeds the time anew, and the head once more.
            "modulation": (blocks + 1) * (256 + d) * d + (6 * blocks + 2) * d * d,
            "blocks": blocks * 12 * n * d * d,
            "attention": blocks * 2 * n * n * d,
            "head": n * d * cells * (config.out_channels or config.in_channels),
        }


def _patchify(latents: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) to base tokens (B, N, C * p * p), row by row."""
    return patchify(latents[:, :, None], patch)
