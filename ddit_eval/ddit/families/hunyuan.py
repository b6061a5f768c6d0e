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
