"""The figures of a report, made from result files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from ddit_eval import figures
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.figures.frontier import Found, frontier_figure
from ddit_eval.figures.oracle import oracle_figure
from ddit_eval.figures.style import MARKERS, OWN_GROUPS, MethodGroup, darker
from ddit_eval.judging.controls import fewer_steps_at
from ddit_eval.judging.families import STEPS, combined, in_order
from ddit_eval.judging.frontier import is_feasible, schedule_of
from ddit_eval.judging.results import Results, shared_pictures
from ddit_eval.judging.verdict import firing
from ddit_eval.judging.wording import label, number
from ddit_eval.schema import Frontier, Oracle, Record, Study
from ddit_eval.schema.quality import Column, Row
from ddit_eval.schema.record import Trace
from ddit_eval.stats import Interval
from ddit_eval.system.films import write_film

GRID_ROWS = 4
REGION_STEPS = 5
FILM_FPS = 2


def write_figures(results: Results, folder: Path, records: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    """Write every figure that results and records allow to `folder`/figures and films to `folder`/films,
    take away older ones; paths by caption, in order."""
    made: dict[str, Path] = {}
    stills, films = folder / "figures", folder / "films"
    for name, caption, figure in _all(results, records):
        made[caption] = figures.save(figure, stills / name)
    films.mkdir(parents=True, exist_ok=True)
    for row in results.rows:
        method = row.method
        if frames := region_film(records.get(method, ()), method):
            caption = f"Patch sizes of {method}, step by step"
            made[caption] = write_film(frames, films / f"regions-{method}.gif", FILM_FPS)
    for old in {*stills.glob("*.*"), *films.glob("*.*")} - {*made.values()}:
        old.unlink()
    return {caption: path.relative_to(folder).as_posix() for caption, path in made.items()}


def _all(results: Results, records: Mapping[str, Sequence[Record]]) -> Iterator[tuple[str, str, Figure]]:
    cost = "FLOP ratio" if results.bad_clock else "Measured speed-up"
    if results.frontier and (figure := frontier(results, results.frontier)):
        yield "frontier", "The best ways found to each speed-up, on held-out prompts", figure
    for metric in results.deciding():
        if figure := speed_quality(results, metric):
            against = label(results.column(metric))
            yield f"speed-quality-{metric}", f"{cost} against {against}", figure
    if results.oracle and results.oracle.rows:
        caption = "The harm of one coarse step, and every way of choosing the steps against the oracle"
        yield "oracle", caption, oracle_figure(results.oracle)
    if figure := _grid(results, records):
        yield "pictures", "The same prompts and noise by each method, the base first", figure
    if results.distillation:
        drawn = figures.distillation_error(results.distillation)
        yield "distillation", "Distillation error by timestep", drawn
    if results.study and (figure := study(results.study, results.quality.metrics, results.oracle)):
        yield "study", f"Pareto front of the study {results.study.study}", figure
    for row in results.rows:
        if (trace := results.traces.get(row.method)) and (trace.signals or row.skipped_share):
            yield from trace_figures(row, trace)
        if figure := region_figure(records.get(row.method, ()), row.method):
            yield f"regions-{row.method}", f"Patch sizes of {row.method}, by region", figure
    if results.timing and results.timing.scales:
        bars = [figures.Bar(s.scale, s.p50, s.p95, s.bound, s.limit) for s in results.timing.scales]
        caption = "Time of a step by scale, against what the machine allows"
        yield "roofline", caption, figures.step_roofline(bars)
    if figure := _step_times(results):
        yield "step-times", "Mean time of each denoising step by scale, in the timed runs", figure


def speed_quality(results: Results, metric: str) -> Figure | None:
    """All timed methods; None where nothing was timed."""
    points, groups = [], method_groups(results)
    for row in results.rows:
        speed, quality = results.speed(row), row.quality.get(metric)
        if speed is not None and quality is not None and not math.isnan(quality.value):
            group = groups[results.family(row)]
            points.append(figures.Point(row.method, group, _triple(speed), _triple(quality)))
    if len(points) < 2 or results.timing is None:
        return None
    column, null = results.column(metric), None if results.bad_clock else results.timing.null
    return figures.speed_quality(
        points,
        quality_name=label(column),
        direction=column.direction,
        null=_triple(null) if null else None,
        frontier=_frontier(results, metric),
        flops=results.bad_clock is not None,
    )


def frontier(results: Results, data: Frontier) -> Figure | None:
    """The ways of each target; None where nothing was found."""
    found = []
    for target in data.targets:
        ways = {"best": target.best, "plain": target.best_without_coarse, "ddit": target.best_ddit}
        for kind, way in ways.items():
            quality = way and way.quality.get(data.metric)
            if way and quality:
                speed = _triple(way.speedup) if way.speedup else (way.flop_ratio,) * 3
                found.append(Found(kind, way.name, speed, _triple(quality)))
    if not found:
        return None
    column = results.quality.metrics.get(data.metric)
    return frontier_figure(
        found,
        [target.speed_up for target in data.targets],
        quality_name=label(column) if column else data.metric.replace("-", " "),
        direction=column.direction if column else "higher",
        clock=data.clock is None,
    )


def method_groups(results: Results) -> dict[str, MethodGroup]:
    """The families of the rows in their order, each with its policy's colour, darker where something runs
    beside it, and a marker of its own."""
    colours = {
        results.family(row): to_hex(darker(row.colour)) if combined(row, results.reference) else row.colour
        for row in results.rows
    }
    free = iter(MARKERS)
    return {f: OWN_GROUPS.get(f) or MethodGroup(f, colours[f], next(free)) for f in in_order([*colours])}


def _frontier(results: Results, metric: str) -> list[tuple[float, float]]:
    """The interpolated fewer-steps curve that verdicts are read from, as (speed-up, mean quality)."""
    speeds = sorted(s.value for r in results.of_family(STEPS) if (s := results.speed(r)) is not None)
    if len(speeds) < 2:
        return []
    curve = []
    for i in range(41):
        speed = math.exp(math.log(speeds[0]) + i / 40 * math.log(speeds[-1] / speeds[0]))
        control = fewer_steps_at(results, min(max(speed, speeds[0]), speeds[-1]), metric)
        if control is not None:
            curve.append((control.speed, float(np.nanmean(control.values))))
    return [point for point in curve if math.isfinite(point[1])]


def trace_figures(row: Row, trace: Trace) -> Iterator[tuple[str, str, Figure]]:
    """(name, caption, figure) of the schedule of a method and of the signal it saw, its finest scale's."""
    method, tau, order = row.method, row.policy.get("tau"), row.policy.get("order")
    timesteps = trace.timesteps[0] if trace.timesteps else None
    schedule = figures.schedule_heatmap(trace.scales, timesteps=timesteps, title=method)
    yield f"schedule-{method}", f"Schedule of {method}: the scale of each step, prompt by prompt", schedule
    for scale, values in sorted((trace.signals or {}).items())[:1]:
        signal = figures.signal_heatmap(
            values,
            tau=tau,
            timesteps=timesteps,
            title=f"{method}, candidate scale {scale}",
            name=f"order-{order} signal" if order else "signal",  # a calibration has its own order
        )
        yield f"signal-{method}", f"Signal of {method} at candidate scale {scale}", signal


def region_figure(records: Sequence[Record], method: str) -> Figure | None:
    """The tilings of some steps of the first prompts over their pictures (of a clip: its middle frame);
    None where every step has one size."""
    shown = _with_regions(records)
    mixed = [[s for s in r.trace if s.sizes] for r in shown]
    fewest = min(map(len, mixed), default=0)
    if not fewest:
        return None
    maps = []
    for steps in mixed:
        picked = [steps[round(i)] for i in np.linspace(0, len(steps) - 1, min(fewest, REGION_STEPS))]
        maps.append([(f"step {s.index}, {_share(s)}", _middle(_sizes(s))) for s in picked])
    pictures = [_picture_under_regions(record) for record in shown]
    return figures.region_maps(pictures, maps, rows=[r.prompt for r in shown], title=method)


def region_film(records: Sequence[Record], method: str) -> list[Image.Image] | None:
    """The same with a frame for every step; None where every step has one size, or runs differ in length."""
    shown = _with_regions(records)
    if not shown or len({len(record.trace) for record in shown}) > 1:
        return None
    maps = []
    for record in shown:
        shape = _first_sizes(record).shape
        maps.append([_middle(_sizes(s) if s.sizes else np.full(shape, s.scale)) for s in record.trace])
    headings = [[_share(step) for step in record.trace] for record in shown]
    pictures = [_picture_under_regions(record) for record in shown]
    return figures.region_film(pictures, maps, headings=headings, title=method)


def _with_regions(records: Sequence[Record]) -> list[Record]:
    return [r for r in records if Path(r.image).exists() and any(s.sizes for s in r.trace)][:GRID_ROWS]


def _share(step: StepTrace) -> str:
    return f"{step.tokens / step.base_tokens:.0%} of tokens"


def _sizes(step: StepTrace) -> np.ndarray[Any, Any]:
    """(F, H, W) of a step of several sizes."""
    return figures.parse_sizes(step.sizes or "")


def _first_sizes(record: Record) -> np.ndarray[Any, Any]:
    return next(_sizes(step) for step in record.trace if step.sizes)


def _middle(sizes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of (F, H, W) the middle frame."""
    return sizes[len(sizes) // 2]


def _picture_under_regions(record: Record) -> np.ndarray[Any, Any]:
    """The picture, or the frame of the clip that the middle latent frame became."""
    latent = len(_first_sizes(record))
    with Image.open(record.image) as film:
        frames = getattr(film, "n_frames", 1)
        film.seek(round(latent // 2 / max(1, latent - 1) * (frames - 1)))
        return np.asarray(film.convert("RGB"))


def study(data: Study, columns: Mapping[str, Column], oracle: Oracle | None = None) -> Figure | None:
    """The Pareto front, its points on held-out prompts, and the oracle's where both measure the same (FLOPs
    and PSNR); None where no trial finished."""
    trials = []
    for trial in data.trials:
        stopped, values = trial.state == "PRUNED", trial.values or trial.partial or ()
        ended = stopped or trial.state == "COMPLETE"
        if ended and len(values) >= 2 and all(map(math.isfinite, values)):
            text = schedule_of(trial, brief=True)
            shown = figures.Trial(values[0], values[1], trial.pareto, text, is_feasible(trial), stopped)
            trials.append(shown)
    if not trials:
        return None
    at = {trial.number: (trial.values[0], trial.values[1]) for trial in data.trials if trial.values}
    confirmed = [
        figures.Confirmed(at[c.number], _triple(c.heldout.cost), _triple(c.heldout.quality))
        for c in data.confirmed
        if not math.isnan(c.heldout.quality.value)
    ]
    names = [objective.name for objective in data.objectives]
    bound = _oracle_curve(oracle) if oracle and names[:2] == ["relative_flops", "psnr"] else []
    cost = names[0].replace("relative_", "relative ").replace("flops", "FLOPs")
    quality = label(columns[names[1]]) if names[1] in columns else names[1].replace("-", " ")
    return figures.pareto_front(trials, names=(cost, quality), confirmed=confirmed, oracle=bound)


def _oracle_curve(oracle: Oracle) -> list[tuple[float, tuple[float, float, float]]]:
    """(cost, PSNR with its interval) of the oracle's schedules."""
    curve = [(row.cost, _triple(row.psnr)) for row in oracle.rows if row.family == "oracle"]
    return sorted(point for point in curve if all(map(math.isfinite, point[1])))


def chosen(results: Results, most: int = 8) -> list[str]:
    """The methods worth a look side by side: the base, then of each family the rows that save most."""
    rows = sorted(results.accelerated(), key=lambda row: -row.flop_ratio)
    by_family = {f: [r for r in rows if results.family(r) == f] for f in map(results.family, results.rows)}
    turns = [row.method for turn in zip_longest(*by_family.values()) for row in turn if row]
    picked = turns[: most - 1]
    return [results.quality.reference, *(r.method for r in results.rows if r.method in picked)]


def _grid(results: Results, records: Mapping[str, Sequence[Record]]) -> Figure | None:
    columns = [m for m in chosen(results) if m in records]
    if len(columns) < 2:
        return None
    shared = shared_pictures(records, columns)[:GRID_ROWS]
    if not shared:
        return None
    pictures, prompts = [[*files.values()] for _, files in shared], [prompt for prompt, _ in shared]
    notes = [note(results, m) for m in columns]
    return figures.picture_grid(pictures, columns=columns, rows=prompts, notes=notes)


def note(results: Results, method: str) -> str:
    """A method's speed-up and fidelity in one short line."""
    row = results.row(method)
    speed = results.speed(row)
    parts = [] if speed is None else [f"{speed.value:.2f}×{' FLOPs' if results.bad_clock else ''}"]
    for metric in results.of_role("fidelity")[:1]:
        if (quality := row.quality.get(metric)) and method != results.quality.reference:
            column = results.column(metric)
            parts.append(f"{number(quality.value, column.digits)} {column.unit}".strip())
    return ", ".join(parts)


def _step_times(results: Results) -> Figure | None:
    ddit = [row.method for row in firing(results)]
    rows = [results.timed(m) for m in (results.quality.reference, *ddit[:3])]
    times = [figures.StepTimes(row.method, row.by_step) for row in rows if row and row.by_step]
    return figures.time_per_step(times) if times else None


def _triple(interval: Interval) -> tuple[float, float, float]:
    """Without width where there is no interval."""
    if math.isnan(interval.low):
        return (interval.value,) * 3
    return (interval.value, interval.low, interval.high)
