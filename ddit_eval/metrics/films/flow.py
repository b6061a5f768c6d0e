"""Optical flow without a network: coarse-to-fine Lucas-Kanade, dense and symmetric in time.

For each pixel of the frame in the middle, the displacement u that makes a(x - u/2) and b(x + u/2) agree
over a Gaussian window (Lucas and Kanade 1981; Bouguet 2001 for the pyramid). The middle frame follows
from the same u, and exchanging the frames turns its sign, exactly.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.errors import DditError

# Chosen on shifted textures and on things that move through the captioned world, against fades and noise.
COARSEST = 8  # px of the shorter side at the top of the pyramid
WARPS = 3  # Gauss-Newton steps a level
WINDOW = 2.0  # px, standard deviation of the window
SMOOTH = 0.5  # px of the blur of the displacement after each step
TRUST, UNEXPLAINED = 2.0, 0.3  # px of the window, share of squared change that a motion may leave
LOCAL = 3.0  # px of the local mean that is taken off
PIXELS = 1 << 20  # of frames that are held at a time
NOISE = 1e-3  # squared gradient below which a window says nothing; pictures are in [0, 1]


def flow(first: Tensor, second: Tensor) -> Tensor:
    """Displacement from `first` to `second`, in px, seen from the middle of the two.

    Both float (N, 3, H, W) in [0, 1]; result (N, 2, H, W), x (to the right) and then y (downwards).
    Where there is no texture, the displacement is that of the surroundings or zero.
    """
    _check(first, second)
    chunk = max(1, PIXELS // (first.shape[-2] * first.shape[-1]))
    pairs = zip(first.split(chunk), second.split(chunk), strict=True)
    return torch.cat([_flow(a, b) for a, b in pairs])


def _flow(first: Tensor, second: Tensor) -> Tensor:
    pyramid = [(first.float(), second.float())]
    while min(pyramid[-1][0].shape[-2:]) >= 2 * COARSEST:
        a, b = pyramid[-1]
        pyramid.append((F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)))
    motion = first.new_zeros((len(first), 2, *pyramid[-1][0].shape[-2:]), dtype=torch.float32)
    for level in reversed(pyramid):
        a, b = (_detail(frames) for frames in level)
        motion = _enlarged(motion, a.shape[-2], a.shape[-1])
        for _ in range(WARPS):
            motion = _blurred(motion + _step(warp(a, -motion / 2), warp(b, motion / 2)), SMOOTH)
        motion = motion * _explains(a, b, motion)
    return motion


def middle(first: Tensor, second: Tensor) -> Tensor:
    """The frame half-way between two, by their flow: (N, 3, H, W), (N, 3, H, W) to (N, 3, H, W)."""
    motion = flow(first, second)
    both = warp(first.float(), -motion / 2, "bicubic") + warp(second.float(), motion / 2, "bicubic")
    return (both / 2).clamp(0, 1)


def warp(pictures: Tensor, motion: Tensor, mode: str = "bilinear") -> Tensor:
    """`pictures` (N, C, H, W) read at x + motion(x); motion (N, 2, H, W) in px. Edges repeat."""
    height, width = pictures.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, dtype=motion.dtype, device=motion.device),
        torch.arange(width, dtype=motion.dtype, device=motion.device),
        indexing="ij",
    )
    # grid_sample counts from -1 (centre of the first pixel) to 1 (centre of the last).
    grid = torch.stack(
        [2 * (x + motion[:, 0]) / max(width - 1, 1) - 1, 2 * (y + motion[:, 1]) / max(height - 1, 1) - 1], -1
    )
    return F.grid_sample(pictures, grid, mode=mode, padding_mode="border", align_corners=True)


def _step(a: Tensor, b: Tensor) -> Tensor:
    """One Gauss-Newton step of the displacement left between two warped frames: (N, 2, H, W)."""
    gx, gy = _gradients((a + b) / 2)
    left = b - a
    products = torch.stack([gx * gx, gx * gy, gy * gy, gx * left, gy * left], 1).sum(2)
    xx, xy, yy, xt, yt = _blurred(products, WINDOW).unbind(1)
    xx, yy = xx + NOISE, yy + NOISE
    determinant = xx * yy - xy * xy
    step = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], 1) / determinant[:, None]
    return step.clamp(-1, 1)  # the linearisation holds for about a pixel


def _explains(a: Tensor, b: Tensor, motion: Tensor) -> Tensor:
    """1 where `motion` removes most of the change between two frames, else 0: (N, 1, H, W).

    A fade, a flicker or a cut is no motion, and Lucas-Kanade alone would find a large one.
    """
    still = _blurred((b - a).square().sum(1, keepdim=True), TRUST)
    moved = _blurred((warp(b, motion / 2) - warp(a, -motion / 2)).square().sum(1, keepdim=True), TRUST)
    return (moved < UNEXPLAINED * still).to(motion)


def _gradients(pictures: Tensor) -> tuple[Tensor, Tensor]:
    wide = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    return (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2, (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2


def _detail(pictures: Tensor) -> Tensor:
    """Pictures without their local mean: what fades in a plain area leaves no trace of motion there."""
    return pictures - _blurred(pictures, LOCAL)


def _blurred(maps: Tensor, sigma: float) -> Tensor:
    channels = maps.shape[1]
    kernel = _gauss(sigma).to(maps)
    radius = len(kernel) // 2
    wide = F.pad(maps, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(wide, kernel.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)


@lru_cache(maxsize=4)
def _gauss(sigma: float) -> Tensor:
    radius = max(1, round(2 * sigma))
    kernel = torch.exp(-torch.arange(-radius, radius + 1, dtype=torch.float32).square() / (2 * sigma**2))
    return kernel / kernel.sum()


def _enlarged(motion: Tensor, height: int, width: int) -> Tensor:
    """The motion of a coarser level in the pixels of a finer one."""
    if motion.shape[-2:] == (height, width):
        return motion
    scale = motion.new_tensor([width / motion.shape[-1], height / motion.shape[-2]]).view(1, 2, 1, 1)
    return F.interpolate(motion, (height, width), mode="bilinear", align_corners=False) * scale


def _check(first: Tensor, second: Tensor) -> None:
    if not (first.is_floating_point() and second.is_floating_point()):
        raise DditError(f"flow needs floats in [0, 1], not {first.dtype}: divide bytes by 255")
    if first.shape != second.shape or first.ndim != 4 or not first.numel():
        raise DditError(
            f"flow needs two stacks of frames (N, 3, H, W) of one shape, not {tuple(first.shape)} and "
            f"{tuple(second.shape)}"
        )
