"""results/summary.json: the table that others read. The schema is the contract."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ddit_eval.judging.results import Json, Results

Number = float | Literal["inf", "-inf"] | None  # JSON has no infinity; null: not measured


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Interval(_Strict):
    """A value with its 95 % interval over prompts."""

    value: Number
    low: Number
    high: Number


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


class Summary(_Strict):
    machine: dict[str, Any] | str | None
    rows: list[Row]


def summarise(*profiles: Results) -> Summary:
    """The contract's view of profiles; a method that was not timed has a speed-up of nulls. The machine is
    that of the first profile that was timed."""
    rows = [
        Row(
            model=results.quality["model"],
            method=row["method"],
            params=row["policy"],
            n=row["n"],
            steps=row["steps"],
            token_ratio=row["token_ratio"],
            flop_ratio=row["flop_ratio"],
            speedup=_interval((results.timed(row["method"]) or {}).get("speedup")),
            quality={name: _interval(value) for name, value in row["quality"].items()},
        )
        for results in profiles
        for row in results.rows
    ]
    timed = [results.timing for results in profiles if results.timing]
    return Summary(machine=timed[0]["machine"] if timed else None, rows=rows)


def _interval(data: Json | None) -> Interval:
    return Interval(**{k: (data or {}).get(k) for k in ("value", "low", "high")})
