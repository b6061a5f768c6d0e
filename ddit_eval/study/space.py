"""The search space: which parameters trial N has, and the row of an experiment that they mean."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ddit_eval.ddit.policies import searchable
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Method, Study

if TYPE_CHECKING:
    import optuna
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

Params = Mapping[str, Any]
Unit = Callable[[int], float]  # by order: the signal that a relative tau of 1 stands for
ROW = "trial"  # the name of the row that a trial is


class Ways(Protocol):
    """What a study searches; pure, and sent to its workers."""

    def given(self, number: int) -> Params:
        """The parameters of trial `number` that are not searched: where the search starts, all of them."""

    def peers(self, number: int, earlier: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """Of earlier trials those that trial `number` learns from and is held against."""

    def suggest(self, trial: optuna.trial.BaseTrial) -> None:
        """Ask a trial for its parameters."""

    def method(self, params: Params, unit: Unit) -> Method:
        """The row that they mean."""


@dataclass(frozen=True)
class Rules:
    """Policies with their steps, as a study's YAML lists them; names that two share mean the same in both."""

    space: Study

    def given(self, number: int) -> Params:
        """The first trials are one of each rule."""
        rules = self.space.rule
        return first_point(self.space, rules[number]) if number < len(rules) else {}

    def peers(self, number: int, earlier: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        return earlier

    def suggest(self, trial: optuna.trial.BaseTrial) -> None:
        rule = trial.suggest_categorical("rule", self.space.rule)
        trial.suggest_categorical("steps", self.space.steps)
        for axis in searchable(rule).axes or ():
            axis.ask(trial, self.space)

    def method(self, params: Params, unit: Unit) -> Method:
        steps = int(params["steps"])
        policy = searchable(params["rule"]).from_trial(params, steps, unit)
        return Method(name=ROW, policy=policy, steps=steps)


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
    space: Study,
    ways: Ways,
    number: int,
    earlier: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
) -> FrozenTrial:
    """Trial `number` (its `params` and `distributions`): a pure function of the number, the space and all
    `earlier` generations, in order.

    Sampled in a study of its own, in memory: so what other workers are at meanwhile has no influence.
    """
    import optuna

    memory = optuna.create_study(directions=directions, sampler=sampler_for(space, number))
    memory.add_trials([_bare(trial) for trial in earlier])
    if given := ways.given(number):
        memory.enqueue_trial(dict(given))
    ways.suggest(memory.ask())
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
