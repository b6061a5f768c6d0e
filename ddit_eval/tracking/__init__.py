"""MLflow runs derived from result files: one a method, a trial of the study and a row of the oracle's,
each logged once.

Results are written first; nothing is logged while something is computed. So a fresh clone rebuilds the
whole MLflow view in seconds, and logging may be killed at any moment: a run that is not marked complete is
deleted and made again. A run carries a hash of all that it shows; what is there already is not logged a
second time.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ddit_eval import figures
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Experiment
from ddit_eval.experiment.records import frames_of
from ddit_eval.figures.of_results import FILM_FPS, region_figure, region_film, trace_figures
from ddit_eval.judging.results import Results, load, read_records
from ddit_eval.schema import Record
from ddit_eval.system.files import digest
from ddit_eval.system.films import write_sample
from ddit_eval.system.secret import hidden, without_secrets
from ddit_eval.tracking.plan import Planned, bounds, methods, training, trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from PIL.Image import Image

HASH, COMPLETE = "ddit.hash", "ddit.complete"
PICTURES = 3  # prompts shown per method, one a step of the picture slider
_BATCH = 1000  # metrics per request, MLflow's limit


def track(
    profile_dir: Path,
    records_dir: Path | None = None,
    uri: str | None = None,
    experiment: Experiment | None = None,
) -> int:
    """Log what `profile_dir` (results/<profile>) holds and is not logged yet; returns how many runs are
    new.

    `records_dir`: runs/<profile>, for seconds a step and pictures; left out where there is none. `uri`: an
    MLflow tracking URI; then the environment's MLFLOW_TRACKING_URI; then mlflow.db at the root of the
    repository. `experiment`: what the results must be of, kept beside each run as config.yaml. On one
    machine at a time: it takes an unfinished run for one that was killed. Raises `DditError` where
    quality.json is missing or files do not belong together.
    """
    results = load(profile_dir, experiment)
    config = experiment.model_dump(mode="json") if experiment else None
    records = read_records(records_dir)
    plan = [*methods(results, records), *trials(results), *bounds(results)]
    with _reached(uri, f"ddit-{results.quality.profile}") as (client, identity):
        logged = _logged(client, identity)
        new = [planned for planned in plan if planned.hash not in logged]
        extra = _origin()
        for planned in new:
            _log(client, identity, planned, extra, results, records, config)
    return len(new)


def track_training(folder: Path, uri: str | None = None) -> bool:
    """Log the distillation whose adapter and errors.json are in `folder`; False if it is there already.

    The error by scale over training (a row of the log a step) and at the end by timestep.
    """
    planned = training(folder)
    with _reached(uri, "ddit-training") as (client, experiment):
        if planned.hash in _logged(client, experiment):
            return False
        _log(client, experiment, planned, _origin(), None, {}, None)
    return True


def default_uri() -> str:
    """SQLite at the root of the repository. DVC_ROOT comes first: `dvc exp --temp` runs in a copy, and what
    is logged there belongs to the real repository."""
    return f"sqlite:///{_root() / 'mlflow.db'}"


def _root() -> Path:
    if os.environ.get("DVC_ROOT"):
        return Path(os.environ["DVC_ROOT"]).resolve()
    here = Path.cwd().resolve()
    return next((p for p in (here, *here.parents) if (p / ".git").exists() or (p / ".dvc").is_dir()), here)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One at a time logs to a place, of all on this machine; the lock of one that was killed is free."""
    path = uri.removeprefix("sqlite:///")
    place = uri if path == uri else str(Path(path).resolve())
    lock = Path(tempfile.gettempdir()) / f"ddit-track-{os.getuid()}-{digest(place)}.lock"
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _reached(uri: str | None, name: str) -> Iterator[tuple[MlflowClient, str]]:
    """A client and the id of the experiment, created where it is missing, with artifacts beside the
    database. Raises `DditError` where the body cannot read or write there."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # the first use tells of every table it makes
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri()
    try:
        with _alone(uri):
            yield _open(uri, name)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        why = without_secrets(str(error), uri)
        raise DditError(
            f"MLflow at {hidden(uri)} cannot be used: {why}. Make it writable, free some space or name "
            "another one in MLFLOW_TRACKING_URI; what is logged is kept."
        ) from None


def _open(uri: str, name: str) -> tuple[MlflowClient, str]:
    import mlflow

    location = None
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).resolve()
        database.parent.mkdir(parents=True, exist_ok=True)
        location = (database.parent / "mlartifacts" / name).as_uri()
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(name)
    if found is not None and location and found.artifact_location != location:
        # The repository was moved: artifacts are found by absolute paths, so the old experiment cannot
        # show its own. It is set aside, and everything is logged again, which takes seconds.
        client.rename_experiment(found.experiment_id, f"{name} (before a move, {found.experiment_id})")
        found = None
    if found is not None and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found is None:
        return client, client.create_experiment(name, artifact_location=location)
    return client, found.experiment_id


def _logged(client: MlflowClient, experiment: str) -> set[str]:
    """Hashes of the complete runs; runs that were killed half-way are deleted."""
    hashes, token = set(), None
    while True:
        page = client.search_runs([experiment], filter_string="", max_results=1000, page_token=token)
        for run in page:
            if run.data.tags.get(COMPLETE) == "true":
                hashes.add(run.data.tags.get(HASH, ""))
            elif HASH in run.data.tags:
                client.delete_run(run.info.run_id)
        token = page.token
        if not token:
            return hashes


def _origin() -> dict[str, str]:
    """Where results come from: the commit, and the stage and experiment if DVC runs us."""
    tags = {k: os.environ[k] for k in ("DVC_EXP_NAME", "DVC_STAGE") if os.environ.get(k)}
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=_root(), capture_output=True, text=True, timeout=10
        )
        commit = done.stdout.strip() if done.returncode == 0 else ""
    except (OSError, subprocess.SubprocessError):
        commit = ""
    if commit:
        tags["commit"] = tags["mlflow.source.git.commit"] = commit
    return tags | {"mlflow.source.name": "ddit-eval track"}


def _log(
    client: MlflowClient, experiment: str, planned: Planned, extra: Mapping[str, str],
    results: Results | None, records: Mapping[str, Sequence[Record]], config: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    """Log one run; the tag that says it is complete is written last."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    tags = {k: v for k, v in planned.tags.items() if v} | dict(extra) | {HASH: planned.hash}
    run = client.create_run(experiment, run_name=planned.name, start_time=now, tags=tags).info.run_id
    metrics = [Metric(k, v, now, 0) for k, v in planned.metrics.items() if math.isfinite(v)]
    for name, values in planned.series.items():
        metrics += [Metric(name, v, now + i, i) for i, v in enumerate(values) if v is not None]
    params = [Param(k, v[:6000]) for k, v in planned.params.items()]
    client.log_batch(run, metrics=metrics[:_BATCH], params=params)
    for start in range(_BATCH, len(metrics), _BATCH):
        client.log_batch(run, metrics=metrics[start : start + _BATCH])
    if planned.prompts:
        client.log_inputs(run, [_dataset(*planned.prompts)])
    if config:
        client.log_text(run, yaml.safe_dump(dict(config), sort_keys=False), "config.yaml")
    if planned.method is not None and results is not None:
        _log_artifacts(client, run, planned.method, results, records.get(planned.method, []))
    elif planned.scales:
        _log_figure(client, run, figures.schedule_heatmap(planned.scales, title=planned.name), "schedule")
    client.set_terminated(run, "FINISHED")
    client.log_batch(run, tags=[RunTag(COMPLETE, "true")])


def _dataset(digest: str, count: int) -> Any:
    """The prompts as an MLflow dataset: runs over the same prompts bear the same digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    about = json.dumps({"prompts": count, "prompts_hash": digest})
    dataset = Dataset(name="prompts", digest=digest[:36], source_type="local", source=about, profile=about)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])


def _log_artifacts(
    client: MlflowClient, run: str, method: str, results: Results, records: Sequence[Record]
) -> None:
    row, trace = results.row(method), results.traces.get(method)
    if trace and (trace.signals or row.coarse_share or row.skipped_share):
        for name, _, figure in trace_figures(row, trace):
            _log_figure(client, run, figure, name.split("-", 1)[0])
    if regions := region_figure(records, method):
        _log_figure(client, run, regions, "regions")
    if film := region_film(records, method):
        _log_clip(client, run, film, "regions", FILM_FPS)
    for step, record in enumerate([r for r in records if Path(r.image).exists()][:PICTURES]):
        shown = frames_of(Path(record.image), record.frames)
        if len(shown) > 1:
            _log_clip(client, run, shown, f"{step}-{record.prompt[:60]}", record.fps)
        client.log_image(run, shown[len(shown) // 2], key="picture", step=step, synchronous=True)


def _log_clip(client: MlflowClient, run: str, frames: Sequence[Image], name: str, fps: int) -> None:
    """As a film that the artifacts view plays."""
    name = re.sub(r"[^\w .-]", "_", name)
    with tempfile.TemporaryDirectory() as folder:
        client.log_artifact(run, str(write_sample(frames, Path(folder) / name, fps)), "clips")


def _log_figure(client: MlflowClient, run: str, figure: Figure, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = figures.save(figure, Path(folder) / name, dpi=130)
        client.log_artifact(run, str(path))
