"""The oracle against everything, on held-out prompts: what goes into oracle.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ddit_eval import stats
from ddit_eval.ddit.policies import Base
from ddit_eval.ddit.policies.calibration import Calibration
from ddit_eval.errors import DditError
from ddit_eval.experiment.belongs import asked
from ddit_eval.experiment.config import Method
from ddit_eval.experiment.generate import Generator
from ddit_eval.experiment.prompts import Prompt, load_prompts
from ddit_eval.experiment.records import code_hash
from ddit_eval.experiment.setting import Setting
from ddit_eval.oracle.bench import CODE, Bench
from ddit_eval.oracle.calibrate import CALIBRATION
from ddit_eval.oracle.gap import additivity, gap, quality
from ddit_eval.oracle.measure import Pictures, mean_squared_error
from ddit_eval.oracle.schedules import Entry, marginals, matched, schedules, sweep
from ddit_eval.schema.kept import Kept, kept, known
from ddit_eval.schema.oracle import Gap, Harm, Oracle, Row
from ddit_eval.system.files import digest
from ddit_eval.system.progress import Progress, quiet
from ddit_eval.system.workers import a_thread_each, beside, check_workers


def compare(
    bench: Bench,
    calibration: Calibration,
    state: Path,
    *,
    tuning: Sequence[Prompt] | None = None,
    workers: int = 1,
    progress: Progress = quiet,
) -> Oracle:
    """Everything against the oracle at equal shares of the base's FLOPs, as the experiment's `oracle` says.

    tuning: where the threshold's tau is matched (default: half of the calibration prompts). workers:
    processes, each of which loads the model itself. Everything measured is kept under `state`, so that a
    second call after a kill goes on.
    """
    check_workers(workers)
    experiment = bench.setting.experiment
    steps, settings = experiment.steps, experiment.oracle
    if other := foreign(calibration, bench):
        raise DditError(
            f"the calibration was measured on another {' and another '.join(other)}; measure it again with "
            "`ddit-eval calibrate`"
        )
    costs, every = settings.costs, settings.every
    prompts = bench.setting.prompts[: settings.prompts]
    tuning = tuning or load_prompts(CALIBRATION)[: CALIBRATION.count // 2]
    matching = (tuning, steps, calibration.scales, state)
    with a_thread_each():
        with _beside(bench, sweep, [matching] if workers > 1 else []):
            table = bench.table(prompts, steps, state, every, progress)
        taus = matched(*sweep(bench, *matching, progress=progress), costs)
        mean = marginals(calibration, steps)
        entries = list(schedules(bench, table, mean, calibration, costs, taus, steps))
        folder = bench.folder(prompts, steps, state)
        todo = [entry for entry in entries if known(_path(bench, entry, folder), Kept) is None]
        todo.sort(key=lambda entry: not entry.apart)  # those that take long are dealt out evenly
        shares = [(todo[i::workers], prompts, steps, folder) for i in range(workers)]
        with _beside(bench, measure_rows, [share for share in shares[1:] if share[0]]):
            measure_rows(bench, *shares[0], progress=progress)
        measured = measure_rows(bench, entries, prompts, steps, folder, progress=progress)
    errors = {name: found for name, (found, _) in measured.items()}
    rows = [_row(bench, entry, *measured[entry.name]) for entry in entries]
    log_harm = np.log(np.maximum(table.harm, 1e-12))
    return Oracle(
        asked=asked(experiment, Oracle),
        profile=experiment.profile,
        n=len(prompts),
        steps=steps,
        costs=costs,
        every=every,
        calibration=calibration.digest,
        rows=tuple(rows),
        gap=tuple(_gaps(rows, errors)),
        additivity=tuple(additivity({e.name: e.harm for e in entries if e.harm is not None}, errors)),
        harm=Harm(
            scales=table.scales,
            mean=table.harm.mean(0).T.tolist(),
            quartiles=[np.exp(np.quantile(log_harm, q, 0)).T.tolist() for q in (0.25, 0.75)],  # type: ignore[arg-type]
        ),
    )


def measure_rows(
    bench: Bench,
    entries: Sequence[Entry],
    prompts: Sequence[Prompt],
    steps: int,
    folder: Path,
    *,
    progress: Progress = quiet,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, tuple[list[float], float]]:
    """By name: the mean squared error to the base's picture by prompt, and the cost as a share of the base's
    run of `steps`. Each is kept in `folder`. stop: asked before each."""
    found: dict[str, tuple[list[float], float]] = {}

    @cache
    def base(apart: bool) -> Pictures:
        """In calls of as many samples as the row's: others round differently."""
        if apart:
            return bench.alone(prompts, steps, [Base()] * len(prompts))[0]
        return bench.pictures(prompts, steps)

    def row(entry: Entry) -> tuple[list[float], float]:
        if entry.apart:
            pictures, each = bench.alone(prompts, entry.steps, entry.policies)
        else:
            pictures = bench.pictures(prompts, entry.steps, entry.policies[0])
            each = [bench.share([s.scale for s in bench.generator.handle.trace])]
        cost = float(np.mean(each)) * entry.steps / steps
        return mean_squared_error(pictures, base(entry.apart)), cost

    for number, entry in enumerate(entries):
        if stop():
            break
        progress(number, len(entries), entry.name)
        errors, cost = kept(_path(bench, entry, folder), partial(row, entry))
        found[entry.name] = errors, cost
    progress(len(entries), len(entries), "done")
    return found


def _path(bench: Bench, entry: Entry, folder: Path) -> Path:
    """Where a row is kept: named by all that decides it."""
    policies = [policy.model_dump(mode="json") for policy in entry.policies]
    key = digest([policies, entry.steps, bench.cost, code_hash(*CODE)])
    return folder / f"row-{key}.json"


def _beside(
    bench: Bench, work: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
) -> AbstractContextManager[None]:
    """A process for each of `calls`, which does `work` of it at a bench like this one."""
    same = (bench.setting, bench.batch, bench.cost, work)
    return beside(_help, [(*same, call) for call in calls])


def _help(
    setting: Setting,
    batch: int,
    cost: dict[int, float],
    work: Callable[..., Any],
    call: tuple[Any, ...],
    *,
    stop: Callable[[], bool],
) -> None:
    """A worker in a process of its own."""
    from ddit_eval.system.quiet import quiet_libraries

    quiet_libraries()  # it has no command line that has done so
    with a_thread_each(), Generator(setting) as generator:
        bench = Bench(generator, batch)
        bench.cost = cost
        work(bench, *call, stop=stop)


def foreign(calibration: Calibration, bench: Bench) -> list[str]:
    """Which of model and adapter are not those that the calibration was measured on."""
    weights = bench.setting.weights
    hashes = {"model": weights.model_hash, "adapter": weights.adapter_hash}
    known = calibration.made
    return [what for what, now in hashes.items() if known.get(f"{what}_hash", now) != now]


def _row(bench: Bench, entry: Entry, errors: list[float], cost: float) -> Row:
    psnr = [-10 * np.log10(e) if e > 0 else np.inf for e in errors]
    first = entry.policies[0]
    of = bench.setting.measured(Method(name="row", policy=first, steps=entry.steps))
    if any(policy != first for policy in entry.policies):
        schedules = [list(policy.scales) for policy in entry.policies]
        of = of.model_copy(update={"policy": {"kind": "oracle", "schedules": schedules}})
    return Row(
        name=entry.name,
        family=entry.family,
        of=of,
        steps=entry.steps,
        cost=cost,
        psnr=stats.mean(psnr),
        mse=stats.mean(errors),
        schedule=entry.schedule,
    )


def _gaps(rows: Sequence[Row], errors: dict[str, list[float]]) -> list[Gap]:
    """Each row that chooses its steps against each family of fixed schedules."""
    curves: dict[str, list[tuple[float, list[float]]]] = {}
    for row in rows:
        curves.setdefault(row.family, []).append((row.cost, quality(errors[row.name]).tolist()))
    found = []
    for row in rows:
        if row.family not in ("shared oracle", "calibrated", "DDiT"):
            continue
        ours = quality(errors[row.name]).tolist()
        for fixed in ("coarse-first", "fine-first", "random", "fewer steps"):
            closed = gap(row.cost, ours, curves[fixed], curves["oracle"])
            found.append(Gap(name=row.name, fixed=fixed, **dict(closed)))
    return found
