"""Distances between sets of pictures: Fréchet, KID, CMMD, precision/recall/density/coverage.

    ours = sets.folder_set("generated")
    for row in sets.compare(ours, sets.picture_set("world:heldout:512:seed1:64px"), "reader"):
        print(row.metric, row.interval, row.warnings)

A value of a set is no mean over pictures, so these metrics stand apart from `ddit_eval.metrics`. Names
are imported when they are asked for, and not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddit_eval.metrics.sets.accumulate import SetMetric
    from ddit_eval.metrics.sets.comparison import (
        SetResult,
        compare,
        compare_paired,
        infinity,
        paired_difference,
    )
    from ddit_eval.metrics.sets.dinov2 import dinov2_network
    from ddit_eval.metrics.sets.frechet import (
        Statistics,
        frechet_distance,
        frechet_infinity,
        frechet_measure,
        statistics,
    )
    from ddit_eval.metrics.sets.inception import inception_network
    from ddit_eval.metrics.sets.kernel import cmmd, cmmd_measure, kid, kid_measure, kid_subsets
    from ddit_eval.metrics.sets.manifold import Prdc, prdc, prdc_measure
    from ddit_eval.metrics.sets.networks import Network, features, names, network, register
    from ddit_eval.metrics.sets.openclip import clip_network
    from ddit_eval.metrics.sets.reader import reader_network
    from ddit_eval.metrics.sets.reference import (
        PictureSet,
        cached_features,
        cached_statistics,
        folder_set,
        picture_set,
        tensor_set,
        world_set,
    )

_HOMES = {
    "accumulate": ("SetMetric",),
    "comparison": ("SetResult", "compare", "compare_paired", "infinity", "paired_difference"),
    "dinov2": ("dinov2_network",),
    "frechet": ("Statistics", "frechet_distance", "frechet_infinity", "frechet_measure", "statistics"),
    "inception": ("inception_network",),
    "kernel": ("cmmd", "cmmd_measure", "kid", "kid_measure", "kid_subsets"),
    "manifold": ("Prdc", "prdc", "prdc_measure"),
    "networks": ("Network", "features", "names", "network", "register"),
    "openclip": ("clip_network",),
    "reader": ("reader_network",),
    "reference": (
        "PictureSet",
        "cached_features",
        "cached_statistics",
        "folder_set",
        "picture_set",
        "tensor_set",
        "world_set",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Network",
    "PictureSet",
    "Prdc",
    "SetMetric",
    "SetResult",
    "Statistics",
    "cached_features",
    "cached_statistics",
    "clip_network",
    "cmmd",
    "cmmd_measure",
    "compare",
    "compare_paired",
    "dinov2_network",
    "features",
    "folder_set",
    "frechet_distance",
    "frechet_infinity",
    "frechet_measure",
    "inception_network",
    "infinity",
    "kid",
    "kid_measure",
    "kid_subsets",
    "names",
    "network",
    "paired_difference",
    "picture_set",
    "prdc",
    "prdc_measure",
    "reader_network",
    "register",
    "statistics",
    "tensor_set",
    "world_set",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
