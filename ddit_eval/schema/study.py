"""study.json: the trials of a search and the points that were confirmed; the table of latencies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, model_validator

from ddit_eval.ddit.trace import StepTrace
from ddit_eval.schema.measured import Measured, Stage, repeated
from ddit_eval.schema.model import (
    Count,
    Finite,
    Interval,
    Json,
    NotNegative,
    Number,
    Positive,
    Result,
    ResultFile,
)


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

    number: NonNegativeInt
    of: Measured
    params: Json
    prompts: Count
    values: tuple[Finite, Finite] | None
    intervals: Scored | None = None
    partial: tuple[Number, ...] | None = None
    constraints: tuple[Finite, ...]
    state: Annotated[str, Field(pattern="^(COMPLETE|PRUNED|FAIL)$")]
    pareto: bool
    schedules: tuple[Annotated[str, Field(pattern=r"^\d+( \d+)*$")], ...]
    tau: Positive | None = None  # of a rule with a threshold: what its relative tau stands for


class Confirmed(Result):
    """A point of the front on the prompts it was tuned on and on others. `stands`: none dominates it there;
    `meets_floor`: whether its quality there is feasible, None where the study has no floor."""

    number: NonNegativeInt
    tuned: Scored
    heldout: Scored
    stands: bool
    meets_floor: bool | None = None


class Ceiling(Result):
    """The memory ceiling in GiB, and whether it could be checked."""

    ceiling: Positive
    checked: bool


class Latency(ResultFile):
    """Median seconds of a step by scale, 0 for a skipped one; `signal`: what a step that reads the signal
    takes on top, `beside`: what lies between two steps.

    `worker`: seconds that a base step, and all of a run but its steps, take a worker of a search. `memory`:
    peak GiB on the device of a run at a scale; None where there is no GPU.
    """

    made_by: ClassVar[str] = "delete it, then `ddit-eval study EXPERIMENT`"

    seconds: dict[NonNegativeInt, Positive]
    signal: NotNegative
    beside: NotNegative
    worker: tuple[Positive, NotNegative]
    memory: dict[Count, NotNegative] | None

    def seconds_of(self, trace: Sequence[StepTrace], flops: Mapping[int, int]) -> float:
        """Seconds of the denoising loop of a trace. A step that a cache has made cheaper takes its share of
        the FLOPs of one that is computed in full (`flops`, by scale), above a skipped one."""
        return sum(self._step(step, flops) + self.beside for step in trace)

    def _step(self, step: StepTrace, flops: Mapping[int, int]) -> float:
        least, full = self.seconds[0], self.seconds[step.scale]
        share = 1.0 if step.flops is None or not step.scale else step.flops / flops[step.scale]
        return least + max(0.0, full - least) * share + self.signal * bool(step.signals)

    def peak(self, scales: Iterable[int]) -> float | None:
        """Peak GiB of a run over these scales."""
        return max(self.memory[scale] for scale in scales if scale) if self.memory else None


class Study(Stage):
    """study.json."""

    made_by: ClassVar[str] = "`ddit-eval study EXPERIMENT`"
    file: ClassVar[str] = "study.json"
    decided_by: ClassVar[tuple[str, ...]] = ("profile", "steps", "study")  # the steps are the base's

    study: str
    sampler: str
    objectives: tuple[Objective, Objective]
    prompts: Count
    prompts_hash: str
    seeds: Count
    trials: tuple[Trial, ...]
    confirmed: tuple[Confirmed, ...]
    latency: Latency | None = None
    memory: Ceiling | None = None

    @model_validator(mode="after")
    def _trials_are_of_the_head(self) -> Study:
        numbers = [trial.number for trial in self.trials]
        if twice := repeated(numbers) or repeated(point.number for point in self.confirmed):
            raise ValueError(f"trial {twice[0]} is there twice")
        if lost := {point.number for point in self.confirmed} - {*numbers}:
            raise ValueError(f"trial {min(lost)} was confirmed and is not there")
        for trial in self.trials:
            if trial.of.prompts != self.prompts_hash:
                raise ValueError(f"trial {trial.number} is not of the prompts that are said")
        return self
