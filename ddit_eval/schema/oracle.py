"""oracle.json: every way of choosing the steps against the best schedule there is."""

from __future__ import annotations

from typing import ClassVar

from ddit_eval.schema.measured import Measured
from ddit_eval.schema.model import Interval, Result, ResultFile


class Row(Result):
    """A way of choosing the steps. `cost`: share of the base's FLOPs; `schedule`: where it is one for all.

    Where each prompt has a schedule of its own, the policy in `of` is {"kind": "oracle", "schedules": [...]}.
    """

    name: str
    family: str
    of: Measured
    steps: int
    cost: float
    psnr: Interval
    mse: Interval
    schedule: tuple[int, ...] | None = None


class Closed(Result):
    """How far a policy goes from fixed schedules to the oracle, at its own cost, in dB.

    `share`: of the mean gap; None where the oracle is not surely above the fixed schedules.
    """

    cost: float
    over_fixed: Interval
    below_oracle: Interval
    gap: Interval
    share: Interval | None


class Gap(Closed):
    """That of a row, against a family of `fixed` schedules."""

    name: str
    fixed: str


class Additivity(Result):
    """Measured harm of a schedule over what single steps predict; `ratio`: geometric mean over prompts."""

    name: str
    predicted: float
    measured: float
    ratio: Interval


class Harm(Result):
    """Of one coarse step by scale and step: the mean over prompts, and the quartiles."""

    scales: tuple[int, ...]
    mean: tuple[tuple[float, ...], ...]
    quartiles: tuple[tuple[tuple[float, ...], ...], ...]


class Oracle(ResultFile):
    """oracle.json. `calibration`: the digest of the one that was compared."""

    made_by: ClassVar[str] = "`ddit-eval oracle EXPERIMENT`"

    profile: str
    n: int
    steps: int
    costs: tuple[float, ...]
    every: int
    calibration: str
    rows: tuple[Row, ...]
    gap: tuple[Gap, ...]
    additivity: tuple[Additivity, ...]
    harm: Harm
