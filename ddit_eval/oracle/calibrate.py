"""Measuring a calibration: harm tables of some prompts, and the policy that is fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from ddit_eval.ddit.policies import Base, Calibrated
from ddit_eval.ddit.policies.calibration import Calibration
from ddit_eval.experiment.config import WorldPrompts
from ddit_eval.experiment.prompts import Prompt
from ddit_eval.oracle.bench import Bench
from ddit_eval.oracle.fit import fit
from ddit_eval.oracle.measure import Pictures, mean_squared_error
from ddit_eval.oracle.table import HarmTable
from ddit_eval.schema.kept import kept
from ddit_eval.system.files import digest
from ddit_eval.system.progress import Progress, quiet

CALIBRATION = WorldPrompts(split="train", count=8, seed=7001, start=0)  # prompts of calibration's own


def calibrate(
    bench: Bench,
    prompts: Sequence[Prompt],
    steps: Sequence[int],
    state: Path,
    *,
    every: int = 1,
    points: int = 6,
    progress: Progress = quiet,
) -> tuple[Calibration, list[HarmTable]]:
    """Measure the harm tables of `prompts` at each number of `steps` and fit a calibration to them.

    Everything measured is kept under `state`, so that a second call after a kill goes on.
    """
    tables = [bench.table(prompts, n, state, every, progress) for n in steps]
    made = bench.made(prompts)
    done = 0

    @cache
    def reference(n: int) -> Pictures:
        return bench.alone(prompts, n, [Base()] * len(prompts))[0]

    def trial(draft: Calibration, price: float) -> tuple[float, float]:
        nonlocal done
        n = draft.runs[0].steps
        progress(done, points * len(steps), f"price {done + 1} of {points * len(steps)}")
        done += 1
        path = bench.folder(prompts, n, state) / f"price-{digest([draft.digest, price])}.json"

        def make() -> list[float]:
            policy = Calibrated(calibration=draft, price=price)
            pictures, costs = bench.alone(prompts, n, [policy] * len(prompts))
            harm = mean_squared_error(pictures, reference(n))
            return [float(np.mean(harm)), float(np.mean(costs))]

        harm_mean, cost_mean = kept(path, make)
        return harm_mean, cost_mean

    found = fit(tables, trial, points=points, made=made)
    progress(done, done, "done")
    return found, tables
