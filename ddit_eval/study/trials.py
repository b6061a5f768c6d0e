"""What can be read off finished trials: their scores, whether they are feasible, and the front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ddit_eval.experiment.config import Study
from ddit_eval.study.early_stop import Scores
from ddit_eval.study.slots import slots

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


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


def scores_to_json(scores: Scores) -> dict[str, Any]:
    """Plain data; a quality that a prompt does not ask for is null."""
    return {
        "costs": list(scores.costs),
        "qualities": [None if math.isnan(q) else q for q in scores.qualities],
    }


def scores_from_json(data: Mapping[str, Any]) -> Scores:
    """The inverse of `scores_to_json`; `data` may hold more, as a trial's user attributes do."""
    qualities = (math.nan if q is None else float(q) for q in data["qualities"])
    return Scores(tuple(data["costs"]), tuple(qualities))
