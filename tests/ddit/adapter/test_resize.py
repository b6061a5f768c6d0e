"""FlexiViT's resize against its definition, on pictures packed as diffusers packs them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.ddit.adapter.resize import detail_projection, resize_embedding, resize_projection
from ddit_eval.ddit.layout import uniform
from experiments.recipes.train import pack

CHANNELS, HIDDEN, PATCH = 3, 7, 2


def coarse_tokens(picture: Tensor, scale: int) -> Tensor:
    """(B, C, H, W) to (B, n, s^2 * C * p^2) by the layout, as the adapter sees it."""
    tokens = pack(picture)
    side = picture.shape[-1] // PATCH
    indices = uniform((1, side, side), scale).groups[-1].indices
    return tokens[:, indices].flatten(2)


def channels_last(tokens: Tensor) -> Tensor:
    """Token values from (..., C, p, p) to (..., p, p, C)."""
    return tokens.unflatten(-1, (-1, CHANNELS, PATCH**2)).transpose(-1, -2).flatten(-3)


def enlarge_patches(picture: Tensor, scale: int) -> Tensor:
    """Enlarge every p x p patch by itself."""
    b, c, h, w = picture.shape
    patches = F.unfold(picture, PATCH, stride=PATCH).view(b, c, PATCH, PATCH, -1)
    flat = patches.permute(0, 4, 1, 2, 3).flatten(0, 1)
    large = F.interpolate(flat, scale_factor=scale, mode="bilinear", align_corners=False)
    columns = large.view(b, -1, c * (scale * PATCH) ** 2).transpose(1, 2)
    return F.fold(columns, (h * scale, w * scale), scale * PATCH, stride=scale * PATCH)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channel_first", [True, False])
def test_an_enlarged_patch_has_the_same_embedding(scale: int, channel_first: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(HIDDEN, CHANNELS * PATCH**2)
    picture = torch.randn(2, CHANNELS, 4, 4)
    small, large = pack(picture), coarse_tokens(enlarge_patches(picture, scale), scale)
    if not channel_first:
        small, large = channels_last(small), channels_last(large)
    resized = resize_embedding(weight, PATCH, scale, channel_first)
    assert torch.allclose(large @ resized.T, small @ weight.T, atol=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channel_first", [True, False])
def test_the_projection_emits_the_enlarged_patch(scale: int, channel_first: bool) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(CHANNELS * PATCH**2, HIDDEN), torch.randn(CHANNELS * PATCH**2)
    hidden = torch.randn(1, 1, HIDDEN)
    patch = (hidden @ weight.T + bias).view(1, CHANNELS, PATCH, PATCH)
    expected = coarse_tokens(enlarge_patches(patch, scale), scale)
    if not channel_first:
        expected = channels_last(expected)
        order = torch.arange(CHANNELS * PATCH**2).view(CHANNELS, -1).T.flatten()
        weight, bias = weight[order], bias[order]
    out = hidden @ resize_projection(weight, PATCH, scale, channel_first).T
    assert torch.allclose(out + resize_projection(bias, PATCH, scale, channel_first), expected, atol=1e-4)


@pytest.mark.parametrize("scale", [2, 4])
def test_detail_is_what_enlarged_patches_lack(scale: int) -> None:
    torch.manual_seed(0)
    projection = detail_projection(PATCH, scale)
    assert torch.allclose(projection @ projection, projection, atol=1e-9)
    smooth = enlarge_patches(torch.randn(1, 1, 2, 2, dtype=torch.float64), scale)
    pixels = coarse_tokens(smooth, scale)[0, 0]
    assert torch.allclose(projection @ pixels, torch.zeros_like(pixels), atol=1e-9)
    assert int(torch.linalg.matrix_rank(projection)) == (scale * PATCH) ** 2 - PATCH**2
