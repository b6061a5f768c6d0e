"""Every schedule that is held against the oracle, at equal shares of the base's FLOPs; of DDiT's rule the tau
at which it costs what the others cost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddit_eval.ddit.policies import Base, Calibrated, Explicit, Threshold
from ddit_eval.ddit.policies.calibration import Calibration
from ddit_eval.experiment.prompts import Prompt
from ddit_eval.experiment.records import code_hash
from ddit_eval.oracle.bench import CODE, Bench
from ddit_eval.oracle.best import best, total
from ddit_eval.oracle.table import HarmTable
from ddit_eval.schema.kept import kept
from ddit_eval.system.files import digest
from ddit_eval.system.progress import Progress, quiet

if TYPE_CHECKING:
    from ddit_eval.ddit.policies import Policy

TAUS = tuple(float(t) for t in np.geomspace(0.3, 6, 5))  # in units of the median signal


@dataclass(frozen=True)
class Entry:
    """A row to measure. policies: one for all, or one a prompt (`apart`). harm: as predicted, by prompt."""

    name: str
    family: str
    policies: list[Policy]
    steps: int
    apart: bool = False
    harm: list[float] | None = None
    schedule: tuple[int, ...] | None = None  # the same for every prompt


def schedules(
    bench: Bench,
    table: HarmTable,
    marginal: np.ndarray,
    calibration: Calibration,
    costs: Sequence[float],
    taus: dict[float, float],
    steps: int,
) -> Iterator[Entry]:
    scales, each = table.scales, len(table.prompts)
    fine = scales[0]

    def fixed(name: str, family: str, schedule: tuple[int, ...]) -> Entry:
        harm = [total(own, scales, schedule) for own in table.harm]
        return Entry(name, family, [Explicit(scales=schedule)], steps, harm=harm, schedule=schedule)

    for cost in costs:
        tag = f"{100 * cost:.0f}"
        own = table.per_prompt(cost)
        best_each: list[Policy] = [Explicit(scales=o.scales) for o in own]
        yield Entry(f"oracle-{tag}", "oracle", best_each, steps, True, [o.harm for o in own])
        yield fixed(f"shared-{tag}", "shared oracle", best(marginal, table.cost, scales, cost).scales)
        ours: list[Policy] = [Calibrated(calibration=calibration, cost=cost)] * each
        yield Entry(f"calibrated-{tag}", "calibrated", ours, steps, True)
        theirs: list[Policy] = [Threshold(tau=taus[cost], scales=scales)] * each
        yield Entry(f"ddit-{tag}", "DDiT", theirs, steps, True)
        coarse = min(round((1 - cost) / (1 - bench.cost[fine]) * steps), steps)
        first, last = (fine,) * coarse, (1,) * (steps - coarse)
        yield fixed(f"coarse-first-{tag}", "coarse-first", first + last)
        yield fixed(f"fine-first-{tag}", "fine-first", last + first)
        # One order for all prompts, so that they share a batch.
        mixed = random.Random(f"oracle/{tag}").sample(first + last, steps)
        yield fixed(f"random-{tag}", "random", tuple(mixed))
        fewer = max(1, round(cost * steps))
        yield Entry(f"steps-{fewer}", "fewer steps", [Base()], fewer)


def marginals(calibration: Calibration, steps: int) -> np.ndarray:
    """Mean harm on the calibration prompts by step and scale, (T, S)."""
    expected = [calibration.expected(t, steps, None) for t in range(steps)]
    return np.asarray([[row[s] for s in calibration.scales] for row in expected])


def sweep(
    bench: Bench,
    prompts: Sequence[Prompt],
    steps: int,
    scales: tuple[int, ...],
    state: Path,
    *,
    progress: Progress = quiet,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[float, list[float]]:
    """The median signal of the rule's own kind (order 3, rho .4) on the base, and what the rule costs at each
    of `TAUS`, as a share of the base. Each is kept under `state`. stop: asked before each."""
    folder = bench.folder(prompts, steps, state)

    def median() -> float:
        bench.alone(prompts[:1], steps, [Threshold(tau=1e-30, scales=scales)])
        seen = [v for step in bench.generator.handle.trace for v in (step.signals or {}).values()]
        return float(np.median(seen)) if seen else 1.0

    def cost(rule: Threshold) -> float:
        return float(np.mean(bench.alone(prompts, steps, [rule] * len(prompts))[1]))

    progress(0, len(TAUS) + 1, "matching tau")
    unit = kept(folder / f"signal-{digest([scales, code_hash(*CODE)])}.json", median)
    spent: list[float] = []
    for number, tau in enumerate(TAUS, 1):
        if stop():
            break
        progress(number, len(TAUS) + 1, "matching tau")
        rule = Threshold(tau=tau * unit, scales=scales)
        path = folder / f"tau-{digest([rule.model_dump(mode='json'), bench.cost, code_hash(*CODE)])}.json"
        spent.append(kept(path, partial(cost, rule)))
    return unit, spent


def matched(unit: float, spent: Sequence[float], costs: Sequence[float]) -> dict[float, float]:
    """tau by cost: linear in log tau between what `sweep` found."""
    falling = np.minimum.accumulate(spent)[::-1]
    return {c: unit * float(np.exp(np.interp(c, falling, np.log(TAUS)[::-1]))) for c in costs}
