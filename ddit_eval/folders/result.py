"""What a comparison of folders says, as typed data."""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainSerializer

from ddit_eval import stats
from ddit_eval.schema.model import Interval, Result
from ddit_eval.schema.quality import Column, Distance

Equivalence = Annotated[stats.Equivalence, PlainSerializer(stats.Equivalence.to_json)]


class FolderColumn(Column):
    """A metric's facts and its mean; with a reference of the same names `difference` (ours - theirs, paired)
    and, where the metric has a margin, the test whether the loss is within it."""

    interval: Interval
    difference: Interval | None = None
    equivalence: Equivalence | None = None


class Comparison(Result):
    """Every metric that applies; `skipped`: those that do not, with a reason each. Hashes are of the files;
    `size` is (H, W), of films (F, 3, H, W)."""

    pictures: str
    reference: str | None
    pictures_hash: str
    reference_hash: str | None
    n: int
    size: tuple[int, ...]
    columns: dict[str, FolderColumn]
    sets: tuple[Distance, ...]
    skipped: dict[str, str]
