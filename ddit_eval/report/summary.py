"""results/summary.json: the table that others read. The schema is the contract."""

from __future__ import annotations

from ddit_eval import stats
from ddit_eval.judging.results import Json, Results
from ddit_eval.schema.summary import Interval, Row, Summary


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
    return Interval.of(stats.Interval.from_json(data) if data else None)
