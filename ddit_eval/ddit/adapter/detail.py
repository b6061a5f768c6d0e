"""The residual block from before the patch embedding to after the de-embedding, in variants.

    none      no block
    zero      the paper's: a small network on each coarse token, zero at the start
    analytic  the best linear guess of the velocity of detail that a coarse patch cannot carry
    conv      analytic, then a few ConvNeXt blocks (arXiv 2201.03545) on the full grid of base tokens

All work on base tokens, so that mixed layouts and ragged borders need no unpacking.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ddit_eval.ddit.adapter.resize import detail_projection

Kind = Literal["none", "zero", "analytic", "conv"]
KERNEL = 5
WAVES = 64


class DetailConfig(BaseModel):
    """Which residual block; width, depth and features matter for `conv` (and width for `zero`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Kind = "conv"
    width: Annotated[int, Field(ge=1)] = 96
    depth: Annotated[int, Field(ge=1)] = 3
    features: Annotated[int, Field(ge=0)] = 16

    @property
    def emitted(self) -> int:
        """Extra channels that the de-embedding emits per base token."""
        return self.features if self.kind == "conv" else 0


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """`layer(x)` in x's dtype: training keeps float32 masters under a half-precision base."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)


class ZeroBlock(nn.Module):
    """A token-wise network with zero output at the start: (B, n, in) to (B, n, out)."""

    def __init__(self, inputs: int, outputs: int, width: int):
        super().__init__()
        self.inner = nn.Linear(inputs, width)
        self.outer = nn.Linear(width, outputs)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        return linear(F.gelu(linear(tokens, self.inner), approximate="tanh"), self.outer)

    def flops(self, tokens: int) -> int:
        return 2 * tokens * (self.inner.weight.numel() + self.outer.weight.numel())


class AnalyticDetail(nn.Module):
    """a(t) * (detail of z_t) with a(t) = (t - (1-t) s2) / (t^2 + (1-t)^2 s2).

    Under rectified flow, z = (1-t) x + t n and v = n - x, this is the best linear guess of v for
    detail of variance s2 under unit noise. s2 is learnt per latent channel.
    """

    projection: Tensor  # of the pixels of a patch, time * (s p)^2 square

    def __init__(self, scale: int, patch: int, channels: int, channel_first: bool, time: int = 1):
        super().__init__()
        self.scale, self.patch, self.channels, self.channel_first = scale, patch, channels, channel_first
        # .32 at 2p and .53 at 4p were measured on a small latent model; the rest interpolates.
        start = 1 - 0.68 ** math.log2(scale)
        self.log_variance = nn.Parameter(torch.full((channels,), math.log(start)))
        self.register_buffer("projection", detail_projection(patch, scale, time).float(), persistent=False)

    def gain(self, t: Tensor) -> Tensor:
        """a(t) per channel in float32: t (B,) in 0..1 to (B, C)."""
        t = t.float()[:, None]
        s2 = self.log_variance.float().exp()
        return (t - (1 - t) * s2) / (t**2 + (1 - t) ** 2 * s2)

    def forward(self, patches: Tensor, t: Tensor) -> Tensor:
        """patches (B, n, cells, C * p^2), the base tokens of each patch; same shape back."""
        pixels, gain = self.patch**2, self.gain(t).to(patches.dtype)[:, None, :, None]
        projection = self.projection.to(patches.dtype).T
        if self.channel_first:
            x = patches.unflatten(-1, (self.channels, pixels)).transpose(2, 3)  # (B, n, C, cells, p^2)
        else:
            x = patches.unflatten(-1, (pixels, self.channels)).movedim(-1, 2)
        x = (x.flatten(-2) @ projection * gain).unflatten(-1, (-1, pixels))
        x = x.transpose(2, 3) if self.channel_first else x.movedim(2, -1)
        return x.flatten(-2)

    def flops(self, patches: int) -> int:
        return 2 * patches * self.channels * self.projection.numel()


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, norm, modulation by time, pointwise network; channels last."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, shift: Tensor, gain: Tensor) -> Tensor:
        """x (B, H, W, width); shift and gain (B, 1, 1, width)."""
        conv = self.depthwise
        weight, bias = conv.weight.to(x.dtype), None if conv.bias is None else conv.bias.to(x.dtype)
        h = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=conv.padding, groups=conv.groups)
        h = F.layer_norm(h.permute(0, 2, 3, 1), (x.shape[-1],))
        h = torch.addcmul(shift, h, 1 + gain)
        return x + linear(F.gelu(linear(h, self.inner), approximate="tanh"), self.outer)

    def flops(self, tokens: int) -> int:
        weights = self.depthwise.weight.numel() + self.inner.weight.numel() + self.outer.weight.numel()
        return 2 * tokens * weights


class ConvDetail(nn.Module):
    """Local detail at full latent resolution, from the noisy latent and what the coarse pass made of it."""

    def __init__(self, inputs: int, outputs: int, config: DetailConfig):
        super().__init__()
        width = config.width
        self.enter = nn.Linear(inputs + outputs + config.features, width)
        self.time_in = nn.Linear(WAVES, width)
        self.time_out = nn.Linear(width, 2 * width * config.depth)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width) for _ in range(config.depth))
        self.leave = nn.Linear(width, outputs)
        for layer in (self.time_out, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, coarse: Tensor, t: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """tokens (B, N, in), coarse velocity and features (B, N, out + K), t (B,); returns (B, N, out)."""
        frames, height, width = grid
        x = linear(torch.cat([tokens, coarse], -1), self.enter)
        x = x.view(-1, height, width, x.shape[-1])
        modulation = linear(F.silu(linear(_waves(t).to(x.dtype), self.time_in)), self.time_out)
        modulation = modulation.repeat_interleave(frames, 0)[:, None, None]
        pairs = modulation.chunk(2 * len(self.blocks), -1)
        for i, block in enumerate(self.blocks):
            x = block(x, pairs[2 * i], pairs[2 * i + 1])
        return linear(x, self.leave).view(tokens.shape[0], tokens.shape[1], -1)

    def flops(self, tokens: int) -> int:
        ends = 2 * tokens * (self.enter.weight.numel() + self.leave.weight.numel())
        time = 2 * (self.time_in.weight.numel() + self.time_out.weight.numel())
        return ends + time + sum(b.flops(tokens) for b in self.blocks)  # type: ignore[operator]


def _waves(t: Tensor) -> Tensor:
    """Sinusoidal embedding of t in 0..1: (B,) to (B, WAVES), float32."""
    half = WAVES // 2
    rates = torch.exp(torch.arange(half, device=t.device) * (-math.log(10_000) / half)) * 1000
    angles = t.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], -1)
