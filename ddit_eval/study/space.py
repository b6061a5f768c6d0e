"""The search space: which parameters trial N has, and the policy that they mean."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ddit_eval.ddit.policies import Policy, searchable
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Study

if TYPE_CHECKING:
    import optuna
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

Params = Mapping[str, Any]


def check_scales(space: Study, scales: tuple[int, ...]) -> None:
    """Raise `DditError` where the study wants a scale that the adapter (its `scales`) lacks."""
    wanted = set().union(*(searchable(rule).searched_scales(space) for rule in space.rule))
    lacking = sorted(wanted - {1} - set(scales))
    if lacking:
        have = f"the adapter has {', '.join(map(str, scales))}" if scales else "there is no adapter"
        raise DditError(
            f"study: scale {', '.join(map(str, lacking))} is to be searched, but {have}; take it out of "
            "`scales` and `warmup`, or distil an adapter that has it"
        )


def suggest(trial: optuna.trial.BaseTrial, space: Study) -> None:
    """Ask a trial for the parameters of one rule; names that two rules share mean the same in both."""
    rule = trial.suggest_categorical("rule", space.rule)
    trial.suggest_categorical("steps", space.steps)
    for axis in searchable(rule).axes or ():
        axis.ask(trial, space)


def policy_of(params: Params, unit: Callable[[int], float]) -> tuple[Policy, int]:
    """The policy and the number of steps that `params` mean.

    `unit(order)`: the signal that a relative tau of 1 stands for.
    """
    steps = int(params["steps"])
    return searchable(params["rule"]).from_trial(params, steps, unit), steps


def first_point(space: Study, rule: str) -> dict[str, Any]:
    """Where the search of a rule starts; for the threshold the published one (order 3, rho .4, every scale).

    tau and the share are in mid-range, the segments fine and then coarse, the base at its fewest steps.
    """
    point: dict[str, Any] = {"rule": rule, "steps": max(space.steps)}
    for axis in searchable(rule).axes or ():
        point |= axis.start(space)
    return point


def sampler_for(space: Study, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of trial `number`. Seeded anew for each, or it would repeat its points after a restart."""
    import optuna

    seed = int.from_bytes(hashlib.sha256(f"{space.seed}/{number}".encode()).digest()[:4], "big")
    if space.sampler == "gp":
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=space.startup, deterministic_objective=True
        )
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=space.startup)


def sample(
    space: Study, number: int, earlier: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> FrozenTrial:
    """Trial `number` (its `params` and `distributions`): a pure function of the number, the space and all
    `earlier` generations, in order.

    Sampled in a study of its own, in memory: so what other workers are at meanwhile has no influence.
    The first trials are one of each rule.
    """
    import optuna

    memory = optuna.create_study(directions=directions, sampler=sampler_for(space, number))
    memory.add_trials([_bare(trial) for trial in earlier])
    if number < len(space.rule):
        memory.enqueue_trial(first_point(space, space.rule[number]))
    trial = memory.ask()
    suggest(trial, space)
    return memory.get_trials(deepcopy=False)[-1]


def _bare(trial: FrozenTrial) -> FrozenTrial:
    """What a sampler learns from, without the marks that a storage leaves on a trial."""
    import optuna

    return optuna.trial.create_trial(
        state=trial.state,
        values=trial.values if trial.state == optuna.trial.TrialState.COMPLETE else None,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs={k: v for k, v in trial.system_attrs.items() if k.startswith("constraints:")},
    )
