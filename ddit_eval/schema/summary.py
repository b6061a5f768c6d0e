"""results/summary.json: the table that others read. The schema is the contract."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ddit_eval import stats

Number = float | Literal["inf", "-inf"] | None  # JSON has no infinity; null: not measured


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Interval(_Strict):
    """A value with its 95 % interval over prompts."""

    value: Number
    low: Number
    high: Number

    @classmethod
    def of(cls, interval: stats.Interval | None) -> Interval:
        """Nulls where nothing was measured."""
        ends = ("value", "low", "high")
        plain = interval.to_json() if interval else dict.fromkeys(ends)
        return cls(**{k: plain[k] for k in ends})


class Row(_Strict):
    """A method. `params` is its policy; token_ratio and flop_ratio are > 1 where it is cheaper than the
    base."""

    model: str
    method: str
    params: dict[str, Any]
    n: int
    steps: int
    token_ratio: float
    flop_ratio: float
    speedup: Interval
    quality: dict[str, Interval]


class Target(_Strict):
    """The best ways found to a speed-up, by name, and the sentence that says so. `gain`: of the first over
    the second in the metric that was searched by, above 0 where coarse patches make it better."""

    model: str
    speed_up: float
    best: str | None
    best_without_coarse: str | None
    best_ddit: str | None
    gain: Interval
    sentence: str


class Summary(_Strict):
    """`frontier`: left out where no way to a speed-up was searched for."""

    machine: dict[str, Any] | str | None
    rows: list[Row]
    frontier: list[Target] = Field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude=None if self.frontier else {"frontier"})
