"""The captioned world's reader as a feature network: the stand-in that needs no download."""

from __future__ import annotations

import torch
from torch import Tensor

from ddit_eval.metrics.pictures.reader_lpips import missing
from ddit_eval.metrics.sets.feature_network import Network
from ddit_eval.metrics.weights import READER, hash_of, shipped


def reader_network() -> Network:
    """The captioned world's reader, which ships: mean and deviation over space at its three depths.

    A stand-in: it was trained on shapes, colours and textures of the world and knows no photographs.
    """
    return Network(
        "reader",
        2 * (48 + 64 + 96),
        "world reader, mean and deviation over space at three depths; 8 bits; bilinear to 64 x 64, "
        f"antialias; 2 x - 1; {hash_of(READER)}",
        _read,
        missing,
        weights=shipped(READER),
    )


def _read(pictures: Tensor) -> Tensor:
    from ddit_eval.world.reader import at_its_side, load_reader

    # The loaded reader is shared with other metrics, so it stays where it is: on the CPU.
    x = at_its_side(pictures.cpu())
    pooled = [
        (depth.mean((2, 3)), depth.std((2, 3), correction=0))
        for depth in load_reader().features(x.clamp(0, 1))
    ]
    return torch.cat([value for pair in pooled for value in pair], 1)
