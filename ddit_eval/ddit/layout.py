"""Layouts: how one forward pass tiles the base tokens with patches of several sizes.

A layout is data: groups of base-token indices, one group per scale. Embedding, positions, LoRA segments
and de-embedding read nothing else, so a uniform scale, ragged borders and mixed sizes are one case.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ddit_eval.errors import DditError

Grid = tuple[int, int, int]  # frames, height, width in base tokens
TEXT = 4096  # text tokens that may share a block with the image's


@dataclass(frozen=True, eq=False)
class Group:
    """All patches of one scale: `indices` (n, time * scale^2), base tokens of a patch frame by frame and
    row by row."""

    scale: int
    indices: Tensor


@dataclass(frozen=True)
class Segment:
    """Where a group's tokens lie among the image tokens: start <= i < stop."""

    scale: int
    start: int
    stop: int


@dataclass(frozen=True)
class Places:
    """A layout's index tensors on one device.

    flat     per scale the base tokens of its patches, patch after patch
    inverse  position of every base token in the concatenation of all `flat` (N); None if they are in order
    coarse   per scale above 1 a mask (N, 1) of the base tokens that it covers; None where it covers all
    first    of each patch its scale, then zeros: as many bytes for every layout of a grid (N + TEXT, 1)
    last     the same with the zeros in front
    """

    flat: dict[int, Tensor]
    inverse: Tensor | None
    coarse: dict[int, Tensor | None]
    first: Tensor
    last: Tensor


@dataclass(frozen=True, eq=False)
class Layout:
    """A tiling of `grid` by the patches of `groups`, in ascending scale: the transformer's token order.
    Without any it is `SKIPPED`."""

    grid: Grid
    groups: tuple[Group, ...]
    _places: dict[torch.device, Places] = field(default_factory=dict, repr=False)

    @cached_property
    def base_tokens(self) -> int:
        frames, height, width = self.grid
        return frames * height * width

    @cached_property
    def tokens(self) -> int:
        return sum(len(g.indices) for g in self.groups)

    @cached_property
    def scale(self) -> int:
        """The coarsest scale; 0 where there are no patches."""
        return max((g.scale for g in self.groups), default=0)

    @cached_property
    def is_base(self) -> bool:
        return self.scale == 1

    @cached_property
    def key(self) -> str:
        """Equal for equal layouts, and only for these."""
        digest = hashlib.sha256(repr(self.grid).encode())
        for g in self.groups:
            digest.update(repr((g.scale, len(g.indices))).encode() + g.indices.numpy().tobytes())
        return digest.hexdigest()[:20]

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        result, start = [], 0
        for g in self.groups:
            result.append(Segment(g.scale, start, start + len(g.indices)))
            start += len(g.indices)
        return tuple(result)

    def on(self, device: torch.device) -> Places:
        """The index tensors on `device`, made once."""
        if device not in self._places:
            # Made outside inference mode, so that a later training step may save them for its backward.
            with torch.inference_mode(False):
                self._places[device] = self._place(device)
        return self._places[device]

    def _place(self, device: torch.device) -> Places:
        flat = {g.scale: g.indices.flatten() for g in self.groups}
        order = torch.cat(list(flat.values()))
        inverse = torch.argsort(order)
        coarse: dict[int, Tensor | None] = {}
        for scale, indices in flat.items():
            if scale > 1:
                mask = torch.zeros(self.base_tokens, 1, dtype=torch.bool)
                mask[indices] = True
                coarse[scale] = None if len(indices) == self.base_tokens else mask.to(device)
        scales = torch.cat([torch.full((len(g.indices), 1), g.scale, dtype=torch.int8) for g in self.groups])
        zeros = torch.zeros(self.base_tokens - self.tokens + TEXT, 1, dtype=torch.int8)
        in_order = torch.equal(order, torch.arange(len(order)))
        return Places(
            {scale: indices.to(device) for scale, indices in flat.items()},
            None if in_order else inverse.to(device),
            coarse,
            torch.cat([scales, zeros]).to(device),
            torch.cat([zeros, scales]).to(device),
        )

    def centres(self, ids: Tensor) -> Tensor:
        """Positions of the patches: the mean of the positions of the base tokens in each.

        ids (N, axes); returns (tokens, axes) in float32, fractional where a patch has an even side.
        """
        places, ids = self.on(ids.device), ids.float()
        return torch.cat(
            [ids[places.flat[g.scale]].unflatten(0, (-1, g.indices.shape[1])).mean(1) for g in self.groups]
        )


SKIPPED = Layout((0, 0, 0), ())  # of a step that calls no transformer


@lru_cache(maxsize=256)
def uniform(grid: Grid, scale: int, times: tuple[tuple[int, int], ...] = (), given: int = 0) -> Layout:
    """Patches of one scale wherever they fit; a ragged border stays at the base patch size.

    grid   (frames, height, width) in base tokens; patches are scale x scale in space
    times  (scale, frames that its patches span) of every scale at hand; empty: all are one frame deep
    given  so many frames at the front are no part of what is generated and stay at the base patch size

    Frames that fill no patch take the next smaller scale. They are the first ones, as a causal VAE's first
    latent frame holds a single picture.
    """
    frames, height, width = grid
    if min(grid) < 1:
        raise DditError(f"a grid needs at least one token on each side, got {grid}")
    if scale < 1 or scale != int(scale):
        raise DditError(f"a scale is a positive integer, got {scale}")
    with torch.inference_mode(False):
        ids = torch.arange(frames * height * width).view(grid)
        fine, groups = torch.ones(grid, dtype=torch.bool), []
        for start, stop, s, time in _slabs(frames - given, scale, dict(times)):
            rows, columns = height // s * s, width // s * s
            slab = (slice(given + start, given + stop), slice(rows), slice(columns))
            fine[slab] = False
            cells = ids[slab].reshape((stop - start) // time, time, rows // s, s, columns // s, s)
            cells = cells.permute(0, 2, 4, 1, 3, 5)
            groups.append(Group(s, cells.flatten(3).flatten(0, 2).contiguous()))
        groups = [Group(1, ids[fine].view(-1, 1)), *reversed(groups)]
        return Layout(grid, tuple(g for g in groups if len(g.indices)))


def _slabs(frames: int, scale: int, times: dict[int, int]) -> list[tuple[int, int, int, int]]:
    """(start, stop, scale, frames of a patch) of the coarse patches, coarsest first and from the back."""
    slabs, stop = [], frames
    for s in [scale, *sorted((s for s in times if s < scale), reverse=True)]:
        time = times.get(s, 1)
        start = stop - stop // time * time
        if s > 1 and start < stop:
            slabs.append((start, stop, s, time))
            stop = start
    return slabs
