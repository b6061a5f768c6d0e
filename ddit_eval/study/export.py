"""A study as plain data, for the stages that read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ddit_eval import stats
from ddit_eval.experiment.config import Study
from ddit_eval.schema import Measured
from ddit_eval.schema import Study as Exported
from ddit_eval.schema.study import Confirmed, Objective, Scored, Trial
from ddit_eval.study import confirm
from ddit_eval.study.trials import SCORES, Scores, dominates, finished, front, is_complete, sign_of

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


def export(study: optuna.Study, space: Study, of: Measured) -> Exported:
    """Finished trials, numbered in order, and the points that were confirmed; kills leave no mark.

    `of`: what the base that trials are held against is measured of, on the tuning prompts.
    """
    better: Literal["maximize", "minimize"] = "maximize" if sign_of(study) > 0 else "minimize"
    best = front(study, space)
    return Exported(
        study=study.study_name,
        sampler=space.sampler,
        objectives=(
            Objective(name=f"relative_{space.cost}", direction="minimize"),
            Objective(name=space.quality, direction=better),
        ),
        prompts=space.prompts,
        prompts_hash=of.prompts,
        seeds=space.seeds,
        trials=tuple(row(slot, t, slot in best, of) for slot, t in finished(study, space).items()),
        confirmed=tuple(confirmed(study, space)),
    )


def row(slot: int, trial: FrozenTrial, pareto: bool, of: Measured) -> Trial:
    """A trial as plain data."""
    said = trial.user_attrs
    scores = SCORES.validate_python(said)
    complete = is_complete(trial)
    return Trial(
        number=slot,
        of=of.model_copy(update=said["row"]),
        params=trial.params,
        prompts=len(scores.costs),
        values=tuple(trial.values) if complete else None,
        intervals=_intervals(scores) if complete else None,
        partial=None if complete else scores.mean(),
        constraints=tuple(trial.system_attrs.get("constraints", ())),
        state=trial.state.name,
        pareto=pareto,
        schedules=tuple(said["schedules"]),
        tau=said.get("tau"),
    )


def confirmed(study: optuna.Study, space: Study) -> list[Confirmed]:
    """The points that were measured on both sets of prompts, by cost."""
    points = {
        slot: (SCORES.validate_python(trial.user_attrs), held)
        for slot, trial in confirm.chosen(study, space).items()
        if (held := confirm.measured(study, space, slot)) is not None
    }
    sign = sign_of(study)
    values = {slot: held.mean() for slot, (_, held) in points.items()}
    return [
        Confirmed(
            number=slot,
            tuned=_intervals(tuned),
            heldout=_intervals(held),
            stands=not any(dominates(other, values[slot], sign) for other in values.values()),
            meets_floor=None if space.floor is None else sign * (values[slot][1] - space.floor) >= 0,
        )
        for slot, (tuned, held) in points.items()
    ]


def _intervals(scores: Scores) -> Scored:
    return Scored(cost=stats.mean(scores.costs), quality=stats.mean(scores.qualities))
