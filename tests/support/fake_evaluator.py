"""A made-up evaluator: a landscape in milliseconds, importable by the worker processes of a test."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ddit_eval.ddit.policies import Threshold
from ddit_eval.experiment.config import Method
from ddit_eval.study.measure import Score


@dataclass(frozen=True)
class FakeEvaluator:
    """Smooth in tau and rho. `seconds` a prompt; `log`: gets a line for each prompt, the process id."""

    seconds: float = 0.0
    log: Path | None = None
    units: tuple[float, ...] = (1.0, 1.0, 1.0)
    held_out_prompts: int = 3

    def measure(self, method: Method, prompt: int) -> Score:
        time.sleep(self.seconds)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{os.getpid()}\n")
        policy, steps = method.policy, method.steps or 24
        spent = steps / 24
        if isinstance(policy, Threshold):
            spent *= 1 / (1 + 0.2 * len(policy.scales) * policy.tau)
            quality = 30 + 10 * spent - abs(math.log(policy.tau)) - policy.rho - 0.1 * policy.dwell
        else:
            scales = getattr(policy, "scales", (1,))
            spent *= (1 + sum(1 / s for s in scales if s) / len(scales)) / 2
            quality = 20 + 15 * spent + 0.1 * getattr(policy, "steps", 0)
        return Score(spent, quality + math.sin(prompt) + prompt % 2 * spent, (1, 2) * 3)

    def held_out(self, method: Method, prompt: int) -> Score:
        return self.measure(method, prompt + 100)

    def unit(self, order: int) -> float:
        return self.units[order - 1]

    def memory(self, scales: Iterable[int]) -> float | None:
        return float(max(scales))

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class OpenEvaluator:
    """Opens an evaluator; in any process but `spare`, one that dies of SIGKILL after so many prompts.
    `spare` begins when the other one is about to: on a busy machine it would else be through before."""

    seconds: float
    log: Path
    after: int | None = None
    spare: int = 0

    def __call__(self) -> FakeEvaluator:
        if self.after is not None and os.getpid() != self.spare:
            return Dying(self.seconds, self.log, after=self.after)
        end = time.monotonic() + 240
        while self.spare and self.measured() < (self.after or 3) - 2 and time.monotonic() < end:
            time.sleep(0.05)
        return FakeEvaluator(self.seconds, self.log)

    def measured(self) -> int:
        return len(self.log.read_text().split()) if self.log.exists() else 0


@dataclass(frozen=True)
class Dying(FakeEvaluator):
    after: int = 0

    def measure(self, method: Method, prompt: int) -> Score:
        assert self.log is not None
        mine = self.log.read_text().split().count(str(os.getpid())) if self.log.exists() else 0
        if mine >= self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().measure(method, prompt)
