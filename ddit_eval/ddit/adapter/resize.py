"""Start values of a coarse patch: FlexiViT's pseudo-inverse resize (arXiv 2212.08013, section 3.4).

With B the bilinear enlargement of a p x p patch to sp x sp, an embedding w becomes (B^T)^+ w, so that an
enlarged patch has the same embedding as the small one; an output projection becomes B times its result.

Weights see a coarse token as its base tokens one after the other, frame by frame and row by row, each in the
family's own channel order: (C, p, p) if `channel_first`, else (p, p, C). A patch of `time` frames is the
enlargement of one frame to so many, all alike.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def enlargement(patch: int, scale: int, time: int = 1) -> Tensor:
    """Bilinear resize as a matrix: time * (scale * patch)^2 x patch^2, float64."""
    pixels = torch.eye(patch * patch, dtype=torch.float64).view(-1, 1, patch, patch)
    large = F.interpolate(pixels, scale_factor=float(scale), mode="bilinear", align_corners=False)
    return large.flatten(1).T.repeat(time, 1)


def detail_projection(patch: int, scale: int, time: int = 1) -> Tensor:
    """The part of a patch that no enlarged small patch can carry: I - B B^+, one channel.

    Square, time * (scale * patch)^2, with pixels in base-token order (tokens of p * p), float64.
    """
    b = enlargement(patch, scale, time)
    rest = torch.eye(len(b), dtype=torch.float64) - b @ torch.linalg.pinv(b)
    order = _token_order(1, patch, scale, True, time)
    return rest[order][:, order]


def resize_embedding(
    weight: Tensor, patch: int, scale: int, channel_first: bool = True, time: int = 1
) -> Tensor:
    """(d, C * p^2) to (d, time * s^2 * C * p^2)."""
    small = _to_pixels(weight.double(), patch, channel_first)  # (d, C, p^2)
    large = small @ torch.linalg.pinv(enlargement(patch, scale, time))  # (d, C, time * (sp)^2)
    order = _token_order(small.shape[1], patch, scale, channel_first, time)
    return large.flatten(1)[:, order].to(weight.dtype)


def resize_projection(
    weight: Tensor, patch: int, scale: int, channel_first: bool = True, time: int = 1
) -> Tensor:
    """(C * p^2, ...) to (time * s^2 * C * p^2, ...); for the weight (C * p^2, d) and the bias (C * p^2)."""
    rest = weight.shape[1:]
    small = _to_pixels(weight.double().flatten(1).T if rest else weight.double()[None], patch, channel_first)
    large = small @ enlargement(patch, scale, time).T  # (d, C, time * (sp)^2)
    order = _token_order(small.shape[1], patch, scale, channel_first, time)
    tokens = large.flatten(1)[:, order].to(weight.dtype)
    return tokens.T.reshape(-1, *rest).contiguous() if rest else tokens[0]


def _to_pixels(values: Tensor, patch: int, channel_first: bool) -> Tensor:
    """(d, C * p^2) in the family's channel order to (d, C, p^2)."""
    pixels = patch * patch
    if channel_first:
        return values.unflatten(1, (-1, pixels))
    return values.unflatten(1, (pixels, -1)).transpose(1, 2)


def _token_order(channels: int, patch: int, scale: int, channel_first: bool, time: int = 1) -> Tensor:
    """For each value of a coarse token, its place in (C, time, sp, sp)."""
    side = scale * patch
    places = torch.arange(channels * time * side * side).view(channels, time, scale, patch, scale, patch)
    axes = (1, 2, 4, 0, 3, 5) if channel_first else (1, 2, 4, 3, 5, 0)
    return places.permute(axes).flatten()
