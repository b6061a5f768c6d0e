"""What every measurement of harm needs: a pipeline with its adapter, and a place for what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddit_eval.ddit.policies import Base
from ddit_eval.experiment.config import Method
from ddit_eval.experiment.generate import Generator
from ddit_eval.experiment.prompts import Prompt
from ddit_eval.experiment.records import code_hash
from ddit_eval.oracle.measure import Pictures, draw, measure
from ddit_eval.oracle.table import HarmTable
from ddit_eval.system.files import digest, read_json, write_json
from ddit_eval.system.progress import Progress, quiet

if TYPE_CHECKING:
    from ddit_eval.ddit.policies import Policy
    from ddit_eval.experiment.records import Job

CODE = ("ddit", "models", "oracle")  # what decides a number of the oracle


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
        """The harm table of `prompts`; its rows are kept under `state`."""
        jobs, folder = self.jobs(prompts, steps), self.folder(prompts, steps, state)
        return measure(
            self.generator, jobs, self.cost, folder, every=every, batch=self.batch, progress=progress
        )

    def folder(self, prompts: Sequence[Prompt], steps: int, state: Path) -> Path:
        """Where everything measured of `prompts` is kept, so that a second call after a kill goes on."""
        return state / f"harm-{digest(self.made(prompts))}" / f"steps{steps}"

    def pictures(self, prompts: Sequence[Prompt], steps: int, policy: Policy | None = None) -> Pictures:
        """In batches, under one policy; by default the base's."""
        jobs = self.jobs(prompts, steps)
        parts = [jobs[i : i + self.batch] for i in range(0, len(jobs), self.batch)]
        return np.concatenate([draw(self.generator, part, policy or Base()) for part in parts])

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


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """The JSON in `path`; what is not there yet is made and written."""
    if not path.exists():
        write_json(path, make())
    return read_json(path)
