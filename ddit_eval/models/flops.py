"""Operations of a forward pass: analytic per layout, and counted as a check.

A multiply-add counts 2; matrix products, convolutions and attention are counted, element-wise work
(norms, activations, rotary positions) is not. These are costs on paper: a ratio of FLOPs is never
called a speed-up. All figures are for one sample and one transformer call; classifier-free guidance
makes two calls a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.layout import Grid, Group, Layout, uniform
from ddit_eval.errors import DditError


def parts(
    transformer: nn.Module, layout: Layout, text_tokens: int, adapter: Adapter | None = None
) -> dict[str, int]:
    """FLOPs of one forward pass on `layout` by part; those of the adapter are named `adapter.*`."""
    macs = family_of(transformer).macs(transformer.config, layout, text_tokens)
    total = {part: 2 * count for part, count in macs.items()}
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
    tile = adapter.tile if adapter else uniform
    return {
        scale: forward(transformer, tile(grid, scale), text_tokens, adapter) for scale in sorted({1, *scales})
    }


def grid_of(pipe: Any, height: int, width: int) -> Grid:
    """The grid of base tokens (1, rows, columns) of a picture of `height` x `width` pixels."""
    side = pipe.vae_scale_factor * family_of(pipe.transformer).patch
    return (1, height // side, width // side)


def counted(run: Callable[[], Any]) -> int:
    """FLOPs that torch sees while `run()` runs: slow, so never in a timed pass."""
    with counter() as count, torch.no_grad():
        run()
    return int(count.get_total_flops())


def counter() -> FlopCounterMode:
    """A context that counts, and changes nothing of what is computed.

    torch's table lacks the attention kernel of the CPU, without which a CPU run would be counted short.
    """

    def attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kw: Any) -> int:
        *lead, rows, width = query
        return 2 * prod(lead) * rows * key[-2] * (width + value[-1])

    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    return FlopCounterMode(display=False, custom_mapping=mapping)
