"""results/summary.json: the table that others read. The schema is the contract."""

from __future__ import annotations

from collections.abc import Iterator

from ddit_eval.judging.advice import gain_of, sentences
from ddit_eval.judging.results import Results
from ddit_eval.schema.summary import Interval, Row, Summary, Target


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
    targets = [target for results in profiles for target in _targets(results)]
    return Summary(machine=machines[0].plain() if machines else None, rows=rows, frontier=targets)


def _targets(results: Results) -> Iterator[Target]:
    data, columns = results.frontier, results.quality.metrics
    if data is None:
        return
    for target, sentence in zip(data.targets, sentences(data, columns), strict=True):
        ways = (target.best, target.best_without_coarse, target.best_ddit)
        best, plain, ddit = (way.name if way else None for way in ways)
        yield Target(
            model=results.quality.model, speed_up=target.speed_up, best=best, best_without_coarse=plain,
            best_ddit=ddit, gain=Interval.of(gain_of(data, target, columns)), sentence=sentence,
        )  # fmt: skip
