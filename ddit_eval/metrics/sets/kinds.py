"""The distances between sets of pictures in the features of a network. A new one is a line of `KINDS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ddit_eval.metrics.metric import Column
from ddit_eval.metrics.sets.frechet import Statistics, caveats, frechet_measure
from ddit_eval.metrics.sets.kernel import cmmd_measure, kid_measure
from ddit_eval.metrics.sets.manifold import K, prdc_measure
from ddit_eval.metrics.sets.resample import Measure


@dataclass(frozen=True, eq=False)
class Against:
    """The reference's features (m, D) and, where a Fréchet distance is asked for, their statistics."""

    features: Tensor
    statistics: Statistics | None


@dataclass(frozen=True)
class SetKind:
    """A kind of distance, and the values that it gives.

    `measure`: features (n, D) and the reference to the values as a function of the features' weights.
    `caveats`: what must be said of n samples against m in D features.
    """

    name: str
    columns: tuple[Column, ...]
    source: str
    measure: Callable[[Tensor, Against], Measure]
    caveats: Callable[[int, int, int], tuple[str, ...]] = lambda n, m, dimension: ()


def _frechet(features: Tensor, against: Against) -> Measure:
    assert against.statistics is not None
    return frechet_measure(features, against.statistics)


def _unequal(n: int, m: int, dimension: int) -> tuple[str, ...]:
    if n == m:
        return ()
    return (f"{n} samples against {m}: recall, density and coverage compare at equal numbers",)


KINDS: dict[str, SetKind] = {
    kind.name: kind
    for kind in (
        SetKind(
            "frechet",
            (Column("frechet", "lower", 0.0, None),),
            "Heusel et al. 2017 (arXiv 1706.08500)",
            _frechet,
            caveats,
        ),
        SetKind(
            "kid",
            (Column("kid", "lower", None, None),),
            "Bińkowski et al. 2018 (arXiv 1801.01401), all pairs, unbiased",
            lambda features, against: kid_measure(features, against.features),
        ),
        SetKind(
            "cmmd",
            (Column("cmmd", "lower", 0.0, None),),
            "Jayasumana et al. 2024 (arXiv 2401.09603), sigma 10, x 1000",
            lambda features, against: cmmd_measure(features, against.features),
        ),
        SetKind(
            "prdc",
            (
                Column("precision", "higher", 0.0, 1.0),
                Column("recall", "higher", 0.0, 1.0),
                Column("density", "higher", 0.0, None),
                Column("coverage", "higher", 0.0, 1.0),
            ),
            f"Naeem et al. 2020 (arXiv 2002.09797), k = {K}",
            lambda features, against: prdc_measure(features, against.features),
            _unequal,
        ),
    )
}
# Not among them: its interval is a line's, not a bootstrap's.
INFINITY = SetKind(
    "frechet-infinity",
    (Column("frechet-infinity", "lower", None, None),),
    "Chong and Forsyth 2020 (arXiv 1911.07023)",
    _frechet,
    caveats,
)
