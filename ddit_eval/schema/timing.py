"""timing.json: how long each method takes on one machine, against the base in the same blocks."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from ddit_eval.schema.measured import Measured, Stage, repeated
from ddit_eval.schema.model import Count, NotNegative, Positive, Ratio, Result


class Machine(Result):
    """What the numbers were measured on, and how fast it is."""

    cpu: str
    cores: Count
    threads: Count
    memory_gb: Positive | None
    system: str
    python: str
    torch: str
    device: str
    matmul_gflops: Positive
    matmul_dtype: str
    copy_gb_s: Positive


class Seconds(Result):
    """Quantiles over the runs."""

    p50: Positive
    p95: Positive
    mean: Positive


class Row(Result):
    """A method. `speedup` is that of the stage the file names, `speedups` of each stage timed in blocks.

    `stages`: median seconds of what was timed. `by_step`: mean seconds of each step, in parts by scale.
    `peak_memory`: bytes; None where the system does not tell. `noise`: what the clock leaves open of
    `speedup`, a share of it (three standard errors); no interval is narrower.
    """

    method: str
    of: Measured | None = None  # None: of no experiment, or the twin of a row that says it
    speedup: Ratio
    speedups: dict[str, Ratio]
    seconds: Seconds
    stages: dict[str, NotNegative]
    prompts: Count
    runs: Count
    by_step: tuple[dict[NonNegativeInt, NotNegative], ...] = ()
    peak_memory: NonNegativeInt | None = None
    noise: NotNegative | None = None


class Scale(Result):
    """A step at one scale against what the machine allows; seconds, FLOPs and bytes of one step.

    `counted`: FLOPs as torch counts them. `share`: bound over median.
    """

    scale: Count
    n: Count
    p50: Positive
    p95: Positive
    flops: Count
    bytes: Count
    bound: Positive
    limit: Literal["compute", "memory"]
    share: Positive
    counted: NonNegativeInt | None = None


class Table(Result):
    """The methods against the reference in the same blocks. `stage`: what `speedup` is of; `null`: the
    reference against itself, None where it was not run."""

    rows: tuple[Row, ...]
    stage: str
    null: Ratio | None

    @model_validator(mode="after")
    def _a_row_a_method(self) -> Self:
        if twice := repeated(row.method for row in self.rows):
            raise ValueError(f"the row {twice[0]!r} is there twice")
        return self


class Compiled(Table):
    """The methods once more with compiled blocks, against the compiled base."""

    over_eager: Ratio  # what compiling alone gained
    graphs: NonNegativeInt = 0
    recompiles: NonNegativeInt = 0


class Timing(Table, Stage):
    """timing.json. `rounds`: of each prompt; `repeated`: blocks that were disturbed and run again; `bad`: why
    the clock decides nothing, None where it does; `files`: the SHA-256 of what was written with it."""

    made_by: ClassVar[str] = "`ddit-eval time EXPERIMENT`"
    file: ClassVar[str] = "timing.json"
    decided_by: ClassVar[tuple[str, ...]] = ("profile", "model", "reference", "timing")

    profile: str
    model: str
    reference: str
    batch: Count
    prompts: Count
    rounds: Count
    machine: Machine
    scales: tuple[Scale, ...]
    compiled: Compiled | None = None
    repeated: NonNegativeInt = 0
    bad: str | None = None
    files: dict[str, str] = Field(default_factory=dict)

    def row(self, method: str) -> Row | None:
        """The row of a method; None where it was not timed."""
        return next((row for row in self.rows if row.method == method), None)
