"""A network whose features sets of pictures are compared in.

A network is plain data with a function from pictures to features. Nothing is downloaded: one whose
weights are not here says so in `missing()`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import check_pixels


@dataclass(frozen=True)
class Network:
    """Pictures to features.

    `extract`: float (N, 3, H, W) of whole levels / 255 to (N, dimension), on the pictures' device, each
    picture for itself; call it through `features`. `preset`: all that decides the numbers: resizing,
    antialiasing, normalisation, layer, the weights' hash. `missing()`: None, or what is missing and where
    it belongs. `weights`: the files that it needs, with size and hash. `plain`: the published metrics
    ("fid", "kid", "cmmd") that are defined on this very network; every other metric bears the network's name.
    """

    name: str
    dimension: int
    preset: str
    extract: Callable[[Tensor], Tensor] = field(repr=False)
    missing: Callable[[], str | None] = field(repr=False, default=lambda: None)
    plain: frozenset[str] = frozenset()
    weights: str | None = None


@torch.no_grad()
def features(network: Network, pictures: Tensor, *, device: str = "cpu", chunk: int = 32) -> Tensor:
    """Features of pictures: float (N, 3, H, W) in [0, 1] to float32 (N, D) on the CPU.

    Pictures are rounded to 8 bits first, so that a picture and its PNG file have the same features.
    """
    if why := network.missing():
        raise DditError(why)
    check_pixels(pictures, "pictures")
    parts = []
    for part in pictures.split(chunk):
        found = network.extract(to_bytes(part).to(device).float() / 255).float().cpu()
        if found.shape != (len(part), network.dimension):
            raise DditError(
                f"the network {network.name} gave features {tuple(found.shape)} for {len(part)} pictures; "
                f"({len(part)}, {network.dimension}) is what it is registered with"
            )
        parts.append(found)
    out = torch.cat(parts)
    if not bool(out.isfinite().all()):
        raise DditError(f"the network {network.name} gave nan or infinite features: its weights are damaged")
    return out


def to_bytes(pictures: Tensor) -> Tensor:
    """Levels 0 to 255, rounded: truncation would darken every picture by half a level."""
    return (pictures.float().clamp(0, 1) * 255).round().to(torch.uint8)
