"""oracle.json: every way of choosing the steps against the best schedule there is."""

from __future__ import annotations

from typing import ClassVar

from pydantic import model_validator

from ddit_eval.schema.measured import Measured, Stage, repeated
from ddit_eval.schema.model import Count, Interval, NotNegative, Positive, Ratio, Result


class Row(Result):
    """A way of choosing the steps. `cost`: share of the base's FLOPs; `schedule`: where it is one for all.

    Where each prompt has a schedule of its own, the policy in `of` is {"kind": "oracle", "schedules": [...]}.
    """

    name: str
    family: str
    of: Measured
    steps: Count
    cost: Positive
    psnr: Interval
    mse: Interval
    schedule: tuple[Count, ...] | None = None


class Closed(Result):
    """How far a policy goes from fixed schedules to the oracle, at its own cost, in dB.

    `share`: of the mean gap; None where the oracle is not surely above the fixed schedules.
    """

    cost: Positive
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
    predicted: NotNegative
    measured: NotNegative
    ratio: Ratio


class Harm(Result):
    """Of one coarse step by scale and step: the mean over prompts, and the quartiles."""

    scales: tuple[Count, ...]
    mean: tuple[tuple[NotNegative, ...], ...]
    quartiles: tuple[tuple[tuple[NotNegative, ...], ...], ...]


class Oracle(Stage):
    """oracle.json. `calibration`: the digest of the one that was compared."""

    made_by: ClassVar[str] = "`ddit-eval oracle EXPERIMENT`"
    file: ClassVar[str] = "oracle.json"
    decided_by: ClassVar[tuple[str, ...]] = ("profile", "steps", "oracle")

    profile: str
    n: Count
    steps: Count
    costs: tuple[Positive, ...]
    every: Count
    calibration: str
    rows: tuple[Row, ...]
    gap: tuple[Gap, ...]
    additivity: tuple[Additivity, ...]
    harm: Harm

    @model_validator(mode="after")
    def _names_are_rows(self) -> Oracle:
        names = [row.name for row in self.rows]
        if twice := repeated(names):
            raise ValueError(f"the row {twice[0]!r} is there twice")
        if lost := {gap.name for gap in self.gap} - {*names}:
            raise ValueError(f"the gap of {min(lost)!r} is of no row")
        for row in self.rows:
            if row.steps != row.of.steps:
                raise ValueError(f"row {row.name!r} is not of the steps that are said")
        return self
