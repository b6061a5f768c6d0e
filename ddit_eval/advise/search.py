"""The search: an Optuna study over rows of all kinds, on prompts that nothing is reported on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddit_eval import metrics, stats
from ddit_eval.advise.arms import ARMS, RULE, WITH, WITHOUT, Arms
from ddit_eval.advise.pick import Found
from ddit_eval.advise.plan import Prices
from ddit_eval.advise.ways import Plans
from ddit_eval.ddit.policies import Threshold, choices, parse_policy
from ddit_eval.experiment.config import Experiment, FilePrompts, Method, Study
from ddit_eval.experiment.prompts import Prompt, load_prompts
from ddit_eval.experiment.records import code_hash
from ddit_eval.experiment.setting import Setting
from ddit_eval.schema.study import Latency
from ddit_eval.study import run as study_of
from ddit_eval.study import worker
from ddit_eval.study.measure import PictureEvaluator
from ddit_eval.study.space import Rules, Ways
from ddit_eval.study.storage import Location
from ddit_eval.study.trials import SCORES, finished, is_complete, sign_of
from ddit_eval.system.files import digest
from ddit_eval.system.plugins import source_of
from ddit_eval.system.progress import Progress, quiet

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

CODE = ("advise", "rivals")  # decide a trial, beside what decides one of a study


def tuning_prompts(experiment: Experiment) -> list[Prompt]:
    """Prompts to tune on: of a file the first lines, else those that follow the held-out ones."""
    source, count = experiment.prompts, experiment.advise.prompts
    if isinstance(source, FilePrompts):
        return load_prompts(source)[:count]
    start = source.start + max(source.count, experiment.advise.heldout)
    return load_prompts(source.model_copy(update={"start": start, "count": count}))


def arms_of(experiment: Experiment, scales: tuple[int, ...], table: Latency, space: Study) -> Arms:
    """What is searched: plans without coarse patches, with them, and the published rule; the last two where
    there is an adapter (its `scales`)."""
    asked = experiment.advise
    prices = Prices(table.seconds, table.beside)
    base = prices.of([1] * experiment.steps)
    rows = [m for m in experiment.methods if m not in left_out(experiment)]
    rows = [m for m in rows if m.name != experiment.reference and experiment.repeat_of(m) == 0]

    def plans(coarse: tuple[int, ...]) -> Plans:
        written = tuple(m for m in rows if (max(choices(m.policy)) > 1) == bool(coarse))
        names = tuple(m.name for m in rows)
        return Plans(asked, prices, base, experiment.steps, coarse, written, names)

    ways: dict[str, Ways] = {WITHOUT: plans(())}
    if scales:
        ways |= {WITH: plans(scales), RULE: Rules(space)}
    return Arms(ways)


def left_out(experiment: Experiment) -> list[Method]:
    """Rows of which no table knows what a step takes: with a setup, or of several patch sizes a step."""
    return [m for m in experiment.methods if m.setup is not None or m.policy.mixed]


def space_of(experiment: Experiment, scales: tuple[int, ...]) -> Study:
    """How the study goes about it, but for how many trials. The published rule's steps are those of the base
    and fewer."""
    asked, steps = experiment.advise, experiment.steps
    shares = (1 / max(asked.speed_ups), 0.4, 0.55, 0.7, 1.0)
    return Study(
        prompts=asked.prompts,
        confirm=0,
        seed=asked.seed,
        generation=2 * len(ARMS if scales else ARMS[:1]),
        startup=12,
        cost="latency",
        quality=asked.quality,
        rule=("threshold",),
        steps=tuple(sorted({max(2, round(steps * share)) for share in shares})),
        scales=tuple(sorted({(scale,) for scale in scales} | ({scales} if len(scales) > 1 else set())))
        or ((2,),),
    )


def place_of(experiment: Experiment, space: Study, state: Path, storage: str | None = None) -> Location:
    """Where the study is. Its name is of all that decides a trial but the table of this machine, which comes
    with it."""
    setting = Setting(experiment.model_copy(update={"study": space}))
    metric = metrics.suited(space.quality, moving=len(setting.size) == 3)
    sources = [source for m in experiment.methods if (source := source_of(m.policy)) is not None]
    parts = [study_of.study_key(setting, tuning_prompts(experiment)), _decisive(experiment), code_hash(*CODE)]
    key = digest([*parts, *sources])
    where = storage or str(state / f"advise-{key}.journal")
    return Location(where, f"{experiment.profile}-advise-{key}", metric.columns[0].direction)


def search(
    experiment: Experiment,
    space: Study,
    arms: Arms,
    table: Latency,
    place: Location,
    trials: int,
    *,
    workers: int = 1,
    pipe: Any = None,
    progress: Progress = quiet,
) -> list[Found]:
    """Run or go on with the search until there are so many trials; what was tried on every prompt."""
    space = space.model_copy(update={"trials": trials})
    setting = Setting(experiment.model_copy(update={"study": space}))
    open_evaluator = partial(PictureEvaluator, setting, (tuning_prompts(experiment), []), table, pipe)
    study = worker.run(place, space, open_evaluator, workers, progress, arms)
    done = finished(study, space).values()
    return [_found(trial, experiment, sign_of(study)) for trial in done if is_complete(trial)]


def pace(study: optuna.Study, space: Study) -> tuple[float, float]:
    """Seconds that the finished trials took, and those of a generation. One in which the search was killed
    and went on much later counts as any other."""
    done = finished(study, space.model_copy(update={"trials": len(study.trials)}))
    groups: dict[int, list[FrozenTrial]] = {}
    for slot, trial in done.items():
        groups.setdefault(slot // space.generation, []).append(trial)
    took = [
        max(ends) - min(begins)
        for same in groups.values()
        if (ends := [t.datetime_complete.timestamp() for t in same if t.datetime_complete])
        and (begins := [t.datetime_start.timestamp() for t in same if t.datetime_start])
    ]
    taken = np.minimum(took, 4 * np.median(took))
    return float(taken.sum()), float(taken.mean())


def _decisive(experiment: Experiment) -> dict[str, Any]:
    """What of the experiment decides a trial: not how many there are, nor who confirms them."""
    plain = experiment.model_dump(mode="json", include={"advise", "methods"})
    return plain | {"advise": {k: v for k, v in plain["advise"].items() if k not in ("minutes", "trials")}}


def _found(trial: FrozenTrial, experiment: Experiment, sign: int) -> Found:
    row: Mapping[str, Any] = trial.user_attrs["row"]
    method = Method.model_validate({"name": "found", "steps": experiment.steps} | dict(row))
    coarse = any(re.search(r"\b([2-9]|\d\d)", line) for line in trial.user_attrs["schedules"])
    rule = isinstance(parse_policy(row["policy"]), Threshold)
    tuned = stats.mean(SCORES.validate_python(trial.user_attrs).qualities)
    apart = trial.params["arm"] == RULE
    return Found(method, trial.values[0], sign * trial.values[1], coarse, rule, apart, tuned)
