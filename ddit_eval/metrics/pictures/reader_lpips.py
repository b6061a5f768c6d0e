"""A stand-in for LPIPS on the network that ships: it is not LPIPS and never called so."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import Column, Metric, paired
from ddit_eval.metrics.weights import READER, shipped
from ddit_eval.world.reader import load_reader


def feature_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor], eps: float = 1e-10) -> Tensor:
    """Distance of two stacks of features, one value a picture: lists of (N, C, H, W) to (N,).

    Each position's features are scaled to unit length over channels; squared differences are summed
    over channels, averaged over positions and over layers. This is Zhang et al. 2018
    (arXiv 1801.03924), equation 1, with every learned channel weight set to one and the mean over
    layers instead of their sum, so that the range is 0 to 4 (2 for features that are never negative).
    """
    layers = [
        (unit(a, eps) - unit(b, eps)).square().sum(1).mean((1, 2)) for a, b in zip(ours, theirs, strict=True)
    ]
    return torch.stack(layers).mean(0)


def unit(features: Tensor, eps: float = 1e-10) -> Tensor:
    """Unit length over channels; features that are all zero stay zero."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + eps)


@torch.no_grad()
def reader_lpips(pictures: Tensor, reference: Tensor, chunk: int = 64) -> Tensor:
    """LPIPS-style distance on the features of the world's reader, per picture: (N,).

    Pictures keep their own resolution: to shrink them first would hide lost detail.
    """
    reader = load_reader()
    parts = [
        feature_distance(reader.features(a.float()), reader.features(b.float()))
        for a, b in zip(pictures.cpu().split(chunk), reference.cpu().split(chunk), strict=True)
    ]
    return torch.cat(parts)


def missing() -> str | None:
    """Why the reader cannot be used here, or None."""
    try:
        load_reader()
    except DditError as error:
        return str(error)
    return None


METRIC = Metric(
    "reader-lpips",
    (Column("reader-lpips", "lower", 0.0, 2.0, role="fidelity", rank=2),),
    "reference",
    paired("reader-lpips", reader_lpips),
    source="the form of Zhang et al. 2018 (arXiv 1801.03924), unit weights, mean over layers",
    network="world reader (shipped), features at three depths",
    note="a stand-in trained on the captioned world alone; not comparable with published LPIPS",
    weights=shipped(READER),
    missing=missing,
)
