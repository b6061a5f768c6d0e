"""The tau at which DDiT's rule costs what other schedules cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ddit_eval.ddit.policies import Threshold
from ddit_eval.experiment.prompts import Prompt
from ddit_eval.experiment.records import code_hash
from ddit_eval.oracle.bench import CODE, Bench, kept
from ddit_eval.system.files import digest
from ddit_eval.system.progress import Progress, quiet

TAUS = tuple(float(t) for t in np.geomspace(0.3, 6, 5))  # in units of the median signal


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
