"""FLUX.1 and FLUX.2: packed tokens of 2 x 2 latent pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.ddit.families.family import CONTROLLED, FEED_FORWARD, Call, Family, attention, layers_of
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
class Flux(Family):
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


def as_they_are(latents: Tensor) -> Tensor:
    return latents


def _one(ids: Tensor) -> Tensor:
    """Positions (N, axes), which diffusers also takes with a batch dimension."""
    return ids[0] if ids.ndim == 3 else ids
