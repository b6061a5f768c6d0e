"""study.json: the trials of a search and the points that were confirmed; the table of latencies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from ddit_eval.ddit.trace import StepTrace
from ddit_eval.schema.measured import Measured
from ddit_eval.schema.model import Interval, Json, Number, Result, ResultFile


class Objective(Result):
    name: str
    direction: Literal["minimize", "maximize"]


class Scored(Result):
    """Cost, as a share of the base's, and quality over prompts."""

    cost: Interval
    quality: Interval


class Trial(Result):
    """A policy tried. One that was stopped early has no `values` but `partial` ones, on its first `prompts`.

    `constraints`: above 0 the trial is infeasible. `schedules`: the scales of the steps, a line a prompt.
    """

    number: int
    of: Measured
    params: Json
    prompts: int
    values: tuple[float, ...] | None
    intervals: Scored | None = None
    partial: tuple[Number, ...] | None = None
    constraints: tuple[float, ...]
    state: str
    pareto: bool
    schedules: tuple[str, ...]
    tau: float | None = None  # of a rule with a threshold: what its relative tau stands for


class Confirmed(Result):
    """A point of the front on the prompts it was tuned on and on others; `stands`: nothing dominates it."""

    number: int
    tuned: Scored
    heldout: Scored
    stands: bool


class Ceiling(Result):
    """The memory ceiling in GiB, and whether it could be checked."""

    ceiling: float
    checked: bool


class Latency(ResultFile):
    """Median seconds of a step by scale; `signal`: what a step that reads the signal takes on top.

    `memory`: peak GiB on the device of a run at a scale; None where there is no GPU.
    """

    made_by: ClassVar[str] = "delete it, then `ddit-eval study EXPERIMENT`"

    seconds: dict[int, float]
    signal: float
    memory: dict[int, float] | None

    def seconds_of(self, trace: Sequence[StepTrace]) -> float:
        """Seconds of the denoising steps of a trace."""
        return sum(self.seconds[step.scale] + self.signal * bool(step.signals) for step in trace)

    def peak(self, scales: Iterable[int]) -> float | None:
        """Peak GiB of a run over these scales."""
        return max(self.memory[scale] for scale in scales) if self.memory else None


class Study(ResultFile):
    """study.json."""

    made_by: ClassVar[str] = "`ddit-eval study EXPERIMENT`"

    study: str
    sampler: str
    objectives: tuple[Objective, ...]
    prompts: int
    prompts_hash: str
    seeds: int
    trials: tuple[Trial, ...]
    confirmed: tuple[Confirmed, ...]
    latency: Latency | None = None
    memory: Ceiling | None = None
