"""The figures of a report, made from result files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ddit_eval import figures
from ddit_eval.figures.oracle import oracle_figure
from ddit_eval.judging.controls import fewer_steps_at
from ddit_eval.judging.frontier import schedule_of
from ddit_eval.judging.results import Json, Results, coarse_share
from ddit_eval.judging.wording import label, show
from ddit_eval.stats import Interval
from ddit_eval.system.films import write_film

GRID_ROWS = 4
REGION_STEPS = 5
FILM_FPS = 2
TRACED = ("DDiT", "budget", "calibrated", "region")


def write_figures(results: Results, folder: Path, records: dict[str, list[Json]]) -> dict[str, str]:
    """Write every figure that results and records allow to `folder`/figures and films to `folder`/films,
    take away older ones; paths by caption, in order."""
    made: dict[str, Path] = {}
    stills, films = folder / "figures", folder / "films"
    for name, caption, figure in _all(results, records):
        made[caption] = figures.save(figure, stills / name)
    films.mkdir(parents=True, exist_ok=True)
    for row in results.rows:
        method = row["method"]
        if frames := region_film(records.get(method, ()), method):
            caption = f"Patch sizes of {method}, step by step"
            made[caption] = write_film(frames, films / f"regions-{method}.gif", FILM_FPS)
    for old in {*stills.glob("*.*"), *films.glob("*.*")} - {*made.values()}:
        old.unlink()
    return {caption: path.relative_to(folder).as_posix() for caption, path in made.items()}


def _all(results: Results, records: dict[str, list[Json]]) -> Iterator[tuple[str, str, Figure]]:
    for metric in results.deciding():
        if figure := speed_quality(results, metric):
            yield f"speed-quality-{metric}", f"Measured speed-up against {label(metric)}", figure
    if results.oracle and results.oracle.get("rows") and "harm" in results.oracle:
        caption = "The harm of one coarse step, and every way of choosing the steps against the oracle"
        yield "oracle", caption, oracle_figure(results.oracle)
    if figure := _grid(results, records):
        yield "pictures", "The same prompts and noise by each method, the base first", figure
    if results.distillation:
        yield (
            "distillation",
            "Distillation error by timestep",
            figures.distillation_error(results.distillation),
        )
    if results.study and (figure := study(results.study, results.oracle)):
        yield "study", f"Pareto front of the study {results.study['study']}", figure
    for row in results.rows:
        if results.family(row) in TRACED and row["method"] in results.traces:
            yield from trace_figures(row, results.traces[row["method"]])
        if figure := region_figure(records.get(row["method"], ()), row["method"]):
            yield f"regions-{row['method']}", f"Patch sizes of {row['method']}, by region", figure
    if scales := (results.timing or {}).get("scales"):
        bars = [figures.Bar(*(row[k] for k in ("scale", "p50", "p95", "bound", "limit"))) for row in scales]
        yield (
            "roofline",
            "Time of a step by scale, against what the machine allows",
            figures.step_roofline(bars),
        )
    if figure := _step_times(results):
        yield "step-times", "Mean time of each denoising step by scale, in the timed runs", figure


def speed_quality(results: Results, metric: str, width: float = 7.0) -> Figure | None:
    """All timed methods; None where nothing was timed."""
    points = []
    for row in results.rows:
        speed, data = results.speed(row), row["quality"].get(metric)
        quality = Interval.from_json(data) if data else None
        if speed is not None and quality is not None and not math.isnan(quality.value):
            points.append(figures.Point(row["method"], results.family(row), _triple(speed), _triple(quality)))
    if len(points) < 2 or results.timing is None:
        return None
    null = results.timing.get("null")
    return figures.speed_quality(
        points,
        quality_name=label(metric),
        direction=results.direction(metric),
        width=width,
        null=_triple(Interval.from_json(null)) if null else None,
        frontier=_frontier(results, metric),
    )


def _frontier(results: Results, metric: str) -> list[tuple[float, float]]:
    """The interpolated fewer-steps curve that verdicts are read from, as (speed-up, mean quality)."""
    speeds = sorted(
        s.value
        for r in results.rows
        if results.family(r) == "fewer steps" and (s := results.speed(r)) is not None
    )
    if len(speeds) < 2:
        return []
    curve = []
    for i in range(41):
        speed = math.exp(math.log(speeds[0]) + i / 40 * math.log(speeds[-1] / speeds[0]))
        control = fewer_steps_at(results, min(max(speed, speeds[0]), speeds[-1]), metric)
        if control is not None:
            asked = control.values[~(control.values != control.values)]  # nan is unequal to itself
            curve.append((control.speed, float(asked.mean())))
    return [point for point in curve if math.isfinite(point[1])]


def trace_figures(row: Json, trace: Json) -> Iterator[tuple[str, str, Figure]]:
    """(name, caption, figure) of the schedule of a method and of the signal it saw, its finest scale's."""
    method, tau, order = row["method"], row["policy"].get("tau"), row["policy"].get("order")
    timesteps = trace["timesteps"][0] if trace.get("timesteps") else None
    schedule = figures.schedule_heatmap(trace["scales"], timesteps=timesteps, title=method)
    yield f"schedule-{method}", f"Schedule of {method}: the scale of each step, prompt by prompt", schedule
    for scale in sorted(trace.get("signals") or {}, key=int)[:1]:
        signal = figures.signal_heatmap(
            trace["signals"][scale],
            tau=tau,
            timesteps=timesteps,
            title=f"{method}, candidate scale {scale}",
            name=f"order-{order} signal" if order else "signal",  # a calibration has its own order
        )
        yield f"signal-{method}", f"Signal of {method} at candidate scale {scale}", signal


def region_figure(records: Sequence[Json], method: str) -> Figure | None:
    """The tilings of some steps of the first prompts over their pictures (of a clip: its middle frame);
    None where every step has one size."""
    shown = _with_regions(records)
    mixed = [[s for s in r["trace"] if "sizes" in s] for r in shown]
    fewest = min(map(len, mixed), default=0)
    if not fewest:
        return None
    maps = []
    for steps in mixed:
        picked = [steps[round(i)] for i in np.linspace(0, len(steps) - 1, min(fewest, REGION_STEPS))]
        maps.append(
            [(f"step {s['index']}, {_share(s)}", _middle(figures.parse_sizes(s["sizes"]))) for s in picked]
        )
    pictures = [_picture_under_regions(record) for record in shown]
    return figures.region_maps(pictures, maps, rows=[r["prompt"] for r in shown], title=method)


def region_film(records: Sequence[Json], method: str) -> list[Image.Image] | None:
    """The same with a frame for every step; None where every step has one size, or runs differ in length."""
    shown = _with_regions(records)
    if not shown or len({len(record["trace"]) for record in shown}) > 1:
        return None
    maps = []
    for record in shown:
        shape = _middle(figures.parse_sizes(next(s["sizes"] for s in record["trace"] if "sizes" in s))).shape
        maps.append(
            [
                _middle(figures.parse_sizes(s["sizes"])) if "sizes" in s else np.full(shape, s["scale"])
                for s in record["trace"]
            ]
        )
    headings = [[_share(step) for step in record["trace"]] for record in shown]
    pictures = [_picture_under_regions(record) for record in shown]
    return figures.region_film(pictures, maps, headings=headings, title=method)


def _with_regions(records: Sequence[Json]) -> list[Json]:
    return [r for r in records if r["image"].exists() and any("sizes" in s for s in r["trace"])][:GRID_ROWS]


def _share(step: Json) -> str:
    return f"{step['tokens'] / step['base_tokens']:.0%} of tokens"


def _middle(sizes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of (F, H, W) the middle frame."""
    return sizes[len(sizes) // 2]


def _picture_under_regions(record: Json) -> np.ndarray[Any, Any]:
    """The picture, or the frame of the clip that the middle latent frame became."""
    latent = len(figures.parse_sizes(next(s["sizes"] for s in record["trace"] if "sizes" in s)))
    with Image.open(record["image"]) as film:
        frames = getattr(film, "n_frames", 1)
        film.seek(round(latent // 2 / max(1, latent - 1) * (frames - 1)))
        return np.asarray(film.convert("RGB"))


def study(data: Json, oracle: Json | None = None) -> Figure | None:
    """The Pareto front, its points on held-out prompts, and the oracle's where both measure the same (FLOPs
    and PSNR); None where no trial finished."""
    trials = []
    for trial in data["trials"]:
        stopped = trial["state"] == "PRUNED"
        values = [float(v) for v in trial["values"] or trial.get("partial") or () if v is not None]
        if trial["state"] not in ("COMPLETE", "PRUNED") or len(values) < 2:
            continue
        if not all(map(math.isfinite, values)):
            continue
        feasible = not any(c > 0 for c in trial.get("constraints") or ())
        pareto, text = bool(trial["pareto"]), schedule_of(trial, brief=True)
        trials.append(figures.Trial(values[0], values[1], pareto, text, feasible, stopped))
    if not trials:
        return None
    points = {trial["number"]: trial["values"] for trial in data["trials"]}
    confirmed = [
        figures.Confirmed(
            tuple(points[c["number"]]), _interval(c["heldout"]["cost"]), _interval(c["heldout"]["quality"])
        )
        for c in data.get("confirmed", ())
        if c["heldout"]["quality"]["value"] is not None
    ]
    names = [o["name"] if isinstance(o, dict) else str(o) for o in data["objectives"]]
    bound = _oracle_curve(oracle) if oracle and names[:2] == ["relative_flops", "psnr"] else []
    cost, quality = (label(n.replace("relative_", "relative ").replace("flops", "FLOPs")) for n in names[:2])
    return figures.pareto_front(trials, names=(cost, quality), confirmed=confirmed, oracle=bound)


def _oracle_curve(oracle: Json) -> list[tuple[float, tuple[float, float, float]]]:
    """(cost, PSNR with its interval) of the oracle's schedules."""
    rows = [r for r in oracle["rows"] if r["family"] == "oracle" and r["psnr"]["value"] is not None]
    curve = [(float(r["cost"]), _interval(r["psnr"])) for r in rows]
    return sorted(point for point in curve if all(map(math.isfinite, point[1])))


def _interval(data: Json) -> tuple[float, float, float]:
    return _triple(Interval.from_json(data))


def chosen(results: Results, most: int = 8) -> list[str]:
    """The methods worth a look side by side: the base, then of each family the rows that save most."""
    families = ("fewer steps", "static coarse", "random", "budget", "calibrated", "region", "DDiT")
    rows = [r for r in results.rows if coarse_share(r) > 0 or results.family(r) == "fewer steps"]
    rows.sort(key=lambda row: -row["flop_ratio"])
    by_family = {f: [r for r in rows if results.family(r) == f] for f in families}
    picked: list[str] = []
    for turn in range(most):
        for same in by_family.values():
            if turn < len(same) and len(picked) < most - 1:
                picked.append(same[turn]["method"])
    order = [r["method"] for r in results.rows]
    return [results.quality["reference"], *sorted(picked, key=order.index)]


def _grid(results: Results, records: dict[str, list[Json]]) -> Figure | None:
    columns = [m for m in chosen(results) if m in records]
    if len(columns) < 2:
        return None
    images = {m: {r["index"]: r["image"] for r in records[m] if r["image"].exists()} for m in columns}
    prompts = {r["index"]: r["prompt"] for r in records[columns[0]]}
    indices = [i for i in sorted(prompts) if all(i in images[m] for m in columns)][:GRID_ROWS]
    if not indices:
        return None
    notes = [note(results, m) for m in columns]
    return figures.picture_grid(
        [[images[m][i] for m in columns] for i in indices],
        columns=columns,
        rows=[prompts[i] for i in indices],
        notes=notes,
    )


def note(results: Results, method: str) -> str:
    """A method's speed-up and fidelity in one short line."""
    row = results.row(method)
    speed = results.speed(row)
    psnr = row["quality"].get("psnr")
    parts = [] if speed is None else [f"{speed.value:.2f}×"]
    if psnr and method != results.quality["reference"]:
        parts.append(show(Interval.from_json(psnr), "psnr").split(" ")[0] + " dB")
    return ", ".join(parts)


def _step_times(results: Results) -> Figure | None:
    ddit = [r["method"] for r in results.rows if results.family(r) == "DDiT" and coarse_share(r) > 0]
    rows = [results.timed(m) for m in (results.quality["reference"], *ddit[:3])]
    times = [
        figures.StepTimes(row["method"], [{int(s): t for s, t in step.items()} for step in row["by_step"]])
        for row in rows
        if row and row.get("by_step")
    ]
    return figures.time_per_step(times) if times else None


def _triple(interval: Interval) -> tuple[float, float, float]:
    return (interval.value, interval.low, interval.high)
