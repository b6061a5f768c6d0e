"""From an experiment and speed-ups to an answer: search, time, confirm on held-out prompts, write down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddit_eval import metrics, stats
from ddit_eval.advise.estimate import estimate
from ddit_eval.advise.pick import KINDS, SLACK, Found, best, fastest
from ddit_eval.advise.search import arms_of, search, space_of
from ddit_eval.advise.ways import Plans
from ddit_eval.clock import machine
from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.errors import DditError
from ddit_eval.experiment.belongs import asked
from ddit_eval.experiment.config import Experiment, FilePrompts, Method
from ddit_eval.experiment.evaluate import evaluate
from ddit_eval.experiment.generate import generate
from ddit_eval.experiment.samples import Samples, read_samples
from ddit_eval.experiment.setting import Setting
from ddit_eval.experiment.time import time_experiment
from ddit_eval.schema import Frontier, Quality, Timing, write
from ddit_eval.schema.frontier import Target, Way
from ddit_eval.study import latency
from ddit_eval.study.trial import row_of
from ddit_eval.system.files import check_writable, sweep
from ddit_eval.system.progress import Progress, quiet
from ddit_eval.system.workers import check_workers

BASE = "base"
TIMES = 2  # how often rows that were slower than predicted are replaced by faster ones
Stage = Callable[[str], Progress]


@dataclass
class Wanted:
    """A place in the answer. `factor`: by how much rows turned out slower than predicted."""

    speed_up: float
    kind: str
    factor: float = 1.0
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
    experiment of its own. say: gets a line on how long it will take. Killed, the next call goes on.
    Raises `DditError` before anything is computed where it cannot be done.
    """
    held = held_out(experiment)
    for folder in (results / "advise", runs / "advise", state):
        check_writable(folder)
        sweep(folder)
    check_workers(workers, pipe)
    for name in dict.fromkeys([experiment.advise.quality, *experiment.metrics]):
        if why := metrics.get(name).missing():
            raise DditError(why)
    scales = Adapter.from_pretrained(experiment.adapter).scales if experiment.adapter else ()
    table = latency.table_of(Setting(experiment), state, pipe)
    count = 3 if scales else 1
    spent = estimate(experiment.advise, table, experiment.steps, count, workers, min(held.timing.prompts, 32))
    say(str(spent))
    space = space_of(experiment, scales, spent.trials, count)
    arms = arms_of(experiment, scales, table, space)
    most = max(ways.fastest for ways in arms.ways.values() if isinstance(ways, Plans))
    if beyond := [speed for speed in experiment.advise.speed_ups if speed > most]:
        raise DditError(
            f"{beyond[0]:g}x is out of reach: the fastest plan, a single step, is {most:.1f}x; ask for less"
        )
    tried = search(
        experiment, space, arms, table, state,
        storage=storage, workers=workers, pipe=pipe, progress=stage("trials"),
    )  # fmt: skip
    wanted = [Wanted(speed, kind) for speed in sorted(experiment.advise.speed_ups) for kind in KINDS]
    timing, rows = timed(held, wanted, tried, results / "advise" / "timing.json", pipe, stage("timed runs"))
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
        trials=dict.fromkeys(arms.ways, spent.trials),
        targets=targets_of(wanted, tried, quality, timing, samples, metric),
        clock=getattr(timing, "bad", None),
    )
    write(results / "frontier.json", frontier)
    return frontier


def held_out(experiment: Experiment) -> Experiment:
    """The same on held-out prompts, its rows yet to be chosen."""
    source, wanted = experiment.prompts, experiment.advise
    if isinstance(source, FilePrompts):
        start, count = source.start + wanted.prompts, wanted.heldout
        source = source.model_copy(update={"start": start, "count": count})
        if (there := len(Setting(experiment.model_copy(update={"prompts": source})).prompts)) < 2:
            raise DditError(
                f"advise: {source.path} has {wanted.prompts + there} prompts, of which {wanted.prompts} are "
                "to tune on and others to confirm; lengthen it or lower `advise.prompts`"
            )
    else:
        source = source.model_copy(update={"count": wanted.heldout})
    return experiment.model_copy(
        update={
            "prompts": source,
            "methods": (Method(name=BASE),),
            "reference": BASE,
            "sets": None,
            "timing": experiment.timing.model_copy(update={"methods": None, "compile": False}),
        }
    )


def chosen(wanted: Sequence[Wanted], tried: Sequence[Found]) -> list[Method]:
    """Fill each place with the best row for it; the rows, none twice, the base first."""
    rows: dict[str, Method] = {}
    for place in wanted:
        place.found = best(filter(KINDS[place.kind], tried), place.speed_up * place.factor)
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
    tried: Sequence[Found],
    file: Path,
    pipe: Any,
    progress: Progress,
) -> tuple[Timing | None, Experiment]:
    """Time the rows of all places; one that misses its speed-up makes room for a faster one. The experiment
    of those that remain."""
    for turn in range(TIMES + 1):
        rows = held.model_copy(update={"methods": tuple(chosen(wanted, tried))})
        if len(rows.methods) == 1:
            return None, rows
        timing = time_experiment(rows, file, pipe=pipe, progress=progress)
        if turn == TIMES or getattr(timing, "bad", None):
            break
        late = [p for p in wanted if p.found and _missed(timing, p) > 1]
        for place in late:
            assert place.found is not None
            row = timing.row(place.name)
            assert row is not None
            place.factor = max(place.factor * 1.01, place.found.speed_up / row.speedup.value)
        if not late:
            break
    return timing, rows


def _missed(timing: Timing, place: Wanted) -> float:
    """By what factor a row was slower than asked for, beyond what is allowed."""
    row = timing.row(place.name)
    return 0.0 if row is None else place.speed_up * (1 - SLACK) / row.speedup.value


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
        made.append(Target(speed_up=speed, gain=gain, note=_note(places, tried), **ways))
    return tuple(made)


def _note(places: Mapping[str, Wanted], tried: Sequence[Found]) -> str | None:
    """What is out of reach, and how far one gets."""
    said = []
    for kind, what in (("best", "row"), ("best_without_coarse", "row without coarse patches"),
                       ("best_ddit", "DDiT row")):  # fmt: skip
        if places[kind].found is None:
            most = fastest(filter(KINDS[kind], tried))
            said.append(f"the fastest {what} is {most.speed_up:.1f}x" if most else f"no {what} was tried")
        if kind == "best" and said:
            break
    return "; ".join(said) or None


def _way(place: Wanted, quality: Quality, timing: Timing | None, metric: str) -> Way | None:
    if place.found is None:
        return None
    row = quality.row(place.name)
    time = timing.row(place.name) if timing and not getattr(timing, "bad", None) else None
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
