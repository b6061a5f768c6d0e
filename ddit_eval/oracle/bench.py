"""What every measurement of harm needs: a pipeline with its adapter, and a place for what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddit_eval.ddit.policies import Base
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Method
from ddit_eval.experiment.generate import Generator
from ddit_eval.experiment.prompts import Prompt
from ddit_eval.experiment.records import code_hash
from ddit_eval.oracle.measure import (
    ORDERS,
    Pictures,
    draw,
    mean_squared_error,
    restart,
    signals_of,
    trajectory,
)
from ddit_eval.oracle.table import HarmTable, fill_steps
from ddit_eval.schema import read, write
from ddit_eval.schema.kept import Kept, known
from ddit_eval.system.files import digest
from ddit_eval.system.progress import Progress, quiet

if TYPE_CHECKING:
    from ddit_eval.ddit.policies import Policy
    from ddit_eval.experiment.records import Job

CODE = ("ddit", "models", "oracle")  # what decides a number of the oracle
RHO = 0.4  # of the signals that are measured


@dataclass
class Bench:
    """A pipeline with its adapter and all that a measurement of one experiment needs."""

    generator: Generator
    batch: int = 8
    cost: dict[int, float] = field(init=False)  # of a step by coarse scale, as a share of the base's

    def __post_init__(self) -> None:
        self.setting = self.generator.setting
        table = self.setting.flops
        self.cost = {scale: n / table[1] for scale, n in table.items() if scale > 1}

    def jobs(self, prompts: Sequence[Prompt], steps: int) -> list[Job]:
        method = Method(name="harm", policy=Base(), steps=steps)
        return [self.setting.job(method, prompt) for prompt in prompts]

    def made(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Names and fingerprints of what decides a table, steps aside."""
        facts = self.setting.measured(prompts=prompts).plain() | {"code": code_hash(*CODE)}
        return {name: fact for name, fact in facts.items() if name not in ("policy", "steps")}

    def table(
        self, prompts: Sequence[Prompt], steps: int, state: Path, every: int = 1, progress: Progress = quiet
    ) -> HarmTable:
        """The harm table of `prompts` under the base; its rows are kept under `state`.

        every: measure each so-many-th step only, the last one included; those between are interpolated.
        progress: in transformer steps.
        """
        adapter = self.generator.handle.adapter
        if not prompts or adapter is None:
            raise DditError(
                "harm needs at least one prompt and an adapter: name one, e.g. adapter: mini-flux"
            )
        folder, scales = self.folder(prompts, steps, state), tuple(sorted(self.cost))
        measured = sorted(range(steps - 1, -1, -every))
        rows = {(t, s): folder / f"step{t:03d}-scale{s}.json" for t in measured for s in scales}
        seen = folder / "signals.json"
        if any(known(file, Kept) is None for file in (seen, *rows.values())):
            self._measure(self.jobs(prompts, steps), rows, seen, progress)
        harm = np.full((len(prompts), steps, len(scales)), np.nan)
        for (t, s), file in rows.items():
            harm[:, t, scales.index(s)] = read(file, Kept).value
        columns = [adapter.scales.index(s) for s in scales]
        return HarmTable(
            prompts=tuple(prompt.text for prompt in prompts),
            scales=scales,
            cost=tuple(self.cost[s] for s in scales),
            harm=fill_steps(harm),
            signals={
                int(k): np.asarray(v, np.float64)[..., columns] for k, v in read(seen, Kept).value.items()
            },
            rho=RHO,
        )

    def _measure(
        self, jobs: Sequence[Job], rows: dict[tuple[int, int], Path], seen: Path, progress: Progress
    ) -> None:
        """Write those of `rows`, by step and scale, that are not there yet, and the signals to `seen`."""
        steps, batches = jobs[0].steps, self._batches(jobs)
        todo = [row for row, file in rows.items() if known(file, Kept) is None]
        total = steps + sum(steps - t for t, _ in todo)
        progress(0, total, "base")
        bases = [trajectory(self.generator, batch) for batch in batches]
        parts = [signals_of(self.generator, base, jobs[0].height, jobs[0].width, RHO) for base in bases]
        signals = {str(order): [p for part in parts for p in part[order]] for order in ORDERS}
        write(seen, Kept(value=signals))
        done = steps
        for t, s in todo:
            progress(done, total, f"step {t + 1} of {steps} at scale {s}")
            scales = (s, *[1] * (steps - t - 1))
            harm: list[float] = []
            for batch, base in zip(batches, bases, strict=True):
                harm += mean_squared_error(restart(self.generator, batch, base, t, scales), base.pictures)
            write(rows[t, s], Kept(value=harm))
            done += steps - t
        progress(total, total, "done")

    def _batches(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        return [jobs[i : i + self.batch] for i in range(0, len(jobs), self.batch)]

    def folder(self, prompts: Sequence[Prompt], steps: int, state: Path) -> Path:
        """Where everything measured of `prompts` is kept, so that a second call after a kill goes on."""
        return state / f"harm-{digest(self.made(prompts))}" / f"steps{steps}"

    def pictures(self, prompts: Sequence[Prompt], steps: int, policy: Policy | None = None) -> Pictures:
        """In batches, under one policy; by default the base's."""
        batches = self._batches(self.jobs(prompts, steps))
        return np.concatenate([draw(self.generator, batch, policy or Base()) for batch in batches])

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
