"""One row for every number that can be measured here, whatever it is a number of.

    for row in rows():
        print(row.name, row.direction, row.range, row.weights, row.missing)

No weights are loaded for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ddit_eval.metrics import registry
from ddit_eval.metrics.metric import Subject
from ddit_eval.metrics.sets import networks
from ddit_eval.metrics.sets.comparison import metric_name
from ddit_eval.metrics.sets.kinds import INFINITY, KINDS


@dataclass(frozen=True)
class Row:
    """A number: what it is of, which way it is better, its range (None: no end), where it is from, and what
    it needs. `missing`: None where it can be measured here, else what is missing and where it belongs."""

    name: str
    of: Subject | Literal["set"]
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
    """All rows: pictures, then sets in the features of each network, then films."""
    return [*_of("pictures"), *_sets(), *_of("films")]


def _of(subject: Subject) -> Iterator[Row]:
    for name in registry.names(subject):
        m = registry.get(name)
        why = m.missing()
        for c in m.columns:
            yield Row(c.name, subject, c.direction, c.low, c.high, m.source, m.network, m.weights, why)


def _sets() -> Iterator[Row]:
    for each in networks.names():
        network = networks.network(each)
        why = network.missing()
        for kind in (*KINDS.values(), INFINITY):
            for c in kind.columns:
                name = metric_name(c.name, network)
                yield Row(
                    name, "set", c.direction, c.low, c.high, kind.source, network.name, network.weights, why
                )
