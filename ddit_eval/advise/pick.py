"""Which of the rows that a search tried is the best at a speed-up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ddit_eval.experiment.config import Method
from ddit_eval.stats import Interval

SLACK = 0.03  # by so much of the speed-up a row may miss it as measured,
PREDICTED = 0.015  # and as predicted


@dataclass(frozen=True)
class Found:
    """A row that was tried on all tuning prompts.

    cost: its seconds as a share of the base's, predicted until it is `timed`. quality: the mean, higher is
    better; `tuned`: its interval, as measured. coarse: whether a step had coarse patches. rule: whether by
    the published rule. apart: whether of a search that the others have not had the like of.
    """

    method: Method
    cost: float
    quality: float
    coarse: bool
    rule: bool
    apart: bool = False
    tuned: Interval | None = None
    timed: bool = False

    @property
    def speed_up(self) -> float:
        return 1 / self.cost

    def reaches(self, speed_up: float) -> bool:
        return self.speed_up >= speed_up * (1 - (SLACK if self.timed else PREDICTED))


KINDS: dict[str, Callable[[Found], bool]] = {
    "best": lambda found: not found.apart,
    "best_without_coarse": lambda found: not found.coarse and not found.apart,
    "best_ddit": lambda found: found.rule and found.coarse,  # one that never fires is the base of its steps
}


def best(tried: Iterable[Found], speed_up: float) -> Found | None:
    """Of those that are so fast the one of the best quality, of equal ones the fastest; None where there is
    none."""
    fast = [found for found in tried if found.reaches(speed_up)]
    return max(fast, key=lambda found: (found.quality, found.speed_up), default=None)


def fastest(tried: Iterable[Found]) -> Found | None:
    return max(tried, key=lambda found: found.speed_up, default=None)
