"""The front once more, on prompts that no trial has seen: what was tuned too well shows here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from ddit_eval.experiment.config import Study
from ddit_eval.study.measure import Evaluator, scores_of
from ddit_eval.study.space import Ways
from ddit_eval.study.trial import units
from ddit_eval.study.trials import SCORES, Scores, front

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

T = TypeVar("T")


def spread(points: Sequence[T], most: int) -> list[T]:
    """At most `most` of the points, evenly picked, both ends kept; of one, the middle."""
    if len(points) <= most:
        return list(points)
    if most < 2:
        return list(points[len(points) // 2 :][:most])
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def chosen(study: optuna.Study, space: Study) -> dict[int, FrozenTrial]:
    """The points of the front to be confirmed, by slot: spread along cost, of equal values the first."""
    values: dict[tuple[float, ...], int] = {}
    points = front(study, space)
    for slot, trial in points.items():
        values.setdefault(tuple(trial.values), slot)
    return {slot: points[slot] for _, slot in spread(sorted(values.items()), space.confirm)}


def measured(study: optuna.Study, space: Study, slot: int) -> Scores | None:
    """What a trial gave on the held-out prompts; None where it was not measured there."""
    data = study.user_attrs.get(_name(space, slot))
    return None if data is None else SCORES.validate_python(data)


def measure(
    study: optuna.Study, space: Study, ways: Ways, slot: int, trial: FrozenTrial, evaluator: Evaluator
) -> None:
    """Measure a trial's row on every held-out prompt and keep the scores in the study."""
    method = ways.method(trial.params, units(study, evaluator))
    scored = [evaluator.held_out(method, prompt) for prompt in range(evaluator.held_out_prompts)]
    study.set_user_attr(_name(space, slot), SCORES.dump_python(scores_of(scored), mode="json"))


def _name(space: Study, slot: int) -> str:
    return f"heldout-{space.heldout}-{slot}"
