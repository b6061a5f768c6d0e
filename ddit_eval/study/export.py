"""A study as plain data, for the stages that read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddit_eval import stats
from ddit_eval.experiment.config import Study
from ddit_eval.study import confirm
from ddit_eval.study.rungs import Scores
from ddit_eval.study.trials import dominates, finished, front, is_complete, scores_from_json, sign_of

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


def export(study: optuna.Study, space: Study) -> dict[str, Any]:
    """Finished trials, numbered in order, and the points that were confirmed; kills leave no mark.

    A trial that was stopped early has no `values` but `partial` ones, on its first `prompts`. `confirmed`:
    `tuned` and `heldout` intervals of cost and quality over prompts; `stands` where no other confirmed point
    dominates it on the held-out prompts.
    """
    better = "maximize" if sign_of(study) > 0 else "minimize"
    best = front(study, space)
    return {
        "study": study.study_name,
        "sampler": space.sampler,
        "objectives": [
            {"name": f"relative_{space.cost}", "direction": "minimize"},
            {"name": space.quality, "direction": better},
        ],
        "prompts": space.prompts,
        "seeds": space.seeds,
        "trials": [row(slot, t, slot in best) for slot, t in finished(study, space).items()],
        "confirmed": confirmed(study, space),
    }


def row(slot: int, trial: FrozenTrial, pareto: bool) -> dict[str, Any]:
    """A trial as plain data; `schedules`: the scales of the steps, a line a prompt."""
    scores = scores_from_json(trial.user_attrs)
    content: dict[str, Any] = {
        "number": slot,
        "params": trial.params,
        "prompts": len(scores.costs),
        "values": None,
        "constraints": list(trial.system_attrs.get("constraints", ())),
        "state": trial.state.name,
        "pareto": pareto,
        "schedules": trial.user_attrs["schedules"],
    }
    if "tau" in trial.user_attrs:
        content["tau"] = trial.user_attrs["tau"]
    if is_complete(trial):
        content["values"] = list(trial.values)
        content["intervals"] = _intervals(scores)
    else:
        content["partial"] = [stats.number_to_json(value) for value in scores.mean()]
    return content


def confirmed(study: optuna.Study, space: Study) -> list[dict[str, Any]]:
    """The points that were measured on both sets of prompts, by cost."""
    points = {
        slot: (scores_from_json(trial.user_attrs), held)
        for slot, trial in confirm.chosen(study, space).items()
        if (held := confirm.measured(study, space, slot)) is not None
    }
    sign = sign_of(study)
    values = {slot: held.mean() for slot, (_, held) in points.items()}
    return [
        {
            "number": slot,
            "tuned": _intervals(tuned),
            "heldout": _intervals(held),
            "stands": not any(dominates(other, values[slot], sign) for other in values.values()),
        }
        for slot, (tuned, held) in points.items()
    ]


def _intervals(scores: Scores) -> dict[str, Any]:
    return {
        "cost": stats.mean(scores.costs).to_json(),
        "quality": stats.mean(scores.qualities).to_json(),
    }
