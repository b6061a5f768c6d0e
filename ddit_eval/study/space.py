"""The search space: what a trial is asked for, and the policy that its parameters mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ddit_eval.ddit.policies import Policy, searchable
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Study

if TYPE_CHECKING:
    import optuna

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
