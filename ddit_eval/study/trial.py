"""One trial: sampled, measured prompt by prompt, stopped where it is hopeless, told."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Method, Study
from ddit_eval.study import pictures, slots
from ddit_eval.study.measure import Evaluator, Score, scores_of
from ddit_eval.study.space import Unit, Ways, sample
from ddit_eval.study.trials import SCORES, Scores, bounds, hopeless, is_complete, is_feasible, sign_of

if TYPE_CHECKING:
    import optuna


def run_trial(
    study: optuna.Study,
    space: Study,
    ways: Ways,
    evaluator: Evaluator,
    claimed: slots.Claim,
    artifacts: Path | None = None,
) -> None:
    """Run a claimed trial to its end. `artifacts`: the folder of the dashboard's pictures."""
    import optuna

    sign = sign_of(study)
    claimed = replace(claimed, earlier=list(ways.peers(claimed.slot, claimed.earlier)))
    trial = _start(study, space, ways, claimed)
    method = ways.method(trial.params, units(study, evaluator))
    trial.set_user_attr("row", row_of(method))
    for name, value in method.policy.resolved().items():
        trial.set_user_attr(name, value)
    rivals = [
        SCORES.validate_python(t.user_attrs) for t in claimed.earlier if is_complete(t) and is_feasible(t)
    ]
    scored, stopped = _measure(trial, space, evaluator, method, rivals, sign)
    scores = scores_of(scored)
    for name, value in SCORES.dump_python(scores, mode="json").items():
        trial.set_user_attr(name, value)
    trial.set_user_attr("schedules", [" ".join(map(str, score.scales)) for score in scored])
    cost, quality = scores.mean()
    if not stopped:
        if math.isnan(quality):
            raise DditError(
                f"study: {space.quality} asks for nothing in the {space.prompts} tuning prompts; raise "
                "`prompts` or choose another quality"
            )
        scales = {scale for score in scored for scale in score.scales}
        _constrain(trial, space, quality, sign, evaluator.memory(scales))
    if artifacts is not None:
        pictures.attach(trial, method, scored, artifacts)
    try:
        if stopped:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, [cost, quality])
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        # Taken for dead: the slot is another worker's by now, whose values are the same.
        if not study._storage.get_trial(trial._trial_id).state.is_finished():
            raise


def row_of(method: Method) -> dict[str, Any]:
    """A row as it stands in an experiment's YAML, less its name."""
    return method.model_dump(mode="json", exclude={"name"}, exclude_none=True)


def units(study: optuna.Study, evaluator: Evaluator) -> Unit:
    """The signal that a relative tau of 1 stands for, by order; measured once a study."""

    def unit(order: int) -> float:
        known = study.user_attrs.get(f"unit-{order}")
        if known is None:
            known = evaluator.unit(order)
            study.set_user_attr(f"unit-{order}", known)
        return float(known)

    return unit


def _start(study: optuna.Study, space: Study, ways: Ways, claimed: slots.Claim) -> optuna.trial.Trial:
    """The claimed trial with its parameters."""
    import optuna

    sampled = sample(space, ways, claimed.slot, claimed.earlier, study.directions)
    for name, value in sampled.params.items():
        kind = sampled.distributions[name]
        study._storage.set_trial_param(claimed.trial._trial_id, name, kind.to_internal_repr(value), kind)
    return optuna.trial.Trial(study, claimed.trial._trial_id)


def _measure(
    trial: optuna.trial.Trial,
    space: Study,
    evaluator: Evaluator,
    method: Method,
    rivals: Sequence[Scores],
    sign: int,
) -> tuple[list[Score], bool]:
    """Readings of the prompts in order, and whether the trial was stopped before the last."""
    scored: list[Score] = []
    heartbeat = time.monotonic()
    for bound in bounds(space):
        while len(scored) < bound:
            scored.append(evaluator.measure(method, len(scored)))
            if time.monotonic() - heartbeat > slots.HEARTBEAT:
                heartbeat = time.monotonic()
                trial.set_user_attr("heartbeat", time.time())
        if bound < space.prompts and hopeless(scores_of(scored), rivals, space.margin, sign):
            return scored, True
    return scored, False


def _constrain(
    trial: optuna.trial.Trial, space: Study, quality: float, sign: int, memory: float | None
) -> None:
    """Tell a trial its constraints; above 0 it is infeasible. `memory`: GiB, None where it is not known."""
    found: dict[str, float] = {}
    if space.floor is not None:
        found["floor"] = sign * (space.floor - quality)
    if space.memory is not None and memory is not None:
        found["memory"] = memory - space.memory
    for name, value in found.items():
        trial.set_constraint(name, value)
    if found:
        # The dashboard reads the constraints under this older name.
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", list(found.values()))
