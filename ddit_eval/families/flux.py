"""FLUX.1: packed tokens of 2 x 2 latent pixels (diffusers' FluxTransformer2DModel)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.errors import DditError
from ddit_eval.patching.layout import Grid, Layout

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
class Call:
    """What the data path reads of one transformer call."""

    latents: Tensor  # (B, N, C_in) base tokens
    timestep: Tensor  # (B,), flow time 0 (data) to 1 (noise)
    image_ids: Tensor  # (N, 3)
    text_ids: Tensor  # (T, 3)


@dataclass(frozen=True)
class Flux:
    name: str = "flux"
    class_name: str = "FluxTransformer2DModel"
    patch: int = 2  # latent pixels per side of a base token; the pipeline packs them
    channel_first: bool = True  # a token is (C, p, p)
    time_scale: float = 1000.0  # scheduler's timestep per unit of flow time
    embedding: str = "x_embedder"
    position: str = "pos_embed"
    head: str = "proj_out"

    def owns(self, transformer: nn.Module) -> bool:
        return any(cls.__name__ == self.class_name for cls in type(transformer).__mro__)

    def feed_forwards(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """The linear layers of every block's feed-forward on the image stream, by name.

        In single blocks text and image tokens share them; the image tokens come last.
        """
        for i, block in enumerate(transformer.transformer_blocks):
            yield f"transformer_blocks.{i}.ff.net.0.proj", block.ff.net[0].proj
            yield f"transformer_blocks.{i}.ff.net.2", block.ff.net[2]
        for i, block in enumerate(transformer.single_transformer_blocks):
            yield f"single_transformer_blocks.{i}.proj_mlp", block.proj_mlp
            yield f"single_transformer_blocks.{i}.proj_out", block.proj_out

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """The call's tensors, whether they were passed by place or by name."""
        given = {**dict(zip(_POSITIONAL, args, strict=False)), **kwargs}
        image_ids, text_ids = given["img_ids"], given["txt_ids"]
        # diffusers still accepts ids with a batch dimension.
        return Call(
            given["hidden_states"],
            given["timestep"],
            image_ids[0] if image_ids.ndim == 3 else image_ids,
            text_ids[0] if text_ids.ndim == 3 else text_ids,
        )

    def positions(self, module: nn.Module, call: Call, layout: Layout) -> tuple[Tensor, Tensor]:
        """Rotary tables (cos, sin) for the text and for the centres of a layout's patches."""
        ids = torch.cat([call.text_ids.float(), layout.centres(call.image_ids)])
        return module.forward(ids)

    def grid(self, image_ids: Tensor) -> Grid:
        """The grid of base tokens, read off their positions (one device synchronisation)."""
        high, low = torch.stack([image_ids.amax(0), image_ids.amin(0)]).tolist()
        height, width = (round(h - lo) + 1 for h, lo in zip(high[1:], low[1:], strict=True))
        if height * width != len(image_ids):
            raise DditError(
                f"{len(image_ids)} image tokens do not fill one grid of {height} x {width}; coarse patches "
                "need a plain text-to-image call (tokens of reference images are not supported)"
            )
        return (1, height, width)
