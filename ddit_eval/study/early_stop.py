"""When a trial is hopeless: fewer prompts than the others had, but the same ones, and a margin."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ddit_eval.experiment.config import Study
from ddit_eval.stats import Number


@dataclass(frozen=True)
class Scores:
    """Cost and quality of a trial, one value a prompt, prompts in order; nan: the prompt asks for none."""

    costs: tuple[float, ...]
    qualities: tuple[Number, ...]

    def mean(self) -> tuple[float, float]:
        """(cost, quality), means over prompts; nan where no prompt asks for the quality."""
        asked = [q for q in self.qualities if not math.isnan(q)]
        return float(np.mean(self.costs)), float(np.mean(asked)) if asked else math.nan


def bounds(space: Study) -> list[int]:
    """Numbers of prompts at which a trial is looked at, ascending; the last is all of them."""
    return sorted({*(math.ceil(share * space.prompts) for share in space.rungs), space.prompts})


def hopeless(scores: Scores, rivals: Iterable[Scores], margin: float, sign: int = 1) -> bool:
    """Whether a rival, on the prompts that the trial has seen, was at most as dear and clearly better.

    Clearly: the mean paired difference of quality exceeds `margin` and two of its standard errors (which a
    single prompt does not give). `sign`: -1 where a lower quality is the better one.
    """
    seen = len(scores.costs)
    return any(
        sum(rival.costs[:seen]) <= sum(scores.costs)
        and _gain(rival.qualities[:seen], scores.qualities, sign) > margin
        for rival in rivals
    )


def _gain(theirs: tuple[float, ...], ours: tuple[float, ...], sign: int) -> float:
    """Mean paired difference less two standard errors."""
    difference = sign * (np.array(theirs) - np.array(ours))
    difference = difference[~np.isnan(difference)]
    if not difference.size:
        return -math.inf
    error = difference.std(ddof=1) / math.sqrt(difference.size) if difference.size > 1 else 0.0
    return float(difference.mean() - 2 * error)
