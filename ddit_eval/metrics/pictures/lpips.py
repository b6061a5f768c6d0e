"""LPIPS itself (AlexNet, version 0.1) by torchmetrics, which ships its linear weights, not the backbone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ddit_eval.metrics.metric import Column, Metric, paired
from ddit_eval.metrics.weights import wrong_hash

BACKBONE = "alexnet-owt-7be5be79.pth"
SHA256 = "7be5be79"  # its first digits, as in the name
WEIGHTS = f"{BACKBONE} (233 MB, SHA-256 {SHA256}...)"


def _checkpoint() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE


def missing() -> str | None:
    """What LPIPS lacks here, or None. Looks only; nothing is downloaded."""
    if not _checkpoint().is_file():
        return (
            f"lpips: torchvision's AlexNet weights {WEIGHTS} belong at {_checkpoint()} and are not there; "
            "copy them from a machine that has them, or measure `reader-lpips`, the shipped stand-in"
        )
    return wrong_hash("lpips", _checkpoint(), SHA256)


@lru_cache(maxsize=1)
def network() -> nn.Module:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network: nn.Module = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
    return network.eval().requires_grad_(False)


@torch.no_grad()
def lpips_alex(pictures: Tensor, reference: Tensor, chunk: int = 32) -> Tensor:
    """LPIPS per picture: (N, 3, H, W) in [0, 1] to (N,)."""
    alex = network()
    parts = [
        alex(a.float(), b.float(), normalize=True).flatten()
        for a, b in zip(pictures.cpu().split(chunk), reference.cpu().split(chunk), strict=True)
    ]
    return torch.cat(parts)


METRIC = Metric(
    "lpips",
    (Column("lpips", "lower", 0.0, 1.0, role="fidelity", rank=1),),
    "reference",
    paired("lpips", lpips_alex),
    source="Zhang et al. 2018 (arXiv 1801.03924), torchmetrics, version 0.1 weights",
    network="AlexNet (torchvision, ImageNet) with the LPIPS linear weights",
    weights=WEIGHTS,
    missing=missing,
)
