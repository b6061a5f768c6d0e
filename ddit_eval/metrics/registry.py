"""One row for every number that can be measured here, whatever it is a number of.

    for row in rows():
        print(row.name, row.direction, row.range, row.weights, row.missing)

Pictures, sets of pictures, videos and denoising runs have registries of their own, because their values
are taken differently; this is their common table. No weights are loaded for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ddit_eval import metrics
from ddit_eval.metrics import films as video
from ddit_eval.metrics import sets

Subject = Literal["pictures", "set", "video", "run"]


@dataclass(frozen=True)
class Row:
    """A number: what it is of, which way it is better, its range (None: no end), where it is from, and what
    it needs. `missing`: None where it can be measured here, else what is missing and where it belongs."""

    name: str
    of: Subject
    direction: Literal["higher", "lower"]
    low: float | None
    high: float | None
    source: str
    network: str | None
    weights: str | None
    missing: str | None

    @property
    def range(self) -> str:
        """As in "0 .. 1"; an end that there is not is infinite."""
        low = "-inf" if self.low is None else f"{self.low:g}"
        return f"{low} .. {'inf' if self.high is None else f'{self.high:g}'}"


def rows() -> list[Row]:
    """All rows: pictures, then sets in the features of each network, then videos, then denoising runs."""
    return [*_pictures(), *_sets(), *_videos(), *_runs()]


def _pictures() -> Iterator[Row]:
    for name in metrics.names():
        m = metrics.get(name)
        why = m.missing()
        for c in m.columns:
            yield Row(c.name, "pictures", c.direction, c.low, c.high, m.source, m.network, m.weights, why)


def _sets() -> Iterator[Row]:
    from ddit_eval.metrics.sets.comparison import INFINITY, KINDS, metric_name

    for name in sets.names():
        network = sets.network(name)
        why = network.missing()
        for kind in (*(k for kinds in KINDS.values() for k in kinds), INFINITY):
            called = metric_name(kind.name, network)
            yield Row(
                called, "set", kind.direction, kind.low, kind.high, kind.source, network.name,
                network.weights, why,
            )  # fmt: skip


def _videos() -> Iterator[Row]:
    for name in video.names():
        m = video.get(name)
        weights = ", ".join(map(str, m.weights)) or m.files
        yield Row(name, "video", m.direction, m.low, m.high, m.source, m.network, weights, m.missing())


def _runs() -> Iterator[Row]:
    from ddit_eval.metrics.trajectory import ERRORS, SOURCE

    for column in ERRORS:
        yield Row(column.name, "run", column.direction, column.low, column.high, SOURCE, None, None, None)
