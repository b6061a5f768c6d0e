"""What can be read off trials: their scores, which are feasible, which hopeless, and the front.

A trial is hopeless, and stopped, on fewer prompts than the others had, but the same ones, and by a margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from ddit_eval.experiment.config import Study
from ddit_eval.stats import Number
from ddit_eval.study.slots import slots

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Scores:
    """Cost and quality of a trial, one value a prompt, prompts in order; nan: the prompt asks for none."""

    costs: tuple[float, ...]
    qualities: tuple[Number, ...]

    def mean(self) -> tuple[float, float]:
        """(cost, quality), means over prompts; nan where no prompt asks for the quality."""
        asked = [q for q in self.qualities if not math.isnan(q)]
        return float(np.mean(self.costs)), float(np.mean(asked)) if asked else math.nan


# Of a trial in its user attributes, beside others; a quality that a prompt does not ask for is null.
SCORES: TypeAdapter[Scores] = TypeAdapter(Scores)


def sign_of(study: optuna.Study) -> int:
    """1 where a higher quality is the better one, else -1."""
    import optuna

    return -1 if study.directions[1] == optuna.study.StudyDirection.MINIMIZE else 1


def finished(study: optuna.Study, space: Study) -> dict[int, FrozenTrial]:
    """The finished trials by slot, complete and stopped ones."""
    there = slots(study)
    return {slot: t for slot, t in there.items() if slot < space.trials and t.state.is_finished()}


def is_complete(trial: FrozenTrial) -> bool:
    return trial.state.name == "COMPLETE"


def is_feasible(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in trial.constraints.values())


def dominates(one: Sequence[float], other: Sequence[float], sign: int = 1) -> bool:
    """Whether (cost, quality) `one` is at least as good in both and better in one."""
    return one[0] <= other[0] and sign * (one[1] - other[1]) >= 0 and tuple(one) != tuple(other)


def front(study: optuna.Study, space: Study) -> dict[int, FrozenTrial]:
    """The complete, feasible trials that no other such trial dominates, by slot."""
    good = {s: t for s, t in finished(study, space).items() if is_complete(t) and is_feasible(t)}
    sign = sign_of(study)
    return {
        s: t for s, t in good.items() if not any(dominates(o.values, t.values, sign) for o in good.values())
    }


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
