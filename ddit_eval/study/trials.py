"""What can be read off finished trials: their scores, whether they are feasible, and the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from ddit_eval.experiment.config import Study
from ddit_eval.schema.model import Json
from ddit_eval.study.early_stop import Scores
from ddit_eval.study.slots import slots

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_SCORES: TypeAdapter[Scores] = TypeAdapter(Scores)


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


def scores_to_json(scores: Scores) -> Json:
    """Plain data; a quality that a prompt does not ask for is null."""
    plain: Json = _SCORES.dump_python(scores, mode="json")
    return plain


def scores_from_json(data: Json) -> Scores:
    """The inverse of `scores_to_json`; `data` may hold more, as a trial's user attributes do."""
    return _SCORES.validate_python(data)
