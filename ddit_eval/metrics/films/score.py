"""VBench's arithmetic over dimensions: normalisation, weights, Quality, Semantic and Total."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ddit_eval.errors import DditError


@dataclass(frozen=True)
class Dimension:
    """A dimension's ends on VBench's scale, its weight and the half that it belongs to."""

    low: float
    high: float
    weight: float = 1.0
    semantic: bool = False


# The published constants (VBench's scripts/constant.py).
DIMENSIONS: dict[str, Dimension] = {
    "subject_consistency": Dimension(0.1462, 1.0),
    "background_consistency": Dimension(0.2615, 1.0),
    "temporal_flickering": Dimension(0.6293, 1.0),
    "motion_smoothness": Dimension(0.706, 0.9975),
    "aesthetic_quality": Dimension(0.0, 1.0),
    "imaging_quality": Dimension(0.0, 1.0),
    "dynamic_degree": Dimension(0.0, 1.0, weight=0.5),
    "object_class": Dimension(0.0, 1.0, semantic=True),
    "multiple_objects": Dimension(0.0, 1.0, semantic=True),
    "human_action": Dimension(0.0, 1.0, semantic=True),
    "color": Dimension(0.0, 1.0, semantic=True),
    "spatial_relationship": Dimension(0.0, 1.0, semantic=True),
    "scene": Dimension(0.0, 0.8222, semantic=True),
    "appearance_style": Dimension(0.0009, 0.2855, semantic=True),
    "temporal_style": Dimension(0.0, 0.364, semantic=True),
    "overall_consistency": Dimension(0.0, 0.364, semantic=True),
}
QUALITY = tuple(name for name, about in DIMENSIONS.items() if not about.semantic)
SEMANTIC = tuple(name for name, about in DIMENSIONS.items() if about.semantic)
_QUALITY_WEIGHT, _SEMANTIC_WEIGHT = 4.0, 1.0


def normalised(name: str, value: float) -> float:
    """(value - low) / (high - low), not clamped: motion that is smoother than .9975 scores above 1."""
    about = DIMENSIONS.get(name)
    if about is None:
        raise DditError(
            f"{name!r} is no dimension of VBench and has no scale; only its own dimensions, measured by its "
            f"own networks, are normalised: {', '.join(DIMENSIONS)}"
        )
    if not math.isfinite(value):
        raise DditError(f"{name} is {value}; a score needs a number for every dimension")
    return (value - about.low) / (about.high - about.low)


def quality(values: Mapping[str, float]) -> float:
    """The Quality score from the raw means of its 7 dimensions; stand-ins and subsets are refused."""
    return _weighted(values, QUALITY, "Quality")


def semantic(values: Mapping[str, float]) -> float:
    """The Semantic score from the raw means of its 9 dimensions; stand-ins and subsets are refused."""
    return _weighted(values, SEMANTIC, "Semantic")


def total(values: Mapping[str, float]) -> float:
    """(4 Quality + Semantic) / 5, from the raw means of all 16 dimensions and never from fewer."""
    _complete(values, DIMENSIONS, "Total")
    both = _QUALITY_WEIGHT * quality(values) + _SEMANTIC_WEIGHT * semantic(values)
    return both / (_QUALITY_WEIGHT + _SEMANTIC_WEIGHT)


def _weighted(values: Mapping[str, float], names: Iterable[str], what: str) -> float:
    names = list(names)
    _complete(values, names, what)
    above = sum(DIMENSIONS[name].weight * normalised(name, values[name]) for name in names)
    return above / sum(DIMENSIONS[name].weight for name in names)


def _complete(values: Mapping[str, float], names: Iterable[str], what: str) -> None:
    names = list(names)
    absent = [name for name in names if name not in values]
    if absent:
        near = [given for given in values if given not in DIMENSIONS]
        beside = f" ({', '.join(near)}: measured by another network, does not count)" if near else ""
        raise DditError(
            f"VBench's {what} score needs all {len(names)} of its dimensions, and {', '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} missing{beside}; "
            "measure them, or report the dimensions one by one"
        )
