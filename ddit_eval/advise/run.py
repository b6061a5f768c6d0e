"""From an experiment and speed-ups to an answer: search, time, confirm on held-out prompts, write down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ddit_eval import metrics, stats
from ddit_eval.advise.estimate import TIMING, Estimate, estimate
from ddit_eval.advise.pick import KINDS, SLACK, Found, best, fastest
from ddit_eval.advise.search import arms_of, left_out, pace, place_of, search, space_of
from ddit_eval.advise.ways import Plans
from ddit_eval.clock import machine
from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.policies import Base
from ddit_eval.errors import DditError
from ddit_eval.experiment.belongs import asked
from ddit_eval.experiment.config import Experiment, FilePrompts, Method, Study
from ddit_eval.experiment.evaluate import evaluate
from ddit_eval.experiment.generate import generate
from ddit_eval.experiment.prompts import load_prompts
from ddit_eval.experiment.samples import Samples, read_samples
from ddit_eval.experiment.setting import Setting
from ddit_eval.experiment.time import time_experiment
from ddit_eval.rivals.row import Rival, Scheduler
from ddit_eval.rivals.rows import check
from ddit_eval.schema import Frontier, Quality, Timing, read, write
from ddit_eval.schema.frontier import Target, Way
from ddit_eval.schema.timing import Row
from ddit_eval.study import latency
from ddit_eval.study import run as study_of
from ddit_eval.study.storage import Location
from ddit_eval.study.trial import row_of
from ddit_eval.system.files import check_writable, sweep, write_bytes
from ddit_eval.system.progress import Progress, quiet
from ddit_eval.system.read import read_bytes
from ddit_eval.system.workers import check_workers

BASE = "base"
TIMES = 3  # at most: rows that were slower than predicted are replaced by others
ROUNDS = 100  # at most: it is the minutes that limit them
Stage = Callable[[str], Progress]


@dataclass
class Wanted:
    """A place in the answer, the row that is there, and what it is called."""

    speed_up: float
    kind: str
    found: Found | None = None
    name: str = ""


def advise(
    experiment: Experiment,
    results: Path,
    runs: Path,
    state: Path = Path(".state"),
    *,
    workers: int = 1,
    storage: str | None = None,
    pipe: Any = None,
    say: Callable[[str], None] = lambda line: None,
    stage: Stage = lambda name: quiet,
) -> Frontier:
    """The best ways to each of the experiment's `advise.speed_ups`; written to `results`/frontier.json.

    results, runs: folders of the experiment; what is confirmed lies in `advise` below each, like an
    experiment of its own. say: gets a line on what is left out, and on how long it will take. Killed, the
    next call goes on. Raises `DditError` before anything is computed where it cannot be done.
    """
    experiment, held = possible(experiment, say), held_out(experiment)
    for folder in (results, runs, state):
        check_writable(folder)
        sweep(folder)
    check_workers(workers, pipe)
    for name in held.metrics:
        if why := metrics.get(name).missing():
            raise DditError(why)
    scales = Adapter.from_pretrained(experiment.adapter).scales if experiment.adapter else ()
    space = space_of(experiment, scales)
    place = place_of(experiment, space, state, storage)
    table = study_of.shared_table(place, latency.table_of(Setting(experiment), state, pipe))
    arms = arms_of(experiment, scales, table, space)
    plans = [ways for ways in arms.ways.values() if isinstance(ways, Plans)]
    most = max(ways.fastest for ways in plans)
    if beyond := [speed for speed in experiment.advise.speed_ups if speed > most]:
        raise DditError(
            f"{beyond[0]:g}x is out of reach: the fastest plan, a single step, is {most:.1f}x; ask for less"
        )
    least, count = max(len(ways.starts()) for ways in plans), len(arms.ways)
    spent = estimate(experiment.advise, table, experiment.steps, count, least, workers)
    say(str(spent))
    look = partial(
        search, experiment, space, arms, table, place, workers=workers, pipe=pipe, progress=stage("trials")
    )
    trials = experiment.advise.trials or fitting(look, place, space, spent, count, experiment.advise.minutes)
    tried = look(trials * count)
    wanted = [Wanted(speed, kind) for speed in sorted(experiment.advise.speed_ups) for kind in KINDS]
    times, rows = timed(held, wanted, tried, state / place.name, pipe, stage("timed runs"))
    timing = published(times, results / "advise") if times else None
    generate(rows, runs / "advise", pipe=pipe, workers=workers, progress=stage("pictures"))
    quality = evaluate(rows, runs / "advise", results / "advise", sights=False, progress=stage("methods"))
    samples, _ = read_samples(results / "advise" / "samples.csv", quality)
    metric = metrics.get(experiment.advise.quality).columns[0].name
    frontier = Frontier(
        asked=asked(experiment, Frontier),
        profile=experiment.profile,
        model=experiment.model,
        machine=timing.machine if timing else machine.describe(),
        metric=metric,
        tuning=experiment.advise.prompts,
        heldout=quality.n,
        trials=dict.fromkeys(arms.ways, trials),
        targets=targets_of(wanted, tried, quality, timing, samples, metric),
        clock=timing.bad if timing else None,
    )
    write(results / "frontier.json", frontier)
    return frontier


def fitting(
    look: Callable[[int], list[Found]],
    place: Location,
    space: Study,
    spent: Estimate,
    count: int,
    minutes: float,
) -> int:
    """Trials of each of `count` searches that fit into `minutes`, by the pace of the first, which it runs.

    Decided once and kept with the study, so that a call that goes on ends as the one that was killed.
    """
    study, name = place.open(), f"trials in {minutes:g} minutes"
    if name not in study.user_attrs:
        look(spent.first * count)
        taken, of_one = pace(study, space)
        study.set_user_attr(name, spent.paced(taken, of_one * count / space.generation))
    return int(study.user_attrs[name])


def possible(experiment: Experiment, say: Callable[[str], None]) -> Experiment:
    """The experiment with what its model can be tried with; `say` is told what is left out.

    Raises `DditError` where the model cannot run a cache that is asked for, or where its reference is not the
    unchanged model.
    """
    base, wanted = experiment.method(experiment.reference), experiment.advise
    if base.beside or base.policy != Base() or experiment.steps_of(base) != experiment.steps:
        raise DditError(
            f"advise holds all against the unchanged model at {experiment.steps} steps, and the reference "
            f"{base.name!r} is another row; name a plain one as `reference`"
        )
    if lost := [method.name for method in left_out(experiment)]:
        say(f"not searched, as no table knows what their steps take: {', '.join(lost)}")
    calls = Setting(experiment).calls
    plain = Rival(scheduler=Scheduler(shift=2.0))
    try:
        check(experiment.model, plain, calls, experiment.steps)
    except DditError as error:
        say(f"solvers and time schedules are not searched: {error}")
        wanted = wanted.model_copy(update={"solver": ("own",), "shift": (1.0, 1.0)})
    for cache in wanted.cache:
        check(experiment.model, Rival(cache=cache), calls, experiment.steps)
    return experiment.model_copy(update={"advise": wanted})


def held_out(experiment: Experiment) -> Experiment:
    """The same on held-out prompts, its rows yet to be chosen."""
    source, wanted = experiment.prompts, experiment.advise
    if isinstance(source, FilePrompts):
        there, count = len(load_prompts(source)), wanted.heldout
        if there - wanted.prompts < 2:
            raise DditError(
                f"advise: {source.path} has {there} prompts, of which {wanted.prompts} are to tune on and "
                "others to confirm; lengthen it or lower `advise.prompts`"
            )
        start, count = source.start + wanted.prompts, min(count, there - wanted.prompts)
        source = source.model_copy(update={"start": start, "count": count})
    else:
        source = source.model_copy(update={"count": wanted.heldout})
    minutes = wanted.minutes * TIMING
    return experiment.model_copy(
        update={
            "prompts": source,
            "methods": (Method(name=BASE),),
            "reference": BASE,
            "metrics": tuple(dict.fromkeys([wanted.quality, *experiment.metrics])),
            "sets": None,
            "timing": experiment.timing.model_copy(
                update={"methods": None, "compile": False, "minutes": minutes, "most": ROUNDS}
            ),
        }
    )


def chosen(wanted: Sequence[Wanted], tried: Sequence[Found]) -> list[Method]:
    """Fill each place with the best row for it; the rows, none twice, the base first."""
    rows: dict[str, Method] = {}
    for place in wanted:
        place.found = best(filter(KINDS[place.kind], tried), place.speed_up)
        if place.found is None:
            continue
        name = f"{place.kind.replace('_', '-')}-{place.speed_up:g}x"
        same = [n for n, m in rows.items() if row_of(m) == row_of(place.found.method)]
        place.name = same[0] if same else name
        rows.setdefault(place.name, place.found.method.model_copy(update={"name": name}))
    return [Method(name=BASE), *rows.values()]


def timed(
    held: Experiment,
    wanted: Sequence[Wanted],
    tried: list[Found],
    folder: Path,
    pipe: Any,
    progress: Progress,
) -> tuple[Path | None, Experiment]:
    """Time the rows of all places; what each really takes is put into `tried`, so that one which misses its
    speed-up makes room for the next best. The file of the last times, and the experiment of what remains.

    Each turn's times stay in `folder`: what is measured once is not again, so that a call that was killed and
    one that comes later give the same answer.
    """
    for turn in range(TIMES):
        rows = held.model_copy(update={"methods": tuple(chosen(wanted, tried))})
        if len(rows.methods) == 1:
            return None, rows
        file = folder / f"times-{turn + 1}" / "timing.json"
        timing = kept(file, rows) or time_experiment(rows, file, pipe=pipe, progress=progress)
        if timing.bad or turn == TIMES - 1:
            break
        for place in wanted:
            row = timing.row(place.name) if place.found else None
            for at, found in enumerate(tried):
                if row and place.found and row_of(found.method) == row_of(place.found.method):
                    tried[at] = replace(found, cost=1 / row.speedup.value, timed=True)
        if {m.name: row_of(m) for m in chosen(wanted, tried)} == {m.name: row_of(m) for m in rows.methods}:
            break
    return file, rows


def kept(file: Path, rows: Experiment) -> Timing | None:
    """The times of an earlier call, where they are of these very rows."""
    if not file.exists():
        return None
    try:
        timing = read(file, Timing)
    except DditError:
        return None
    setting = Setting(rows)
    same = {row.method: row.of for row in timing.rows} == {m.name: setting.measured(m) for m in rows.methods}
    return timing if same and timing.asked == asked(rows, Timing) else None


def published(file: Path, folder: Path) -> Timing:
    """The times in `file`, which are copied to `folder` with the raw ones beside them."""
    timing = read(file, Timing)
    for name in (*timing.files, file.name):
        write_bytes(folder / name, read_bytes(file.with_name(name)))
    return timing


def targets_of(
    wanted: Sequence[Wanted],
    tried: Sequence[Found],
    quality: Quality,
    timing: Timing | None,
    samples: Samples,
    metric: str,
) -> tuple[Target, ...]:
    """The answer by speed-up."""
    made: list[Target] = []
    for speed in dict.fromkeys(place.speed_up for place in wanted):
        places = {p.kind: p for p in wanted if p.speed_up == speed}
        ways = {kind: _way(place, quality, timing, metric) for kind, place in places.items()}
        one, other = ways["best"], ways["best_without_coarse"]
        gain = {}
        if one and other:
            mine, theirs = (samples[places[kind].name] for kind in ("best", "best_without_coarse"))
            gain = {n: stats.paired_difference(values, theirs[n]) for n, values in mine.items()}
        made.append(Target(speed_up=speed, gain=gain, note=_note(places, tried, timing), **ways))
    return tuple(made)


def _note(places: Mapping[str, Wanted], tried: Sequence[Found], timing: Timing | None) -> str | None:
    """What is out of reach, and how far one gets."""
    said = []
    for kind, what in (("best", "row"), ("best_without_coarse", "row without coarse patches"),
                       ("best_ddit", "DDiT row")):  # fmt: skip
        place = places[kind]
        if place.found is None:
            most = fastest(filter(KINDS[kind], tried))
            how = "" if most and most.timed else ", as predicted"
            said.append(
                f"the fastest {what} is {most.speed_up:.1f}x{how}" if most else f"no {what} was tried"
            )
        elif (row := _row(place, timing)) and row.speedup.value < place.speed_up * (1 - SLACK):
            said.append(f"{place.name} reaches only {row.speedup.value:.2f}x")
    return "; ".join(dict.fromkeys(said)) or None


def _row(place: Wanted, timing: Timing | None) -> Row | None:
    return timing.row(place.name) if timing and not timing.bad else None


def _way(place: Wanted, quality: Quality, timing: Timing | None, metric: str) -> Way | None:
    if place.found is None:
        return None
    row = quality.row(place.name)
    time = _row(place, timing)
    return Way(
        name=place.name,
        of=row.of,
        row=row_of(place.found.method),
        coarse=place.found.coarse,
        speedup=time.speedup if time else None,
        flop_ratio=row.flop_ratio,
        tuned={metric: place.found.tuned} if place.found.tuned else {},
        quality=row.quality,
        difference=row.difference,
    )
