"""What is to be shown in MLflow, as plain data: one planned run a method, a trial and a row of the oracle's.

Names mean the same in every run, so that one chart holds all of them: `relative_flops` (a share of the
base's), `psnr` and the other metrics, each with its interval as `_low` and `_high`; `step_...` by denoising
step. Of the tags `study` and `method` say what belongs together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.judging.frontier import is_feasible, rule_of
from ddit_eval.judging.results import Results
from ddit_eval.schema import Record
from ddit_eval.schema.distillation import FILE, load
from ddit_eval.schema.record import Trace
from ddit_eval.schema.study import Scored
from ddit_eval.schema.timing import Row as Timed
from ddit_eval.system.files import canonical, digest

FORMAT = 5  # raised when runs are logged differently, so that they are logged anew


@dataclass(frozen=True)
class Planned:
    """A run to be logged. `series[name]`: one value a step, None where there is none."""

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    series: dict[str, Sequence[float | None]] = field(default_factory=dict)
    method: str | None = None  # its figures and pictures are logged, too
    scales: Sequence[Sequence[int]] = ()  # of each prompt's steps, for a heatmap, where there is no method
    identity: Any = None  # what else the run shows, for its hash
    prompts: tuple[str, int] | None = None  # hash and number of the prompts, shown as the run's dataset

    @property
    def hash(self) -> str:
        shown = [FORMAT, self.name, self.params, self.metrics, {k: list(v) for k, v in self.series.items()}]
        kept = {k: v for k, v in self.tags.items() if k in ("model", "profile", "study", "kind", "method")}
        shown += [kept, self.identity, self.scales]
        return digest(shown, 20)


def methods(results: Results, records: Mapping[str, Sequence[Record]]) -> Iterator[Planned]:
    quality = results.quality
    for row in results.rows:
        name, timed = row.method, results.timed(row.method)
        metrics: dict[str, float] = {"token_ratio": row.token_ratio, "flop_ratio": row.flop_ratio}
        metrics |= {"coarse_share": row.coarse_share, "relative_flops": 1 / row.flop_ratio}
        for metric, value in row.quality.items():
            metrics |= _interval(metric, value)
        if timed:
            metrics |= _interval("speedup", timed.speedup)
            metrics |= {f"seconds_{k}": v for k, v in timed.seconds}
        same = records.get(name, [])
        params = {"model": quality.model, "steps": row.steps, "n": row.n, "policy": row.policy["kind"]}
        params |= {k: v for k, v in row.policy.items() if k != "kind"}
        yield Planned(
            name=name,
            tags=_tags(results, "method", quality.profile, name)
            | {"family": results.family(row), "verdict": row.verdict or ""},
            params=_plain(params),
            metrics=metrics,
            series=_series(results.traces.get(name), same, timed),
            method=name,
            identity=[trace.plain() if (trace := results.traces.get(name)) else None, [r.key for r in same]],
            prompts=(quality.prompts_hash, quality.n),
        )  # fmt: skip


def _series(
    trace: Trace | None, records: Sequence[Record], timed: Timed | None
) -> dict[str, Sequence[float | None]]:
    """Means by step: over prompts scale, signal per candidate scale and tokens, over timed runs seconds."""
    series: dict[str, Sequence[float | None]] = {}
    if trace:
        series["step_scale"] = _mean(trace.scales)
        for scale, rows in sorted((trace.signals or {}).items()):
            series[f"step_signal_{scale}"] = _mean(rows)
    if records:
        series["step_tokens"] = _mean([[step.tokens for step in record.trace] for record in records])
    # Not the records' seconds: a batch may stand there beside single samples.
    if timed and timed.by_step:
        series["step_seconds"] = [sum(parts.values()) for parts in timed.by_step]
    return series


def _mean(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Column means of rows that may differ in length or have gaps."""
    means: list[float | None] = []
    for step in range(max((len(row) for row in rows), default=0)):
        values = [v for row in rows if len(row) > step and (v := row[step]) is not None and math.isfinite(v)]
        means.append(float(np.mean(values)) if values else None)
    return means


def trials(results: Results) -> Iterator[Planned]:
    study = results.study
    if not study:
        return
    names = [objective.name for objective in study.objectives]
    confirmed = {point.number: point.heldout for point in study.confirmed}
    for trial in study.trials:
        metrics = dict(zip(names, trial.values or (), strict=False))
        if trial.intervals:
            metrics |= _scored(names, trial.intervals)
        if trial.number in confirmed:
            metrics |= _scored([f"{name}_heldout" for name in names], confirmed[trial.number])
        tau = {} if trial.tau is None else {"tau": trial.tau}
        yield Planned(
            name=f"trial-{trial.number:03d}",
            tags=_tags(results, "trial", study.study, rule_of(trial)) | {
                "pareto": str(trial.pareto).lower(), "state": trial.state,
                "feasible": str(is_feasible(trial)).lower(),
            },
            params=_plain(trial.params | tau | {"prompts": trial.prompts}),
            metrics=metrics,
            scales=[[int(s) for s in row.split()] for row in trial.schedules],
            prompts=(study.prompts_hash, study.prompts),
        )  # fmt: skip


def bounds(results: Results) -> Iterator[Planned]:
    """The rows of the oracle's table: every way of choosing the steps, at equal cost."""
    oracle = results.oracle
    if not oracle:
        return
    for row in oracle.rows:
        metrics = {"relative_flops": row.cost} | _interval("psnr", row.psnr)
        for item in oracle.gap:
            if item.name == row.name and item.share is not None:
                metrics |= _interval(f"gap_closed_{item.fixed.replace(' ', '-')}", item.share)
        yield Planned(
            name=f"{row.name} at equal cost",
            tags=_tags(results, "oracle", f"{results.quality.profile}-oracle", row.family),
            params=_plain({"policy": row.family, "steps": row.steps, "n": oracle.n}),
            metrics=metrics,
            series={"step_scale": [float(s) for s in row.schedule]} if row.schedule else {},
            scales=[row.schedule] if row.schedule else (),
            identity=oracle.calibration,
        )  # fmt: skip


def _tags(results: Results, kind: str, study: str, method: str) -> dict[str, str]:
    about = {"model": results.quality.model, "profile": results.quality.profile}
    return {"kind": kind, "study": study, "method": method, **about}


def _plain(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as text."""
    return {k: v if isinstance(v, str) else canonical(v) for k, v in params.items()}


def _scored(names: Sequence[str], scored: Scored) -> dict[str, float]:
    """Cost and quality under the names of the study's objectives."""
    metrics: dict[str, float] = {}
    for name, interval in zip(names, (scored.cost, scored.quality), strict=False):
        metrics |= _interval(name, interval)
    return metrics


def _interval(name: str, interval: stats.Interval) -> dict[str, float]:
    """A value and its two ends as three metrics, as far as they are finite: a database would hold another
    number. `name_infinite`: the share of the samples that are infinite, where any is."""
    parts = {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    if interval.infinite:
        parts[f"{name}_infinite"] = interval.infinite / interval.n
    return {k: v for k, v in parts.items() if math.isfinite(v)}


def training(folder: Path) -> Planned:
    """The run of a distillation whose errors.json is in `folder`."""
    record = load(folder / FILE, folder)
    if record is None:
        raise DditError(f"{folder} holds no {FILE}; `ddit-eval train CONFIG` writes it")
    first = record.rows[0].side
    metrics = {
        f"error_{row.scale}p_{row.stage}_t{time:g}{'' if row.side == first else f'_{row.side}px'}": value
        for row in record.rows
        for time, value in zip(record.timesteps, row.error, strict=True)
    }
    names = [f"error_{scale}p" for scale in record.config["scales"]]
    return Planned(
        name=f"distil-{folder.name}",
        tags={"kind": "training", "model": record.config["model"]},
        params=_plain(record.config),
        metrics=metrics | {"seconds": record.seconds},
        series={name: [entry[name] for entry in record.log] for name in names},
    )
