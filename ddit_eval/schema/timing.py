"""timing.json: how long each method takes on one machine, against the base in the same blocks."""

from __future__ import annotations

from typing import ClassVar, Literal

from ddit_eval.schema.measured import Measured
from ddit_eval.schema.model import Interval, Result, ResultFile


class Machine(Result):
    """What the numbers were measured on, and how fast it is."""

    cpu: str
    cores: int
    threads: int
    memory_gb: float | None
    system: str
    python: str
    torch: str
    device: str
    matmul_gflops: float
    matmul_dtype: str
    copy_gb_s: float


class Seconds(Result):
    """Quantiles over the runs."""

    p50: float
    p95: float
    mean: float


class Row(Result):
    """A method. `speedup` is that of the stage the file names, `speedups` of each stage timed in blocks.

    `stages`: median seconds of what was timed. `by_step`: mean seconds of each step, in parts by scale.
    `peak_memory`: bytes; None where the system does not tell.
    """

    method: str
    of: Measured | None = None  # None: of no experiment, or the twin of a row that says it
    speedup: Interval
    speedups: dict[str, Interval]
    seconds: Seconds
    stages: dict[str, float]
    prompts: int
    runs: int
    by_step: tuple[dict[int, float], ...] = ()
    peak_memory: int | None = None


class Scale(Result):
    """A step at one scale against what the machine allows; seconds, FLOPs and bytes of one step.

    `counted`: FLOPs as torch counts them. `share`: bound over median.
    """

    scale: int
    n: int
    p50: float
    p95: float
    flops: int
    bytes: int
    bound: float
    limit: Literal["compute", "memory"]
    share: float
    counted: int | None = None


class Table(Result):
    """The methods against the reference in the same blocks. `stage`: what `speedup` is of; `null`: the
    reference against itself, None where it was not run."""

    rows: tuple[Row, ...]
    stage: str
    null: Interval | None


class Compiled(Table):
    """The methods once more with compiled blocks, against the compiled base."""

    over_eager: Interval  # what compiling alone gained
    graphs: int = 0
    recompiles: int = 0


class Timing(Table, ResultFile):
    """timing.json."""

    made_by: ClassVar[str] = "`ddit-eval time EXPERIMENT`"

    profile: str
    model: str
    reference: str
    batch: int
    prompts: int
    rounds: int
    machine: Machine
    scales: tuple[Scale, ...]
    compiled: Compiled | None = None

    def row(self, method: str) -> Row | None:
        """The row of a method; None where it was not timed."""
        return next((row for row in self.rows if row.method == method), None)
