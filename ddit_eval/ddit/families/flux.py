"""FLUX.1 and FLUX.2: packed tokens of 2 x 2 latent pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.ddit.families.family import CONTROLLED, FEED_FORWARD, Call, ModelFamily, attention, layers_of
from ddit_eval.ddit.layout import Grid, Layout
from ddit_eval.errors import DditError

# The order of FluxTransformer2DModel.forward's parameters.
_POSITIONAL = (
    "hidden_states",
    "encoder_hidden_states",
    "pooled_projections",
    "timestep",
    "img_ids",
    "txt_ids",
)


@dataclass(frozen=True)
class Flux(ModelFamily):
    """The pipeline packs 2 x 2 latent pixels into a token, channel first."""

    name: str = "flux"
    class_name: str = "FluxTransformer2DModel"
    patch: int = 2
    time_scale: float = 1000.0
    embedding: str = "x_embedder"
    position: str = "pos_embed"
    head: str = "proj_out"
    of_batch: tuple[str, ...] = ("img_ids", "txt_ids")
    embeds: tuple[str, ...] = ("prompt_embeds", "pooled_prompt_embeds")

    def feed_forwards(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """In single blocks text and image tokens share them; the image tokens come last."""
        yield from layers_of(transformer, "transformer_blocks", *FEED_FORWARD)
        yield from layers_of(transformer, "single_transformer_blocks", "proj_mlp", "proj_out")

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """Queries, keys and values of the image; a single block's output projection is its feed-forward's."""
        yield from layers_of(transformer, "transformer_blocks", *attention("attn", "to_out.0"))
        yield from layers_of(transformer, "single_transformer_blocks", *attention("attn"))

    def read(self, transformer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        given = {**dict(zip(_POSITIONAL, args, strict=False)), **kwargs}
        return Call(
            given["hidden_states"],
            given["timestep"],
            as_they_are,
            where=given["img_ids"],
            beside=given["txt_ids"],
            refused=CONTROLLED if given.get("controlnet_block_samples") is not None else "",
        )

    def positions(self, module: Any, call: Call, layout: Layout, output: Any) -> tuple[Tensor, Tensor]:
        """Rotary tables (cos, sin) for the text and for the centres of a layout's patches."""
        return module.forward(torch.cat([_one(call.beside).float(), layout.centres(_one(call.where))]))

    def fewest_positions(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][:1],)

    def grid(self, call: Call) -> Grid:
        """Read off the tokens' positions, which costs one device synchronisation."""
        ids = _one(call.where)[:, 1:3]
        high, low = torch.stack([ids.amax(0), ids.amin(0)]).tolist()
        height, width = (round(h - lo) + 1 for h, lo in zip(high, low, strict=True))
        if height * width != len(ids):
            raise DditError(
                f"{len(ids)} image tokens do not fill one grid of {height} x {width}; coarse patches "
                "need a plain text-to-image call (tokens of reference images are not supported)"
            )
        return (1, height, width)

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
        d = config.num_attention_heads * config.attention_head_dim
        n, words = layout.tokens, text_tokens
        tokens = n + words
        c_in, c_out = config.in_channels, config.out_channels or config.in_channels
        # sinusoid of 256 and pooled text, two linear layers each
        time = (256 + d) * d * (2 if config.guidance_embeds else 1) + (config.pooled_projection_dim + d) * d
        modulation = (12 * config.num_layers + 3 * config.num_single_layers + 2) * d * d
        blocks = config.num_layers + config.num_single_layers
        # A double block has q, k, v, out (4) and a feed-forward of 4 + 4; a single one has q, k, v (3), 4,
        # and one projection of attention and feed-forward together (5).
        projections = blocks * 12 * tokens * d * d
        attention = blocks * 2 * tokens * tokens * d
        return {
            "embed": layout.base_tokens * c_in * d + words * config.joint_attention_dim * d,
            "modulation": time + modulation,
            "blocks": projections,
            "attention": attention,
            "head": n * d * config.patch_size**2 * c_out,
        }


@dataclass(frozen=True)
class Flux2(Flux):
    """FLUX.2: positions of four axes, image and text asked for one after the other.

    A single block has one projection for queries, keys, values and its feed-forward, and one back.
    """

    name: str = "flux2"
    class_name: str = "Flux2Transformer2DModel"
    text_apart: bool = True
    of_batch: tuple[str, ...] = ()  # ids have a row a sample
    guided_by: str = "guidance_scale"  # of the smaller models, which are not guidance-distilled

    def feed_forwards(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        yield from layers_of(transformer, "transformer_blocks", "ff.linear_in", "ff.linear_out")
        yield from layers_of(transformer, "single_transformer_blocks", "attn.to_qkv_mlp_proj", "attn.to_out")

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """Of the double blocks; a single block's are its feed-forward's."""
        return layers_of(transformer, "transformer_blocks", *attention("attn", "to_out.0"))

    def read(self, transformer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        names = ("hidden_states", "encoder_hidden_states", "timestep", "img_ids", "txt_ids")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        refused = "keys and values of reference images are kept between its calls"
        return Call(
            given["hidden_states"],
            given["timestep"],
            as_they_are,
            where=given["img_ids"],
            refused=refused if given.get("kv_cache_mode") is not None else "",
        )

    def positions(self, module: Any, call: Call, layout: Layout, output: Any) -> tuple[Tensor, Tensor]:
        """Rotary tables (cos, sin) for the centres of a layout's patches."""
        return module.forward(layout.centres(_one(call.where)))

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
        """Its blocks share their modulation."""
        d = config.num_attention_heads * config.attention_head_dim
        tokens, blocks = layout.tokens + text_tokens, config.num_layers + config.num_single_layers
        inner = int(d * config.mlp_ratio)
        c_out = config.out_channels or config.in_channels
        return {
            "embed": (layout.base_tokens * config.in_channels + text_tokens * config.joint_attention_dim) * d,
            "modulation": (config.timestep_guidance_channels + d) * d * (1 + bool(config.guidance_embeds))
            + (2 * 6 + 3 + 2) * d * d,
            # q, k, v and the way back, and a gated feed-forward of three products, in both kinds of block
            "blocks": blocks * tokens * (4 * d + 3 * inner) * d,
            "attention": blocks * 2 * tokens * tokens * d,
            "head": layout.tokens * d * config.patch_size**2 * c_out,
        }


def as_they_are(latents: Tensor) -> Tensor:
    return latents


def _one(ids: Tensor) -> Tensor:
    """Positions (N, axes), which diffusers also takes with a batch dimension."""
    return ids[0] if ids.ndim == 3 else ids
