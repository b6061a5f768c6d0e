"""Distances between sets of pictures: Fréchet, KID, CMMD, precision/recall/density/coverage.

    ours = sets.folder_set("generated")
    for row in sets.compare(ours, sets.picture_set("world:heldout:512:seed1:64px"), "reader"):
        print(row.metric, row.interval, row.warnings)

A value of a set is no mean over pictures, so these metrics stand apart from `ddit_eval.metrics`.
"""

from ddit_eval.metrics.sets.comparison import compare, compare_paired, infinity
from ddit_eval.metrics.sets.dinov2 import dinov2_network
from ddit_eval.metrics.sets.feature_network import Network, features
from ddit_eval.metrics.sets.frechet import (
    Statistics,
    frechet_distance,
    frechet_infinity,
    frechet_measure,
    statistics,
)
from ddit_eval.metrics.sets.inception import inception_network
from ddit_eval.metrics.sets.kernel import cmmd, cmmd_measure, kid, kid_measure
from ddit_eval.metrics.sets.manifold import Prdc, prdc, prdc_measure
from ddit_eval.metrics.sets.networks import names, network, register
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

__all__ = [
    "Network", "PictureSet", "Prdc", "Statistics", "cached_features", "cached_statistics", "clip_network",
    "cmmd", "cmmd_measure", "compare", "compare_paired", "dinov2_network", "features", "folder_set",
    "frechet_distance", "frechet_infinity", "frechet_measure", "inception_network", "infinity", "kid",
    "kid_measure", "names", "network", "picture_set", "prdc", "prdc_measure", "reader_network",
    "register", "statistics", "tensor_set", "world_set",
]  # fmt: skip
