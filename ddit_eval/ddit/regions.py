"""Which patch size each region of a step takes: pure functions from the signal, kept as a map, to a tiling.

The paper leaves regions to future work. A map holds a value for each base token, (F, H, W); everything from
`scale_map` on runs on the host, as the layout that comes of it does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.ddit.layout import Grid, Group, Layout
from ddit_eval.errors import DditError

Times = tuple[tuple[int, int], ...]  # (scale, frames that its patches span), empty where all span one


def local_variance(difference: Tensor, grid: Grid, window: int = 3) -> Tensor:
    """Variance of |difference| around each base token.

    difference (B, N, V), the V values of each base token; returns (B, F, H, W) in float32 or better: the
    population variance over all values in the window x window tokens around a token, in its own frame and
    as far as they lie inside. An even window reaches one token further to the right and down.
    """
    frames, height, width = grid
    batch, tokens, _ = difference.shape
    if tokens != frames * height * width:
        raise DditError(f"{tokens} tokens do not fill a grid of {frames} x {height} x {width}")
    x = difference.to(torch.promote_types(difference.dtype, torch.float32)).abs()
    x = x - x.mean((1, 2), keepdim=True)  # a variance does not see it, rounding does
    moments = torch.stack([x.mean(-1), x.square().mean(-1), torch.ones_like(x[..., 0])], 1)
    before, after = (window - 1) // 2, window // 2
    padded = F.pad(moments.view(batch, 3 * frames, height, width), (before, after, before, after))
    sums = F.avg_pool2d(padded, window, stride=1, divisor_override=1).view(batch, 3, frames, height, width)
    mean, square = sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 2]
    return (square - mean.square()).clamp_min(0)


def scale_map(
    variance: Tensor,
    tau: float,
    scales: Sequence[int],
    before: Tensor | None = None,
    hysteresis: float = 1.0,
) -> Tensor:
    """The coarsest scale that each base token allows: the coarsest of all below `tau`, the next one below
    twice that, and so on; 1 above all limits.

    variance (F, H, W), not negative; returns integers of that shape. A token that had a scale in the map
    `before`, or a coarser one, keeps it up to `hysteresis` times the limit, so that regions do not flicker.
    """
    result = torch.ones(variance.shape, dtype=torch.int64)
    for number, scale in reversed(list(enumerate(sorted(scales, reverse=True)))):
        limit = torch.full(variance.shape, tau * 2**number, dtype=variance.dtype)
        if before is not None and hysteresis != 1:
            limit = torch.where(before >= scale, limit * hysteresis, limit)
        result[variance < limit] = scale
    return result


def spend(variance: Tensor, share: float, scales: Sequence[int]) -> Tensor:
    """A map whose tiling has `share` of the base tokens, or a few less, where the variance is highest.

    variance (F, H, W); `scales` divide each other. Cells of the coarsest scale are ranked by the highest
    variance in each: as many take each finer scale as take 1, the rest stay coarse. The number of tokens
    depends on the grid alone. Raises `DditError` where even the coarsest tiling has more.
    """
    frames, height, width = variance.shape
    levels = sorted({1, *scales})
    if any(b % a for a, b in pairwise(levels)):
        raise DditError(f"a budget needs scales that divide each other, got {levels[1:]}")
    coarsest = levels[-1]
    rows, columns = height // coarsest, width // coarsest
    cells, border = frames * rows * columns, variance.numel() - frames * rows * columns * coarsest**2
    result = torch.ones(variance.shape, dtype=torch.int64)
    if not cells:
        return result
    budget = math.floor(share * variance.numel() + 1e-9) - border
    if budget < cells:
        raise DditError(
            f"a budget of {share:g} of {variance.numel()} tokens is below the {cells + border} of the "
            f"coarsest tiling; raise it to at least {(cells + border) / variance.numel():.3f}"
        )
    counts = _shared_out(budget, cells, levels)
    inner = variance[:, : rows * coarsest, : columns * coarsest]
    peaks = F.max_pool2d(inner, coarsest).flatten()
    chosen = torch.empty(cells, dtype=torch.int64)
    order = peaks.argsort(descending=True, stable=True)
    chosen[order] = torch.repeat_interleave(torch.tensor(levels), torch.tensor(counts))
    blocks = chosen.view(frames, rows, columns)
    blocks = blocks.repeat_interleave(coarsest, 1).repeat_interleave(coarsest, 2)
    result[:, : rows * coarsest, : columns * coarsest] = blocks
    return result


def _shared_out(budget: int, cells: int, levels: Sequence[int]) -> list[int]:
    """How many of the coarsest cells take each of `levels` (ascending), at most `budget` tokens in all."""
    coarsest = levels[-1]
    kept = list(levels)
    while len(kept) > 1:
        costs = [(coarsest // level) ** 2 for level in kept]  # tokens of a cell
        finer, last = costs[:-1], costs[-1]
        each = (budget - last * cells) // (sum(finer) - last * len(finer))
        if each * len(finer) <= cells:
            counts = [each] * len(finer) + [cells - each * len(finer)]
            return counts + [0] * (len(levels) - len(kept))
        kept.pop()  # rich enough to need no cell that coarse
    return [cells] + [0] * (len(levels) - 1)


def random_map(grid: Grid, scales: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """A map to train on: smooth regions of random extent, every share of fine and coarse alike."""
    frames, height, width = grid
    coarse = torch.rand(1, 1, 2 + frames // 4, 4, 4, generator=generator)
    field = F.interpolate(coarse, (frames, height, width), mode="trilinear", align_corners=True)[0, 0]
    field = field + 0.1 * torch.rand(grid, generator=generator)
    ranks = field.flatten().argsort().argsort().view(grid) / field.numel()
    # The limits double from scale to scale, so that a tau of 1 / 2^n makes all coarse.
    tau = float(torch.rand((), generator=generator)) + 1e-6
    return scale_map(ranks, tau, scales)


def tile(allowed: Tensor, scales: Sequence[int], times: Times = (), given: int = 0) -> Layout:
    """The tiling of a map, coarsest scale first: a cell of a scale's own grid is one patch where no coarser
    patch is and all of its base tokens allow the scale; what is left is fine.

    allowed (F, H, W) integers; `times` as in `uniform`. `given` frames come before those of the map and
    stay fine. Equal maps give the same object.
    """
    data = allowed.to(torch.int16).contiguous().numpy().tobytes()
    return _tile(data, tuple(allowed.shape), tuple(sorted({*scales} - {1}, reverse=True)), times, given)


@lru_cache(maxsize=256)
def _tile(data: bytes, shape: Grid, scales: tuple[int, ...], times: Times, given: int) -> Layout:
    # In numpy, whose calls cost a fraction of torch's on arrays of this size.
    allowed = np.frombuffer(data, dtype=np.int16).reshape(shape)
    frames, height, width = shape
    ids = np.arange(given * height * width, (given + frames) * height * width).reshape(shape)
    free = np.ones(shape, dtype=bool)
    groups, spans = [], dict(times)
    for scale in scales:
        time = spans.get(scale, 1)
        # From the back, as in `uniform`.
        slab = (slice(frames % time, None), slice(height // scale * scale), slice(width // scale * scale))
        size = (frames // time, time, height // scale, scale, width // scale, scale)
        if not all(size):
            continue
        fits = (free[slab] & (allowed[slab] >= scale)).reshape(size)
        taken = np.logical_and.reduce(fits, axis=(1, 3, 5))
        if not taken.any():
            continue
        groups.append((scale, ids[slab].reshape(size).transpose(0, 2, 4, 1, 3, 5)[taken]))
        free[slab] &= ~np.broadcast_to(taken[:, None, :, None, :, None], size).reshape(free[slab].shape)
    groups.append((1, np.concatenate([np.arange(given * height * width), ids[free]])))
    grid = (frames + given, height, width)
    with torch.inference_mode(False):
        return Layout(
            grid,
            tuple(
                Group(scale, torch.from_numpy(cells.reshape(len(cells), -1)))
                for scale, cells in reversed(groups)
                if len(cells)
            ),
        )


def sizes(layout: Layout) -> Tensor:
    """The scale of the patch that covers each base token, (F, H, W)."""
    result = torch.empty(layout.base_tokens, dtype=torch.int64)
    for group in layout.groups:
        result[group.indices] = group.scale
    return result.view(layout.grid)
