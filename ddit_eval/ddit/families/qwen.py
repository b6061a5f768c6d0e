"""Qwen-Image: packed tokens, complex rotary positions that count from the middle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.ddit.families.family import CONTROLLED, Call, ModelFamily, attention, layers_of
from ddit_eval.ddit.families.flux import as_they_are
from ddit_eval.ddit.families.video import grid_ids
from ddit_eval.ddit.layout import Grid, Layout

_POSITIONAL = (
    "hidden_states",
    "encoder_hidden_states",
    "encoder_hidden_states_mask",
    "timestep",
    "img_shapes",
)


@dataclass(frozen=True)
class QwenImage(ModelFamily):
    """The pipeline packs 2 x 2 latent pixels into a token, channel first; text has a stream of its own."""

    name: str = "qwen-image"
    class_name: str = "QwenImageTransformer2DModel"
    patch: int = 2
    time_scale: float = 1000.0
    embedding: str = "img_in"
    position: str = "pos_embed"
    head: str = "proj_out"
    embeds: tuple[str, ...] = ("prompt_embeds", "prompt_embeds_mask")

    def feed_forwards(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        return layers_of(transformer, "transformer_blocks", "img_mlp.net.0.proj", "img_mlp.net.2")

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        return layers_of(transformer, "transformer_blocks", *attention("attn", "to_out.0"))

    def read(self, transformer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        given = {**dict(zip(_POSITIONAL, args, strict=False)), **kwargs}
        shapes = given["img_shapes"][0]  # of the first sample: its picture, then those that it is shown
        shapes = [shapes] if isinstance(shapes[0], int) else shapes
        refused = ""
        if len(shapes) > 1 or transformer.config.zero_cond_t:
            refused = "tokens of reference images or of layers stand beside those of the picture"
        elif given.get("controlnet_block_samples") is not None:
            refused = CONTROLLED
        return Call(
            given["hidden_states"],
            given["timestep"],
            as_they_are,
            where=tuple(shapes[0]),
            # The text's positions go on where the picture's end.
            beside=(given["encoder_hidden_states"].shape[1],),
            refused=refused,
        )

    def grid(self, call: Call) -> Grid:
        frames, height, width = call.where
        return (frames, height, width)

    def positions(self, module: Any, call: Call, layout: Layout, output: Any) -> tuple[Tensor, Tensor]:
        """Complex tables (tokens, head size / 2) at the patches' centres, and the text's as they were."""
        _, height, width = layout.grid
        ids = grid_ids(layout.grid, output[0].device)
        if module.scale_rope:
            ids = ids - torch.tensor([0, height - height // 2, width - width // 2], device=ids.device)
        centres = layout.centres(ids)
        angles = torch.cat(
            [_angles(centres[:, a], d, module.theta) for a, d in enumerate(module.axes_dim)], 1
        )
        return torch.polar(torch.ones_like(angles), angles).to(output[0].dtype), output[1]

    def fewest_positions(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return args  # the text's depend on all of them, and the module keeps what it made

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
        d = config.num_attention_heads * config.attention_head_dim
        tokens = layout.tokens + text_tokens
        return {
            "embed": (layout.base_tokens * config.in_channels + text_tokens * config.joint_attention_dim) * d,
            "modulation": (256 + d) * d + (12 * config.num_layers + 2) * d * d,
            "blocks": config.num_layers * 12 * tokens * d * d,
            "attention": config.num_layers * 2 * tokens * tokens * d,
            "head": layout.tokens * d * config.patch_size**2 * (config.out_channels or config.in_channels),
        }


def _angles(places: Tensor, size: int, theta: float) -> Tensor:
    """(N,) places on an axis to (N, size / 2) angles."""
    steps = torch.arange(0, size, 2, dtype=torch.float32, device=places.device).div(size)
    return torch.outer(places, 1.0 / torch.pow(theta, steps))
