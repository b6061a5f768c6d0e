"""MLflow runs derived from result files: one a method, one a trial of the study, each logged once.

Results are written first; nothing is logged while something is computed. So a fresh clone rebuilds the
whole MLflow view in seconds, and logging may be killed at any moment: a run that is not marked complete is
deleted and made again. A run carries a hash of all that it shows; what is there already is not logged a
second time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddit_eval import figures
from ddit_eval.errors import DditError
from ddit_eval.files import canonical
from ddit_eval.report.plots import trace_figures
from ddit_eval.report.results import Json, Results, coarse_share, load, read_records

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

FORMAT = 2  # raised when runs are logged differently, so that they are logged anew
HASH, COMPLETE = "ddit.hash", "ddit.complete"
PICTURES = 3  # prompts shown per method, one a step of the picture slider
_BATCH = 1000  # metrics per request, MLflow's limit


@dataclass(frozen=True)
class Planned:
    """A run to be logged. `series[name]`: one value a step, None where there is none."""

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    series: dict[str, Sequence[float | None]] = field(default_factory=dict)
    method: str | None = None  # its figures and pictures are logged, too
    identity: Any = None  # what else the run shows, for its hash
    prompts: tuple[str, int] | None = None  # hash and number of the prompts, shown as the run's dataset

    @property
    def hash(self) -> str:
        shown = [FORMAT, self.name, self.params, self.metrics, {k: list(v) for k, v in self.series.items()}]
        kept = {k: v for k, v in self.tags.items() if k in ("model", "profile", "study", "kind")}
        return hashlib.sha256(canonical([*shown, kept, self.identity]).encode()).hexdigest()[:20]


def track(
    profile_dir: Path,
    records_dir: Path | None = None,
    uri: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> int:
    """Log what `profile_dir` (results/<profile>) holds and is not logged yet; returns how many runs are
    new.

    `records_dir`: runs/<profile>, for seconds a step and pictures; left out where there is none. `uri`: an
    MLflow tracking URI; then the environment's MLFLOW_TRACKING_URI; then mlflow.db at the root of the
    repository. `config`: the experiment, kept beside each run as config.yaml. One process at a time: it
    takes an unfinished run for one that was killed. Raises `DditError` where quality.json is missing.
    """
    results = load(profile_dir)
    records = read_records(records_dir)
    plan = [*_methods(results, records), *_trials(results)]
    client, experiment = _open(uri, f"ddit-{results.quality['profile']}")
    logged = _logged(client, experiment)
    new = [planned for planned in plan if planned.hash not in logged]
    extra = _origin()
    for planned in new:
        _log(client, experiment, planned, extra, results, records, config)
    return len(new)


def track_training(folder: Path, uri: str | None = None) -> bool:
    """Log the distillation whose adapter and errors.json are in `folder`; False if it is there already.

    The error by scale over training (a row of the log a step) and at the end by timestep.
    """
    path = folder / "errors.json"
    try:
        record = json.loads(path.read_text())
        config = record["config"]
        metrics = {
            f"error_{row['scale']}p_{row['stage']}_t{time:g}": value
            for row in record["rows"]
            for time, value in zip(record["timesteps"], row["error"], strict=True)
        }
        series: dict[str, Sequence[float | None]] = {
            f"error_{s}p": [row[f"error_{s}p"] for row in record["log"]] for s in config["scales"]
        }
    except (OSError, ValueError, KeyError) as error:
        raise DditError(f"{path} is missing or broken ({error!r}); run `ddit-eval train` again") from error
    planned = Planned(
        name=f"distil-{folder.name}",
        tags={"kind": "training", "model": config["model"]},
        params={k: v if isinstance(v, str) else canonical(v) for k, v in config.items()},
        metrics=metrics | {"seconds": record["seconds"]},
        series=series,
    )
    client, experiment = _open(uri, "ddit-training")
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


def _open(uri: str | None, name: str) -> tuple[MlflowClient, str]:
    """A client and the id of the experiment, created where it is missing, with artifacts beside the
    database."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # the first use tells of every table it makes
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri()
    location = None
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).resolve()
        database.parent.mkdir(parents=True, exist_ok=True)
        location = (database.parent / "mlartifacts" / name).as_uri()
    try:
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
    except MlflowException as error:
        raise DditError(
            f"MLflow at {uri} cannot be used: {error.message}. Name another one in MLFLOW_TRACKING_URI."
        ) from error
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


def _methods(results: Results, records: Mapping[str, list[Json]]) -> Iterator[Planned]:
    quality = results.quality
    for row in results.rows:
        name, timed = row["method"], results.timed(row["method"])
        metrics: dict[str, float] = {"token_ratio": row["token_ratio"], "flop_ratio": row["flop_ratio"]}
        metrics["coarse_share"] = coarse_share(row)
        for metric, value in row["quality"].items():
            metrics |= _interval(metric, value)
        if timed:
            metrics |= _interval("speedup", timed["speedup"])
            metrics |= {f"seconds_{k}": float(v) for k, v in timed["seconds"].items() if v is not None}
        same = records.get(name, [])
        params = {
            "model": quality["model"],
            "steps": row["steps"],
            "n": row["n"],
            "policy": row["policy"]["kind"],
        }
        params |= {k: v for k, v in row["policy"].items() if k != "kind"}
        yield Planned(
            name=name,
            tags={
                "kind": "method", "model": quality["model"], "method": name, "profile": quality["profile"],
                "family": results.family(row), "verdict": row.get("verdict") or "",
            },
            params={k: v if isinstance(v, str) else canonical(v) for k, v in params.items()},
            metrics=metrics,
            series=_series(results.traces.get(name), same),
            method=name,
            identity=[results.traces.get(name), [r["key"] for r in same]],
            prompts=(quality["prompts_hash"], quality["n"]),
        )  # fmt: skip


def _series(trace: Json | None, records: Sequence[Json]) -> dict[str, Sequence[float | None]]:
    """Means over prompts by step: scale, signal per candidate scale, tokens, seconds."""
    series: dict[str, Sequence[float | None]] = {}
    if trace:
        series["step_scale"] = _mean(trace["scales"])
        for scale, rows in sorted((trace.get("signals") or {}).items()):
            series[f"step_signal_{scale}"] = _mean(rows)
    for key in ("tokens", "seconds"):
        if records:
            series[f"step_{key}"] = _mean([[step[key] for step in record["trace"]] for record in records])
    return series


def _mean(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Column means of rows that may differ in length or have gaps."""
    means: list[float | None] = []
    for step in range(max((len(row) for row in rows), default=0)):
        values = [v for row in rows if len(row) > step and (v := row[step]) is not None and math.isfinite(v)]
        means.append(float(np.mean(values)) if values else None)
    return means


def _trials(results: Results) -> Iterator[Planned]:
    study = results.study
    if not study:
        return
    names = [o["name"] if isinstance(o, dict) else str(o) for o in study["objectives"]]
    for trial in study["trials"]:
        values = [float(v) for v in trial["values"] or ()]
        params = trial["params"] | {k: trial[k] for k in ("tau", "prompts") if k in trial}
        yield Planned(
            name=f"trial-{trial['number']:03d}",
            tags={
                "kind": "trial", "study": study["study"], "model": results.quality["model"],
                "profile": results.quality["profile"], "pareto": str(bool(trial["pareto"])).lower(),
                "state": trial["state"],
            },
            params={
                k: v if isinstance(v, str) else canonical(v)
                for k, v in params.items()
            },
            metrics=dict(zip(names, values, strict=False)) | _held_out(study, trial["number"], names),
        )  # fmt: skip


def _held_out(study: Json, number: int, names: Sequence[str]) -> dict[str, float]:
    """What a trial is worth on the held-out prompts, if it was measured there."""
    found: dict[str, float] = {}
    for point in study.get("confirmed", ()):
        if point["number"] == number:
            for name, key in zip(names, ("cost", "quality"), strict=False):
                found |= _interval(f"{name}_heldout", point["heldout"][key])
    return found


def _interval(name: str, data: Json) -> dict[str, float]:
    """A value and its two ends as three metrics; infinities stay (MLflow holds them), absent ones are left
    out."""
    parts = {name: data["value"], f"{name}_low": data["low"], f"{name}_high": data["high"]}
    return {k: float(v) for k, v in parts.items() if v is not None}


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
    results: Results | None, records: Mapping[str, list[Json]], config: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    """Log one run; the tag that says it is complete is written last."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    tags = {k: v for k, v in planned.tags.items() if v} | dict(extra) | {HASH: planned.hash}
    run = client.create_run(experiment, run_name=planned.name, start_time=now, tags=tags).info.run_id
    metrics = [Metric(k, v, now, 0) for k, v in planned.metrics.items() if not math.isnan(v)]
    for name, values in planned.series.items():
        metrics += [Metric(name, v, now + i, i) for i, v in enumerate(values) if v is not None]
    params = [Param(k, v[:6000]) for k, v in planned.params.items()]
    client.log_batch(run, metrics=metrics[:_BATCH], params=params)
    for start in range(_BATCH, len(metrics), _BATCH):
        client.log_batch(run, metrics=metrics[start : start + _BATCH])
    if planned.prompts:
        client.log_inputs(run, [_dataset(*planned.prompts)])
    if planned.method is not None and results is not None:
        _log_artifacts(client, run, planned.method, results, records.get(planned.method, []), config)
    client.set_terminated(run, "FINISHED")
    client.log_batch(run, tags=[RunTag(COMPLETE, "true")])


def _dataset(digest: str, count: int) -> Any:
    """The prompts as an MLflow dataset: runs over the same prompts bear the same digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    about = json.dumps({"prompts": count, "prompts_hash": digest})
    dataset = Dataset(name="prompts", digest=digest[:36], source_type="local", source=about, profile=about)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])


def _log_artifacts(
    client: MlflowClient, run: str, method: str, results: Results, records: Sequence[Json],
    config: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    import yaml

    if config:
        client.log_text(run, yaml.safe_dump(dict(config), sort_keys=False), "config.yaml")
    row = results.row(method)
    if method in results.traces and coarse_share(row) + bool(results.traces[method].get("signals")) > 0:
        for name, _, figure in trace_figures(row, results.traces[method]):
            _log_figure(client, run, figure, name.split("-", 1)[0])
    for step, record in enumerate([r for r in records if r["image"].exists()][:PICTURES]):
        from PIL import Image

        with Image.open(record["image"]) as picture:
            client.log_image(run, picture.convert("RGB"), key="picture", step=step, synchronous=True)


def _log_figure(client: MlflowClient, run: str, figure: Figure, name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (path,) = figures.save(figure, Path(folder) / name, dpi=130, formats=("png",))
        client.log_artifact(run, str(path))
