"""All set metrics of one set against a reference, and of two sets against each other, with intervals.

Names. "fid" and "kid" stand for Inception's features alone, "cmmd" for those of OpenAI's CLIP ViT-L/14 at
336 px. On any other network a metric bears the network's name: "frechet-reader", "kid-reader",
"cmmd-reader", and "precision-...", "recall-...", "density-...", "coverage-..." always.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import Column
from ddit_eval.metrics.sets.feature_network import Network
from ddit_eval.metrics.sets.frechet import frechet_infinity, statistics
from ddit_eval.metrics.sets.kinds import INFINITY, KINDS, Against, SetKind
from ddit_eval.metrics.sets.networks import network as network_of
from ddit_eval.metrics.sets.reference import PictureSet, cached_features, cached_statistics
from ddit_eval.metrics.sets.resample import RESAMPLES, draw_weights, intervals
from ddit_eval.schema.quality import Distance


def metric_name(kind: str, network: Network) -> str:
    """The name under which a value may be reported: see the head of this file."""
    published = kind.replace("frechet", "fid")
    return published if published.removesuffix("-infinity") in network.plain else f"{kind}-{network.name}"


def compare(
    pictures: PictureSet,
    reference: PictureSet,
    network: str | Network = "reader",
    *,
    families: Sequence[str] = tuple(KINDS),
    cache: Path | None = None,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    skipped: dict[str, str] | None = None,
) -> list[Distance]:
    """Every metric of the families, of `pictures` against `reference`, in the features of a network.

    `groups`: the prompt of each picture, where a prompt has several; prompts are then what is resampled.
    `cache`: a folder that keeps features from one call to the next. `skipped`: takes the families that a set
    is too small for, each with the reason. Raises `DditError` where the network's weights are missing or,
    without `skipped`, a set is too small.
    """
    found = compare_paired(
        [pictures],
        0,
        reference,
        network,
        families=families,
        cache=cache,
        groups=groups,
        resamples=resamples,
        seed=seed,
        skipped=skipped,
    )
    return [row for row, _ in found[0]]


def compare_paired(
    sets: Sequence[PictureSet],
    base: int,
    reference: PictureSet,
    network: str | Network = "reader",
    *,
    families: Sequence[str] = tuple(KINDS),
    cache: Path | None = None,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    skipped: dict[str, str] | None = None,
) -> list[list[tuple[Distance, Distance | None]]]:
    """By set: each value as in `compare`, and its paired difference to `sets[base]` (None: the base).

    Each resample draws the same prompts of all sets and the reference stays. Features and resamples
    are made once. Picture i of all sets is of the same prompt and seed.
    """
    wrong = [s for s in sets if s.n != sets[base].n]
    if wrong:
        raise DditError(
            f"paired sets need the same prompts: {wrong[0].name} has {wrong[0].n} pictures and "
            f"{sets[base].name} {sets[base].n}; generate both from one list"
        )
    chosen, against = _reference(network, reference, families, cache)
    n = sets[base].n

    @functools.cache
    def weights() -> Tensor:
        return torch.cat([torch.ones(1, n, dtype=torch.float64), draw_weights(n, resamples, seed, groups)])

    features = [cached_features(one, chosen, cache) for one in sets]
    out: list[list[tuple[Distance, Distance | None]]] = [[] for _ in sets]
    for kind in (KINDS[family] for family in families):
        try:
            values = [kind.measure(x, against)(weights()) for x in features]
            alone = [intervals(v[0], v[1:], n) for v in values]
            gaps = [intervals(v[0] - values[base][0], v[1:] - values[base][1:], n) for v in values]
        except DditError as error:
            if skipped is None:
                raise
            skipped[f"{kind.name} ({chosen.name})"] = str(error)
            continue
        for index, one in enumerate(sets):
            for column, spread, gap in zip(kind.columns, alone[index], gaps[index], strict=True):
                row = _row(kind, column, _within(spread, column), one, reference, chosen)
                update = {"interval": gap, "minus": sets[base].name, "minus_hash": sets[base].hash}
                out[index].append((row, None if index == base else row.model_copy(update=update)))
    return out


def infinity(
    pictures: PictureSet,
    reference: PictureSet,
    network: str | Network = "reader",
    *,
    cache: Path | None = None,
) -> Distance:
    """The Fréchet distance extrapolated to endless samples ("fid-infinity" on Inception's features).

    See `frechet.frechet_infinity`: the interval is the line's alone.
    """
    chosen, against = _reference(network, reference, ("frechet",), cache)
    assert against.statistics is not None
    x = cached_features(pictures, chosen, cache)
    found = frechet_infinity(x, against.statistics)
    return _row(INFINITY, INFINITY.columns[0], found.interval, pictures, reference, chosen)


def _reference(
    network: str | Network,
    reference: PictureSet,
    families: Sequence[str],
    cache: Path | None,
) -> tuple[Network, Against]:
    unknown = [family for family in families if family not in KINDS]
    if unknown:
        raise DditError(f"unknown set metric {unknown[0]!r}; there are {', '.join(KINDS)}")
    chosen = network_of(network) if isinstance(network, str) else network
    found = cached_features(reference, chosen, cache)
    if "frechet" not in families:
        return chosen, Against(found, None)
    known = statistics(found) if cache is None else cached_statistics(reference, chosen, cache)
    return chosen, Against(found, known)


def _row(
    kind: SetKind,
    column: Column,
    interval: stats.Interval,
    pictures: PictureSet,
    reference: PictureSet,
    network: Network,
) -> Distance:
    return Distance(
        metric=metric_name(column.name, network),
        network=network.name,
        direction=column.direction,
        interval=interval,
        n=pictures.n,
        n_reference=reference.n,
        pictures=pictures.name,
        pictures_hash=pictures.hash,
        reference=reference.name,
        reference_hash=reference.hash,
        preset=network.preset,
        source=kind.source,
        warnings=kind.caveats(pictures.n, reference.n, network.dimension),
    )


def _within(interval: stats.Interval, column: Column) -> stats.Interval:
    """The interval's ends inside the metric's range; the value is left as it was measured."""
    least = -math.inf if column.low is None else min(column.low, interval.value)
    most = math.inf if column.high is None else max(column.high, interval.value)
    low, high = (min(max(end, least), most) for end in (interval.low, interval.high))
    return replace(interval, low=low, high=high)
