"""The scheduler's mathematics: finite differences of the latents and their deviation inside patches.

Source: DDiT (arXiv 2602.16968), section 3.2. Everything is a pure function in float32 or better, except
`Differences`, which keeps what the hot path would otherwise compute again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ddit_eval.errors import DditError

Grid = tuple[int, int, int]  # frames, height, width in base tokens


def finite_difference(latents: Tensor, order: int = 3) -> Tensor:
    """The newest `order`-th backward difference of a trajectory.

    latents (T, ...), oldest first, T >= order + 1; returns (...). Order 3 reads four latents:
    z_t - 3 z_{t+1} + 3 z_{t+2} - z_{t+3}, with z_{t+1} the latent before z_t.
    """
    if order < 1:
        raise DditError(f"order must be a positive integer, got {order}")
    if len(latents) < order + 1:
        raise DditError(f"a difference of order {order} needs {order + 1} latents, got {len(latents)}")
    return _upcast(latents[-(order + 1) :]).diff(n=order, dim=0)[0]


class Differences:
    """`finite_difference` along a trajectory, one subtraction per order and step."""

    def __init__(self, order: int):
        if order < 1:
            raise DditError(f"order must be a positive integer, got {order}")
        self.order = order
        self._last: list[Tensor] = []  # the newest latent and its differences, order 0 to order - 1

    def push(self, latent: Tensor) -> Tensor | None:
        """The difference that ends at `latent`; None until `order + 1` latents have come."""
        new = [_upcast(latent)]
        for old in self._last:
            new.append(new[-1] - old)
        self._last = new[: self.order]
        return new[self.order] if len(new) > self.order else None


def patch_std(
    difference: Tensor, grid: Grid, scales: Sequence[int], times: Mapping[int, int] | None = None
) -> list[Tensor]:
    """Standard deviation inside each patch of every scale.

    difference (B, N, V): the V values of each of N = F * H * W base tokens, row by row; grid (F, H, W).
    times: the frames t that a scale's patches span, 1 where it names none or there are fewer frames.
    Returns one (B, F // t * (H // s) * (W // s)) per scale s: the population deviation over all V * t * s^2
    values of a patch. Cells that do not fit into the grid (the first frames, the last rows and columns) are
    left out, as in a layout with ragged borders.
    """
    frames, height, width = grid
    batch, tokens, _ = difference.shape
    if tokens != frames * height * width:
        raise DditError(f"{tokens} tokens do not fill a grid of {frames} x {height} x {width}")
    x = _upcast(difference).view(batch, frames, height, width, -1)
    result = []
    for s in scales:
        if s > min(height, width):
            raise DditError(f"scale {s} does not fit into a grid of {height} x {width} base tokens")
        t = (times or {}).get(s, 1)
        t = t if t <= frames else 1
        rows, columns = height // s, width // s
        patches = x[:, frames % t :, : rows * s, : columns * s]
        patches = patches.reshape(-1, t, rows, s, columns, s, x.shape[-1])
        values = patches.permute(0, 2, 4, 1, 3, 5, 6).reshape(batch, -1, t * s * s * x.shape[-1])
        # Two passes over the values: a patch that moves as a whole loses nothing to rounding. The norm takes
        # half the time of torch's `std`.
        centred = values - values.mean(-1, keepdim=True)
        result.append(torch.linalg.vector_norm(centred, dim=-1) / math.sqrt(centred.shape[-1]))
    return result


def percentile(values: Tensor, rho: float) -> Tensor:
    """`torch.quantile(values, rho, dim=-1)` at a third of its cost: (B, n) to (B).

    NaN where any value is infinite or NaN, which a low percentile would hide.
    """
    place = rho * (values.shape[-1] - 1)
    low = int(place)
    ordered = values.sort(-1).values
    high = min(low + 1, values.shape[-1] - 1)
    # NaN sorts last.
    return torch.lerp(ordered[..., low], ordered[..., high], place - low) + 0 * ordered[..., -1]


def signals(
    difference: Tensor,
    grid: Grid,
    scales: Sequence[int],
    rho: float,
    times: Mapping[int, int] | None = None,
) -> Tensor:
    """The percentile `rho` (0 to 1) over the patches of `patch_std`; (B, len(scales)).

    One tensor for all candidate scales, so that reading it costs one device synchronisation.
    """
    return torch.stack([percentile(d, rho) for d in patch_std(difference, grid, scales, times)], dim=-1)


def _upcast(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
