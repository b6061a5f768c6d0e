"""Which parameters trial N has: a pure function of N, the space and the trials of earlier generations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddit_eval.experiment.config import Study
from ddit_eval.study.space import first_point, suggest

if TYPE_CHECKING:
    import optuna
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial


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
    """Trial `number` (its `params` and `distributions`), given all `earlier` generations, in order.

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
