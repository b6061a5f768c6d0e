"""The oracle against everything, on held-out prompts: what goes into oracle.json."""

from __future__ import annotations

import hashlib
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddit_eval import stats
from ddit_eval.config import Experiment, Method, WorldPrompts
from ddit_eval.cost import flop_table
from ddit_eval.files import canonical, read_json, write_json
from ddit_eval.generate import Generator, describe_weights, job_of, size_of
from ddit_eval.harm.calibration import Calibration
from ddit_eval.harm.fit import fit
from ddit_eval.harm.gap import additivity, gap, quality
from ddit_eval.harm.measure import Pictures, Progress, draw, mean_squared_error, measure
from ddit_eval.harm.oracle import best, total
from ddit_eval.harm.table import HarmTable
from ddit_eval.policies import Base, Calibrated, Explicit, Threshold
from ddit_eval.prompts import Prompt, load_prompts, prompts_hash
from ddit_eval.records import PICTURE_CODE, code_hash

if TYPE_CHECKING:
    from ddit_eval.policies import Policy
    from ddit_eval.records import Job

CODE = (*PICTURE_CODE, "harm/measure.py", "cost.py", "flops")  # what decides a row of the table
CALIBRATION = WorldPrompts(split="train", count=8, seed=7001, start=0)  # prompts of calibration's own
TAUS = tuple(float(t) for t in np.geomspace(0.3, 6, 5))  # in units of the median signal


def _quiet(done: int, total: int, label: str) -> None:
    pass


@dataclass
class Bench:
    """A pipeline with its adapter and all that a measurement of one experiment needs."""

    experiment: Experiment
    generator: Generator
    batch: int = 8
    cost: dict[int, float] = field(init=False)  # of a step by coarse scale, as a share of the base's

    def __post_init__(self) -> None:
        self.weights = describe_weights(self.experiment)
        table = flop_table(self.experiment.model, self.experiment.adapter, *size_of(self.experiment))
        self.cost = {scale: n / table[1] for scale, n in table.items() if scale > 1}

    def jobs(self, prompts: Sequence[Prompt], steps: int) -> list[Job]:
        method = Method(name="harm", policy=Base(), steps=steps)
        return [job_of(self.experiment, self.weights, method, prompt) for prompt in prompts]

    def made(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Names and fingerprints of what decides a table, steps aside."""
        whole = self.experiment
        return {
            "model": self.weights.model,
            "model_hash": self.weights.model_hash,
            "adapter": self.weights.adapter,
            "adapter_hash": self.weights.adapter_hash,
            "dtype": self.weights.dtype,
            "size": list(size_of(whole)),
            "guidance": [whole.guidance_scale, whole.true_cfg_scale],
            "prompts": prompts_hash(prompts),
            "code": code_hash(CODE),
        }

    def table(
        self, prompts: Sequence[Prompt], steps: int, state: Path, every: int = 1, progress: Progress = _quiet
    ) -> HarmTable:
        """The harm table of `prompts`; its rows are kept under `state`."""
        folder = state / f"harm-{_key(self.made(prompts))}" / f"steps{steps}"
        jobs = self.jobs(prompts, steps)
        return measure(
            self.generator, jobs, self.cost, folder, every=every, batch=self.batch, progress=progress
        )

    def base(self, prompts: Sequence[Prompt], steps: int) -> Pictures:
        return self.pictures(prompts, steps, Base())

    def pictures(self, prompts: Sequence[Prompt], steps: int, policy: Policy) -> Pictures:
        jobs = self.jobs(prompts, steps)
        parts = [jobs[i : i + self.batch] for i in range(0, len(jobs), self.batch)]
        return np.concatenate([draw(self.generator, part, policy) for part in parts])

    def alone(
        self, prompts: Sequence[Prompt], steps: int, policies: Sequence[Policy]
    ) -> tuple[Pictures, list[float]]:
        """Pictures one at a time, each under its own policy, and what each cost as a share of the base's."""
        pictures, costs = [], []
        for prompt, policy in zip(prompts, policies, strict=True):
            pictures.append(draw(self.generator, self.jobs([prompt], steps), policy))
            costs.append(self.share([step.scale for step in self.generator.handle.trace]))
        return np.concatenate(pictures), costs

    def share(self, scales: Sequence[int]) -> float:
        """Cost of a schedule as a share of as many base steps."""
        return float(np.mean([self.cost.get(s, 1.0) for s in scales]))


def calibrate(
    bench: Bench,
    prompts: Sequence[Prompt],
    steps: Sequence[int],
    state: Path,
    *,
    every: int = 1,
    points: int = 6,
    progress: Progress = _quiet,
) -> tuple[Calibration, list[HarmTable]]:
    """Measure the harm tables of `prompts` at each number of `steps` and fit a calibration to them.

    Everything measured is kept under `state`, so that a second call after a kill goes on.
    """
    tables = [bench.table(prompts, n, state, every, progress) for n in steps]
    made = bench.made(prompts)
    references: dict[int, Pictures] = {}
    done = 0

    def trial(draft: Calibration, price: float) -> tuple[float, float]:
        nonlocal done
        n = draft.runs[0].steps
        progress(done, points * len(steps), f"price {done + 1} of {points * len(steps)}")
        done += 1
        kept = state / f"harm-{_key(made)}" / f"steps{n}" / f"price-{_key([draft.digest, price])}.json"
        if not kept.exists():
            if n not in references:
                references[n] = bench.base(prompts, n)
            policy = Calibrated(calibration=draft, price=price)
            pictures, costs = bench.alone(prompts, n, [policy] * len(prompts))
            harm = mean_squared_error(pictures, references[n])
            write_json(kept, [float(np.mean(harm)), float(np.mean(costs))])
        harm_mean, cost_mean = read_json(kept)
        return harm_mean, cost_mean

    found = fit(tables, trial, points=points, made=made)
    progress(done, done, "done")
    return found, tables


def compare(
    bench: Bench,
    calibration: Calibration,
    state: Path,
    *,
    tuning: Sequence[Prompt] | None = None,
    progress: Progress = _quiet,
) -> dict[str, Any]:
    """Everything against the oracle at equal shares of the base's FLOPs, as the experiment's `oracle` says.

    tuning: where the threshold's tau is matched (default: half of the calibration prompts). Returns plain
    data: `rows` (cost, PSNR and MSE with intervals), `gap` (see `gap.gap`), `additivity`, `harm`.
    """
    steps, settings = bench.experiment.steps, bench.experiment.oracle
    if other := foreign(calibration, bench):
        warnings.warn(
            f"the calibration was measured on another {' and another '.join(other)}; measure it again with "
            "`ddit-eval calibrate`",
            stacklevel=2,
        )
    costs, every = settings.costs, settings.every
    prompts = load_prompts(bench.experiment.prompts)[: settings.prompts]
    table = bench.table(prompts, steps, state, every, progress)
    marginal = marginals(calibration, steps)
    tuning = tuning or load_prompts(CALIBRATION)[: CALIBRATION.count // 2]
    taus = _matched_taus(bench, tuning, steps, costs, calibration, progress)
    base = bench.base(prompts, steps)
    plan = list(_plan(bench, table, marginal, calibration, costs, taus, steps))
    rows: list[dict[str, Any]] = []
    errors: dict[str, list[float]] = {}
    predicted: dict[str, list[float]] = {}
    for number, entry in enumerate(plan):
        progress(number, len(plan), entry.name)
        if entry.apart:
            pictures, each = bench.alone(prompts, entry.steps, entry.policies)
        else:
            pictures = bench.pictures(prompts, entry.steps, entry.policies[0])
            each = [bench.share([s.scale for s in bench.generator.handle.trace])]
        errors[entry.name] = mean_squared_error(pictures, base)
        if entry.harm is not None:
            predicted[entry.name] = entry.harm
        rows.append(_row(entry, errors[entry.name], float(np.mean(each)) * entry.steps / steps))
    progress(len(plan), len(plan), "done")
    log_harm = np.log(np.maximum(table.harm, 1e-12))
    return {
        "profile": bench.experiment.profile,
        "n": len(prompts),
        "steps": steps,
        "costs": list(costs),
        "every": every,
        "calibration": calibration.digest,
        "made": bench.made(prompts),
        "rows": rows,
        "gap": _gaps(rows, errors),
        "additivity": additivity(predicted, errors),
        "harm": {
            "scales": list(table.scales),
            "mean": table.harm.mean(0).T.tolist(),
            "quartiles": [np.exp(np.quantile(log_harm, q, 0)).T.tolist() for q in (0.25, 0.75)],
        },
    }


def foreign(calibration: Calibration, bench: Bench) -> list[str]:
    """Which of model and adapter are not those that the calibration was measured on."""
    hashes = {"model": bench.weights.model_hash, "adapter": bench.weights.adapter_hash}
    known = calibration.made
    return [what for what, now in hashes.items() if known.get(f"{what}_hash", now) != now]


def marginals(calibration: Calibration, steps: int) -> np.ndarray:
    """Mean harm on the calibration prompts by step and scale, (T, S)."""
    expected = [calibration.expected(t, steps, None) for t in range(steps)]
    return np.asarray([[row[s] for s in calibration.scales] for row in expected])


@dataclass(frozen=True)
class _Entry:
    """A row to measure. policies: one for all, or one a prompt (`apart`). harm: as predicted, by prompt."""

    name: str
    family: str
    policies: list[Policy]
    steps: int
    apart: bool = False
    harm: list[float] | None = None


def _plan(
    bench: Bench,
    table: HarmTable,
    marginal: np.ndarray,
    calibration: Calibration,
    costs: Sequence[float],
    taus: dict[float, float],
    steps: int,
) -> Iterator[_Entry]:
    scales, each = table.scales, len(table.prompts)
    fine = scales[0]

    def fixed(name: str, family: str, schedule: tuple[int, ...]) -> _Entry:
        harm = [total(own, scales, schedule) for own in table.harm]
        return _Entry(name, family, [Explicit(scales=schedule)], steps, harm=harm)

    for cost in costs:
        tag = f"{100 * cost:.0f}"
        own = table.per_prompt(cost)
        best_each: list[Policy] = [Explicit(scales=o.scales) for o in own]
        yield _Entry(f"oracle-{tag}", "oracle", best_each, steps, True, [o.harm for o in own])
        yield fixed(f"shared-{tag}", "shared oracle", best(marginal, table.cost, scales, cost).scales)
        ours: list[Policy] = [Calibrated(calibration=calibration, cost=cost)] * each
        yield _Entry(f"calibrated-{tag}", "calibrated", ours, steps, True)
        theirs: list[Policy] = [Threshold(tau=taus[cost], scales=scales)] * each
        yield _Entry(f"ddit-{tag}", "DDiT", theirs, steps, True)
        coarse = min(round((1 - cost) / (1 - bench.cost[fine]) * steps), steps)
        first, last = (fine,) * coarse, (1,) * (steps - coarse)
        yield fixed(f"coarse-first-{tag}", "coarse-first", first + last)
        yield fixed(f"fine-first-{tag}", "fine-first", last + first)
        # One order for all prompts, so that they share a batch.
        mixed = random.Random(f"oracle/{tag}").sample(first + last, steps)
        yield fixed(f"random-{tag}", "random", tuple(mixed))
        fewer = max(1, round(cost * steps))
        yield _Entry(f"steps-{fewer}", "fewer steps", [Base()], fewer)


def _row(entry: _Entry, errors: list[float], cost: float) -> dict[str, Any]:
    psnr = [-10 * np.log10(e) if e > 0 else np.inf for e in errors]
    row = {
        "name": entry.name,
        "family": entry.family,
        "steps": entry.steps,
        "cost": cost,
        "psnr": stats.mean(psnr).to_json(),
        "mse": stats.mean(errors).to_json(),
    }
    if isinstance(entry.policies[0], Explicit) and not entry.apart:
        row["schedule"] = list(entry.policies[0].scales)
    return row


def _gaps(rows: Sequence[dict[str, Any]], errors: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Each row that chooses its steps against each family of fixed schedules."""
    curves: dict[str, list[tuple[float, list[float]]]] = {}
    for row in rows:
        curves.setdefault(row["family"], []).append((row["cost"], quality(errors[row["name"]]).tolist()))
    found = []
    for row in rows:
        if row["family"] not in ("shared oracle", "calibrated", "DDiT"):
            continue
        ours = quality(errors[row["name"]]).tolist()
        for fixed in ("coarse-first", "fine-first", "random", "fewer steps"):
            closed = gap(row["cost"], ours, curves[fixed], curves["oracle"])
            found.append({"name": row["name"], "fixed": fixed, **closed})
    return found


def _matched_taus(
    bench: Bench,
    prompts: Sequence[Prompt],
    steps: int,
    costs: Sequence[float],
    calibration: Calibration,
    progress: Progress,
) -> dict[float, float]:
    """The tau at which DDiT's rule (order 3, rho .4) costs each share, on prompts of calibration.

    A sweep in units of the median signal of the rule's own kind on the base, then linear in log tau.
    """
    scales = calibration.scales
    silent = Threshold(tau=1e-30, scales=scales)
    progress(0, len(TAUS) + 1, "matching tau")
    bench.alone(prompts[:1], steps, [silent])
    seen = [v for step in bench.generator.handle.trace for v in (step.signals or {}).values()]
    unit = float(np.median(seen)) if seen else 1.0
    spent = []
    for number, tau in enumerate(TAUS, 1):
        progress(number, len(TAUS) + 1, "matching tau")
        policy = Threshold(tau=tau * unit, scales=scales)
        spent.append(float(np.mean(bench.alone(prompts, steps, [policy] * len(prompts))[1])))
    falling = np.minimum.accumulate(spent)[::-1]
    return {c: unit * float(np.exp(np.interp(c, falling, np.log(TAUS)[::-1]))) for c in costs}


def _key(parts: Any) -> str:
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:12]
