"""results/summary.json: the table that others read. The schema is the contract."""

from __future__ import annotations

from ddit_eval.judging.results import Results
from ddit_eval.schema.summary import Interval, Row, Summary


def summarise(*profiles: Results) -> Summary:
    """The contract's view of profiles; a method that was not timed has a speed-up of nulls. The machine is
    that of the first profile that was timed."""
    rows = [
        Row(
            model=results.quality.model,
            method=row.method,
            params=row.policy,
            n=row.n,
            steps=row.steps,
            token_ratio=row.token_ratio,
            flop_ratio=row.flop_ratio,
            speedup=Interval.of(timed.speedup if (timed := results.timed(row.method)) else None),
            quality={name: Interval.of(value) for name, value in row.quality.items()},
        )
        for results in profiles
        for row in results.rows
    ]
    machines = [results.timing.machine for results in profiles if results.timing]
    return Summary(machine=machines[0].plain() if machines else None, rows=rows)
