"""Set metrics of a run's methods against a reference set, with the paired difference to the base method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddit_eval.errors import DditError
from ddit_eval.metrics.sets.comparison import compare_paired
from ddit_eval.metrics.sets.feature_network import Network
from ddit_eval.metrics.sets.frechet import FEW
from ddit_eval.metrics.sets.kinds import KINDS
from ddit_eval.metrics.sets.reference import PictureSet, picture_set, tensor_set
from ddit_eval.metrics.sets.resample import RESAMPLES
from ddit_eval.schema.quality import Distance, SetRow

if TYPE_CHECKING:
    from torch import Tensor


def set_rows(
    pictures_by_method: Mapping[str, Tensor],
    base_method: str,
    reference: str | Path | PictureSet,
    networks: Sequence[str | Network] = ("reader",),
    families: Sequence[str] = tuple(KINDS),
    seed: int = 0,
    *,
    resamples: int = RESAMPLES,
    cache: Path | None = None,
    skipped: dict[str, str] | None = None,
) -> list[SetRow]:
    """A row for each method, network and value.

    `pictures_by_method`: float (N, 3, H, W) in [0, 1], picture i of all methods of one prompt and seed.
    `reference`: a set, a folder, or "world:heldout:512:seed1:64px". A row has a warning under
    2,048 samples, and (not for the base) `difference`, the paired interval of method - base. Features are
    computed once. `skipped`: takes what there are too few pictures for, with the reason.

    Raises `DditError` where the base method is absent, numbers of pictures differ or weights are missing.
    """
    if base_method not in pictures_by_method:
        raise DditError(
            f"there are no pictures of the base method {base_method!r}; "
            f"there are {', '.join(pictures_by_method)}"
        )
    against = reference if isinstance(reference, PictureSet) else picture_set(reference)
    names = list(pictures_by_method)
    ours = [tensor_set(pictures, name) for name, pictures in pictures_by_method.items()]
    rows: list[SetRow] = []
    for network in networks:
        found = compare_paired(
            ours,
            names.index(base_method),
            against,
            network,
            families=families,
            cache=cache,
            resamples=resamples,
            seed=seed,
            skipped=skipped,
        )
        for method, pairs in zip(names, found, strict=True):
            rows += [_row(method, alone, paired) for alone, paired in pairs]
    return rows


def _row(method: str, alone: Distance, paired: Distance | None) -> SetRow:
    row = dict(alone)
    if alone.n < FEW and not alone.warnings:
        row["warnings"] = (
            f"{alone.n} samples, under {FEW:,}: compare at equal numbers only, by the interval",
        )
    if paired is not None:
        row |= {"difference": paired.interval, "minus": paired.minus, "minus_hash": paired.minus_hash}
    return SetRow(method=method, **row)
