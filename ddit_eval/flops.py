"""Operations of a forward pass: analytic per layout, and counted as a check.

A multiply-add counts 2; matrix products, convolutions and attention are counted, element-wise work
(norms, activations, rotary positions) is not. These are costs on paper: a ratio of FLOPs is never
called a speed-up. All figures are for one sample and one transformer call; classifier-free guidance
makes two calls a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from ddit_eval.errors import DditError

if TYPE_CHECKING:
    from torch import nn

    from ddit_eval.patching.adapter import Adapter
    from ddit_eval.patching.layout import Grid, Layout


def flux(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' FluxTransformer2DModel, without an adapter.

    The attachment keeps the base's own embedding (of every base token) and head (of every token of the
    layout) running, and they are counted so.
    """
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


def wan(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' WanTransformer3DModel (text to video), without an adapter."""
    d = config.num_attention_heads * config.attention_head_dim
    n, words, blocks = layout.tokens, text_tokens, config.num_layers
    cells = prod(config.patch_size)
    macs = {
        "embed": layout.base_tokens * config.in_channels * cells * d + words * (config.text_dim + d) * d,
        "modulation": (config.freq_dim + d + 6 * d) * d,
        # q, k, v, out of the image and q, out towards the text; k, v of the text
        "blocks": blocks * (6 * n * d * d + 2 * words * d * d + 2 * n * d * config.ffn_dim),
        "attention": blocks * 2 * n * (n + words) * d,
        "head": n * d * cells * config.out_channels,
    }
    return {part: 2 * count for part, count in macs.items()}


def hunyuan_video(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' HunyuanVideoTransformer3DModel, without an adapter."""
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
    return {part: 2 * count for part, count in macs.items()}


def hunyuan_video_15(config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
    """FLOPs by part of diffusers' HunyuanVideo15Transformer3DModel, without an adapter.

    text_tokens: of all that its blocks see as text, 729 of a picture and 256 of glyphs among them.
    """
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
    return {part: 2 * count for part, count in macs.items()}


def _refined(config: Any, words: int, d: int) -> dict[str, int]:
    """Multiply-adds of the small transformer through which HunyuanVideo's text goes first."""
    layers = config.num_refiner_layers
    return {
        "embed": words * config.text_embed_dim * d,
        "modulation": (256 + d) * d + (config.text_embed_dim + d) * d + layers * 2 * d * d,
        "blocks": layers * 12 * words * d * d,
        "attention": layers * 2 * words**2 * d,
    }


_FAMILIES: dict[str, Callable[[Any, Layout, int], dict[str, int]]] = {
    "flux": flux,
    "wan": wan,
    "hunyuan-video": hunyuan_video,
    "hunyuan-video-1.5": hunyuan_video_15,
}


def parts(
    transformer: nn.Module, layout: Layout, text_tokens: int, adapter: Adapter | None = None
) -> dict[str, int]:
    """FLOPs of one forward pass on `layout` by part; those of the adapter are named `adapter.*`."""
    from ddit_eval.families import family_of

    name = family_of(transformer).name
    if name not in _FAMILIES:
        raise DditError(f"no operation count for the family {name!r}; there are {', '.join(_FAMILIES)}")
    total = _FAMILIES[name](transformer.config, layout, text_tokens)
    if adapter is not None:
        total |= {f"adapter.{part}": count for part, count in adapter.flops(layout).items()}
    elif not layout.is_base:
        raise DditError(f"a layout of scale {layout.scale} needs an adapter, and none was given")
    return total


def forward(transformer: nn.Module, layout: Layout, text_tokens: int, adapter: Adapter | None = None) -> int:
    """FLOPs of one forward pass of one sample on `layout`."""
    return sum(parts(transformer, layout, text_tokens, adapter).values())


def of_counts(
    transformer: nn.Module,
    grid: Grid,
    text_tokens: int,
    counts: Mapping[int, int],
    adapter: Adapter | None = None,
) -> int:
    """FLOPs of one forward pass of one sample with so many patches of each scale, wherever they are."""
    import torch

    from ddit_eval.patching.layout import Group, Layout

    cells = {s: adapter.branch(s).cells if adapter and s > 1 else s**2 for s in counts}
    groups = tuple(Group(s, torch.zeros(n, cells[s], dtype=torch.int64)) for s, n in sorted(counts.items()))
    return forward(transformer, Layout(grid, groups), text_tokens, adapter)


def by_scale(
    transformer: nn.Module,
    grid: Grid,
    text_tokens: int,
    scales: Iterable[int],
    adapter: Adapter | None = None,
) -> dict[int, int]:
    """FLOPs of one forward pass by scale (1 included) on uniform layouts of `grid`: frames, rows, columns."""
    from ddit_eval.patching.layout import uniform

    tile = adapter.tile if adapter else uniform
    return {
        scale: forward(transformer, tile(grid, scale), text_tokens, adapter) for scale in sorted({1, *scales})
    }


def of_run(scales: Iterable[int], table: Mapping[int, int], calls: int = 1) -> int:
    """FLOPs of a denoising run from its scale at every step; `calls` of the transformer a step."""
    return calls * sum(table[scale] for scale in scales)


def grid_of(pipe: Any, height: int, width: int) -> Grid:
    """The grid of base tokens (1, rows, columns) of a picture of `height` x `width` pixels."""
    from ddit_eval.families import family_of

    side = pipe.vae_scale_factor * family_of(pipe.transformer).patch
    return (1, height // side, width // side)


def counted(run: Callable[[], Any]) -> int:
    """FLOPs that torch sees while `run()` runs (FlopCounterMode): slow, so never in a timed pass.

    torch's table lacks the attention kernel of the CPU, without which a CPU run would be counted short.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kw: Any) -> int:
        *lead, rows, width = query
        return 2 * prod(lead) * rows * key[-2] * (width + value[-1])

    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter, torch.no_grad():
        run()
    return int(counter.get_total_flops())
