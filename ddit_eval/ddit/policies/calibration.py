"""A calibration: the harm to be expected of a coarse step, as a small table. Plain data, light to import."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from ddit_eval.ddit.adapter.places import find
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError
from ddit_eval.system.files import digest
from ddit_eval.system.read import read_json

FILE = "calibration.json"
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rank = dict[int, int]  # bin of the signal by scale


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CurvePoint(_Data):
    """What a price gave on the calibration prompts: mean harm, and cost as a share of the base's FLOPs."""

    price: NonNegative
    harm: NonNegative
    cost: NonNegative


class StepTable(_Data):
    """One step at one scale: harm by bin of the signal, `edges` between the bins, `marginal` over them.

    Without a signal (the first `order` steps) there are no edges, and the only bin is the marginal.
    """

    edges: tuple[NonNegative, ...] = ()
    harm: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    marginal: NonNegative

    @model_validator(mode="after")
    def _monotone(self) -> StepTable:
        if len(self.harm) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges make {len(self.edges) + 1} bins, not {len(self.harm)}")
        if list(self.edges) != sorted(self.edges) or list(self.harm) != sorted(self.harm):
            raise ValueError("edges and harm must not fall: more signal never means less harm")
        return self


class Run(_Data):
    """The tables of one number of steps: `tables[scale][step]`, and the curve from a price to its effect."""

    steps: PositiveInt
    tables: dict[int, tuple[StepTable, ...]]
    curve: Annotated[tuple[CurvePoint, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> Run:
        for scale, tables in self.tables.items():
            if len(tables) != self.steps:
                raise ValueError(f"{len(tables)} tables of scale {scale} for {self.steps} steps")
        for name, sign in (("price", 1), ("harm", 1), ("cost", -1)):
            values = [sign * getattr(point, name) for point in self.curve]
            if values != sorted(values):
                raise ValueError(f"the curve's {name} is not monotone")
        return self

    def row(self, index: int, total: int) -> int:
        """The table's step at the same fraction of the run."""
        return min(int((index + 0.5) / total * self.steps), self.steps - 1)

    def price(self, knob: Literal["harm", "cost"], most: float) -> float:
        """The price at which `knob` is `most`, between the curve's points: the highest that keeps the harm,
        the lowest that keeps the cost. Past the ends: the base, or the coarsest that was measured."""
        points = self.curve
        if knob == "cost":
            if most >= points[0].cost:
                return points[0].price
            ahead = next((i for i, p in enumerate(points) if p.cost <= most), None)
        else:
            ahead = next((i for i, p in enumerate(points) if p.harm > most), None)
        if ahead is None:
            return points[-1].price
        if ahead == 0:
            return points[0].price
        low, high = points[ahead - 1], points[ahead]
        a, b = getattr(low, knob), getattr(high, knob)
        return low.price + (most - a) / (b - a) * (high.price - low.price)


class Calibration(_Data):
    """Everything that `Calibrated` reads.

    order, rho: which signal. cost: FLOPs of a step by scale, as a share of the base's. runs: one for each
    number of steps, the finest first. made: names and fingerprints of what it was measured on.
    """

    format: Literal[1] = 1
    order: Annotated[int, Field(ge=1, le=8)]
    rho: Annotated[float, Field(ge=0, le=1)] = 0.4
    cost: dict[int, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    runs: Annotated[tuple[Run, ...], Field(min_length=1, repr=False)]
    made: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _scales(self) -> Calibration:
        for run in self.runs:
            if set(run.tables) != set(self.cost) or any(scale < 2 for scale in self.cost):
                raise ValueError(
                    f"cost names scales {sorted(self.cost)}, the tables of {run.steps} steps "
                    f"{sorted(run.tables)}; both need the same, each above 1"
                )
        return self

    @property
    def scales(self) -> tuple[int, ...]:
        return tuple(sorted(self.cost))

    @property
    def digest(self) -> str:
        """12 hex digits of the content: another table, another policy."""
        return digest(self.model_dump(mode="json"))

    def run_of(self, total: int) -> Run:
        """The run whose number of steps is nearest to `total`, as a ratio."""
        return min(self.runs, key=lambda run: abs(math.log(run.steps / total)))

    def rank(self, index: int, total: int, signals: Mapping[int, float]) -> Rank:
        """The bins that the signals of a step fall into, by scale."""
        run = self.run_of(total)
        row = run.row(index, total)
        # A difference of order n of a smooth path falls with the n-th power of the step.
        unit = (total / run.steps) ** self.order
        return {s: bisect_right(run.tables[s][row].edges, signals[s] * unit) for s in self.scales}

    def last_rank(
        self, index: int, total: int, signals: Mapping[int, float] | None, past: Sequence[StepTrace]
    ) -> Rank | None:
        """The bins of the newest signal that is clean; None where there has been none.

        A coarse step kicks the velocity and inflates the next `order` differences, so only a signal after
        `order` fine steps is read. Until the next clean one its rank is kept: signals of a busy picture
        rank high at every step, while their size drifts along the run.
        """
        seen = [*((p.index, p.signals) for p in past), (index, signals)]
        for at, values in reversed(seen):
            if values is not None and all(p.scale == 1 for p in past[max(at - self.order, 0) : at]):
                return self.rank(at, total, values)
        return None

    def expected(self, index: int, total: int, rank: Rank | None) -> dict[int, float]:
        """Expected harm of this step by coarse scale."""
        run = self.run_of(total)
        tables = {s: run.tables[s][run.row(index, total)] for s in self.scales}
        if rank is None:
            return {s: table.marginal for s, table in tables.items()}
        return {s: table.harm[min(rank[s], len(table.harm) - 1)] for s, table in tables.items()}


def path_of(name_or_folder: str | Path) -> Path:
    """Where the calibration of an adapter lies: beside its configuration. A .json file is taken as it is."""
    path = Path(name_or_folder)
    return path if path.suffix == ".json" else find(name_or_folder) / FILE


def load(name_or_folder: str | Path) -> Calibration:
    """The calibration of an adapter; raises `DditError` naming the file where it is missing or broken."""
    path = path_of(name_or_folder)
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        raise DditError(
            f"there is no calibration at {path}; measure one with `ddit-eval calibrate --out {path.parent}`"
        ) from None
    return _read(path, stamp)


@lru_cache(maxsize=16)
def _read(path: Path, stamp: int) -> Calibration:
    again = f"Delete it and run `ddit-eval calibrate --out {path.parent}`"
    try:
        return Calibration.model_validate(read_json(path, again))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise DditError(f"{path} is no calibration ({where}: {what}). {again}") from None
