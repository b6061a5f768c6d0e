"""A whole study of an experiment, from its YAML to its export."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ddit_eval import metrics
from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.policies import searchable
from ddit_eval.errors import DditError
from ddit_eval.experiment.belongs import asked
from ddit_eval.experiment.config import Experiment, Study
from ddit_eval.experiment.prompts import Prompt, prompts_hash
from ddit_eval.experiment.records import code_hash
from ddit_eval.experiment.setting import Setting
from ddit_eval.schema import Study as Exported
from ddit_eval.schema import write
from ddit_eval.schema.study import Ceiling, Latency
from ddit_eval.study import latency, worker
from ddit_eval.study.export import export
from ddit_eval.study.measure import PictureEvaluator, prompt_sets
from ddit_eval.study.space import check_scales
from ddit_eval.study.storage import Location
from ddit_eval.system.files import check_writable, digest, sweep
from ddit_eval.system.plugins import source_of
from ddit_eval.system.progress import Progress, quiet
from ddit_eval.system.workers import check_workers

CODE = ("ddit", "metrics", "models", "study")  # what decides the values of a trial


def run_study(
    experiment: Experiment,
    result: Path,
    state: Path = Path(".state"),
    *,
    workers: int = 1,
    storage: str | None = None,
    pipe: Any = None,
    progress: Progress = quiet,
) -> Exported:
    """Run or go on with the experiment's study and write its export to `result`.

    state: the folder of the journal, the dashboard's pictures and the table of latencies. workers: processes.
    storage: the path of a journal or the URL of a database that several machines share. pipe: a loaded
    pipeline, for one worker. Raises `DditError` before anything is computed where the study cannot be run.
    """
    setting, space = Setting(experiment), experiment.study
    for folder in (result.parent, state):
        check_writable(folder)
        sweep(folder)
    check_scales(space, Adapter.from_pretrained(experiment.adapter).scales if experiment.adapter else ())
    prompts = prompt_sets(setting)
    metric = metrics.suited(space.quality, moving=len(setting.size) == 3)
    if why := metric.missing():
        raise DditError(why)
    check_workers(workers, pipe)
    key = study_key(setting, prompts[0])
    table = latency.table_of(setting, state, pipe) if measured_here(space) else None
    if table and space.memory is not None and table.memory is None:
        warnings.warn("study: the memory ceiling is not checked, there is no GPU here", stacklevel=2)
    place = Location(
        storage or str(state / f"study-{key}.journal"),
        f"{experiment.profile}-{key}",
        metric.columns[0].direction,
        state / "artifacts",
    )
    if table:
        table = shared_table(place, table)
    open_evaluator = partial(PictureEvaluator, setting, prompts, table, pipe)
    study = worker.run(place, space, open_evaluator, workers, progress)
    exported = export(study, space, setting.measured(prompts=prompts[0])).model_copy(
        update={
            "asked": asked(experiment, Exported),
            "latency": table if space.cost == "latency" else None,
            "memory": None
            if space.memory is None
            else Ceiling(ceiling=space.memory, checked=table is not None and table.memory is not None),
        }
    )
    write(result, exported)
    return exported


def measured_here(space: Study) -> bool:
    """Whether values depend on the machine."""
    return space.cost == "latency" or space.memory is not None


def shared_table(place: Location, table: Latency) -> Latency:
    """The table of the machine that was first here: equal machines measure a little differently."""
    study = place.open()
    if "latency" not in study.user_attrs:
        study.set_user_attr("latency", table.plain())
    return Latency.model_validate(study.user_attrs["latency"])


def study_key(setting: Setting, tuning: Sequence[Prompt]) -> str:
    """12 hex digits of all that decides the trials: parameters, weights, code, prompts (a file's may change),
    diffusers' version, whose solver and caches are part of a run.

    How many trials there are is no part of it, nor how they are confirmed: a study may be extended.
    """
    outside = {"methods", "metrics", "timing", "reference", "profile", "oracle", "advise", "margins", "sets"}
    experiment, weights = setting.experiment, setting.weights
    parts = experiment.model_dump(mode="json", exclude=outside)
    for name in ("trials", "confirm", "heldout"):
        del parts["study"][name]
    versions = [weights.model_hash, weights.adapter_hash, weights.dtype]
    versions += [prompts_hash(tuning), prompts_hash(setting.prompts)]
    versions += [code_hash(*CODE), f"diffusers {version('diffusers')}"]
    versions += filter(None, map(source_of, map(searchable, experiment.study.rule)))
    if measured_here(experiment.study):
        versions.append(latency.machine_key())
    return digest([parts, *versions])
