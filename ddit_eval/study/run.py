"""A whole study of an experiment, from its YAML to its export."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

from ddit_eval import metrics
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Experiment, Study
from ddit_eval.experiment.generate import describe_weights, size_of
from ddit_eval.experiment.prompts import prompts_hash
from ddit_eval.experiment.records import code_hash
from ddit_eval.study import latency, worker
from ddit_eval.study.export import export
from ddit_eval.study.measure import PictureLab, prompt_sets
from ddit_eval.study.space import check_scales
from ddit_eval.system.files import check_writable, digest, write_json
from ddit_eval.system.workers import check_workers

# What decides the values of a trial, with the code of its metric.
CODE = ("ddit", "metrics", "models", "study")  # what decides a trial


def run_study(
    experiment: Experiment,
    result: Path,
    state: Path = Path(".state"),
    *,
    workers: int = 1,
    storage: str | None = None,
    pipe: Any = None,
    progress: worker.Progress = lambda done, total, label: None,
) -> dict[str, Any]:
    """Run or go on with the experiment's study and write its export to `result`.

    state: the folder of the journal, the dashboard's pictures and the table of latencies. workers: processes.
    storage: the path of a journal or the URL of a database that several machines share. pipe: a loaded
    pipeline, for one worker. Raises `DditError` before anything is computed where the study cannot be run.
    """
    space = experiment.study
    check_writable(result.parent)
    check_writable(state)
    check_scales(space, adapter_scales(experiment))
    tuning, _ = prompt_sets(experiment)
    metric = metrics.suited(space.quality, moving=len(size_of(experiment)) == 3)
    if why := metric.missing():
        raise DditError(why)
    check_workers(workers, pipe)
    key = study_key(experiment)
    table = latency.table_of(experiment, state, pipe) if measured_here(space) else None
    if table and space.memory is not None and table.memory is None:
        warnings.warn("study: the memory ceiling is not checked, there is no GPU here", stacklevel=2)
    place = worker.Place(
        storage or str(state / f"study-{key}.journal"),
        f"{experiment.profile}-{key}",
        metric.columns[0].direction,
        state / "artifacts",
    )
    if table:
        table = shared_table(place, table)
    open_lab = partial(_open_lab, experiment, table, pipe)
    exported = export(worker.run(place, space, open_lab, workers, progress), space)
    exported["prompts_hash"] = prompts_hash(tuning)
    if space.cost == "latency" and table:
        exported["latency"] = table.to_json()
    if space.memory is not None:
        checked = table is not None and table.memory is not None
        exported["memory"] = {"ceiling": space.memory, "checked": checked}
    write_json(result, exported)
    return exported


def _open_lab(experiment: Experiment, table: latency.Latency | None, pipe: Any) -> PictureLab:
    from ddit_eval.system.quiet import quiet_libraries

    quiet_libraries()  # a second worker has no command line that has done so
    return PictureLab(experiment, table, pipe)


def measured_here(space: Study) -> bool:
    """Whether values depend on the machine."""
    return space.cost == "latency" or space.memory is not None


def adapter_scales(experiment: Experiment) -> tuple[int, ...]:
    """The coarse scales of the experiment's adapter; none where it has no adapter."""
    from ddit_eval.ddit.adapter.adapter import Adapter

    return Adapter.from_pretrained(experiment.adapter).scales if experiment.adapter else ()


def shared_table(place: worker.Place, table: latency.Latency) -> latency.Latency:
    """The table of the machine that was first here: equal machines measure a little differently."""
    study = place.open()
    if "latency" not in study.user_attrs:
        study.set_user_attr("latency", table.to_json())
    return latency.Latency.from_json(study.user_attrs["latency"])


def study_key(experiment: Experiment) -> str:
    """12 hex digits of all that decides the trials: parameters, weights, code.

    How many trials there are is no part of it, nor how they are confirmed: a study may be extended.
    """
    outside = {"methods", "metrics", "timing", "reference", "profile", "oracle"}
    parts = experiment.model_dump(mode="json", exclude=outside)
    for name in ("trials", "confirm", "heldout"):
        del parts["study"][name]
    weights = describe_weights(experiment)
    versions = [weights.model_hash, weights.adapter_hash, weights.dtype]
    versions.append(code_hash(*CODE))
    if measured_here(experiment.study):
        versions.append(latency.machine_key())
    return digest([parts, *versions])
