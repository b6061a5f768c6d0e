"""Wall-clock comparisons that a disturbed machine cannot fake: blocks, paired ratios, a null row.

One process and one loaded pipeline; methods are switches. A block is one prompt with one noise seed:
every method runs in it once, in an order drawn for the block, and the reference once more (the A/A null
row). Slow drifts of the machine fall on all methods alike and cancel in the ratios of a block. The
statistic is the geometric mean of the ratios, bootstrapped over prompts, because schedules depend on them.

Nothing here knows of pipelines: `ddit_eval.clock.stopwatch` has runners for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.schema.timing import Row, Seconds, Table
from ddit_eval.stats import Interval
from ddit_eval.system.progress import Progress, quiet

P = TypeVar("P")
# (prompt, noise seed) -> seconds, or seconds by stage ("denoise", "end_to_end", ...)
Runner = Callable[[P, int], "float | Mapping[str, float]"]

NULL = "(null)"  # the reference against itself
STAGE = "denoise"


@dataclass(frozen=True)
class Sample:
    """One timed run: seconds by stage. `position`: its place in the block's order."""

    method: str
    prompt: int
    round: int
    position: int
    stages: dict[str, float]


def run_blocks(
    runners: Mapping[str, Runner[P]],
    prompts: Sequence[P],
    rounds: int = 3,
    seed: int = 0,
    *,
    reference: str | None = None,
    warm_up: int = 1,
    warmed: Callable[[], None] = lambda: None,
    progress: Progress = quiet,
) -> list[Sample]:
    """Run every method on every prompt, `rounds` times, interleaved; the samples in the order of running.

    `reference` names the runner that is run twice in a block, the second time as `NULL`. Each runner is
    first run `warm_up` times untimed on the first prompt; then `warmed` is called, once. Noise seeds depend
    on `seed`, prompt and round alone, so that all methods of a block start from the same noise.
    """
    if not runners or not prompts or rounds < 1:
        raise DditError(f"nothing to time: {len(runners)} methods, {len(prompts)} prompts, {rounds} rounds")
    if reference is not None and reference not in runners:
        raise DditError(f"the reference {reference!r} is not among the methods: {', '.join(runners)}")
    entries = dict(runners)
    if reference is not None:
        entries[NULL] = runners[reference]
    names = list(entries)
    for _ in range(warm_up):
        for name in runners:
            runners[name](prompts[0], _noise_seed(seed, 0, 0))
    warmed()
    rng = np.random.default_rng(seed)
    total = rounds * len(prompts) * len(names)
    samples: list[Sample] = []
    for turn in range(rounds):
        for index in rng.permutation(len(prompts)).tolist():
            for position, which in enumerate(rng.permutation(len(names)).tolist()):
                name = names[which]
                progress(len(samples), total, name)
                took = entries[name](prompts[index], _noise_seed(seed, index, turn))
                stages = {STAGE: float(took)} if isinstance(took, int | float) else dict(took)
                samples.append(Sample(name, index, turn, position, stages))
    progress(total, total, "done")
    return samples


def speedup(
    samples: Iterable[Sample], method: str, reference: str, stage: str = STAGE, *, seed: int = 0
) -> Interval:
    """Geometric mean of reference / method over blocks, with its 95 % interval over prompts."""
    table = _by_block(samples, stage)
    missing = [name for name in (method, reference) if name not in table]
    if missing:
        raise DditError(f"no {stage} times of {', '.join(missing)}; there are {', '.join(table)}")
    ours, theirs = table[method], table[reference]
    blocks = sorted(ours.keys() & theirs.keys())
    prompts = sorted({prompt for prompt, _ in blocks})
    # Rounds that one of the two lacks (a run that was cut short) drop out; the others still pair.
    logs = [np.mean([np.log(theirs[b] / ours[b]) for b in blocks if b[0] == prompt]) for prompt in prompts]
    return stats.geometric_ratio(np.exp(logs), np.ones(len(logs)), seed=seed)


def summarise(samples: Sequence[Sample], reference: str, stage: str = STAGE) -> Table:
    """The methods against `reference`, which comes first, by the time of `stage`."""
    methods = list(dict.fromkeys(s.method for s in samples if s.method != NULL))
    rows = []
    for name in sorted(methods, key=lambda m: m != reference):
        own = [s for s in samples if s.method == name]
        times = [s.stages[stage] for s in own if stage in s.stages]
        if not times:
            raise DditError(f"{name} has no times of the stage {stage!r}")
        seen = list(dict.fromkeys(key for s in own for key in s.stages))
        speedups = {
            key: speedup(samples, name, reference, key) for key in (stage, "end_to_end") if key in seen
        }
        low, high = np.quantile(times, (0.5, 0.95))
        rows.append(
            Row(
                method=name,
                speedup=speedups[stage],
                speedups=speedups,
                seconds=Seconds(p50=float(low), p95=float(high), mean=float(np.mean(times))),
                stages={
                    key: float(np.median([s.stages[key] for s in own if key in s.stages])) for key in seen
                },
                prompts=len({s.prompt for s in own}),
                runs=len(times),
            )
        )
    return Table(rows=tuple(rows), stage=stage, null=_null(samples, reference, stage))


def _null(samples: Sequence[Sample], reference: str, stage: str) -> Interval | None:
    if not any(s.method == NULL for s in samples):
        return None
    null = speedup(samples, NULL, reference, stage)
    if not (null.low > 1 or null.high < 1):
        return null
    note = "the base differs from itself: the machine was disturbed; every row may be as far off"
    return replace(null, note=note)


def _by_block(samples: Iterable[Sample], stage: str) -> dict[str, dict[tuple[int, int], float]]:
    table: dict[str, dict[tuple[int, int], float]] = {}
    for s in samples:
        if stage in s.stages:
            table.setdefault(s.method, {})[s.prompt, s.round] = s.stages[stage]
    return table


def _noise_seed(seed: int, prompt: int, turn: int) -> int:
    return int(np.random.default_rng([seed, prompt, turn]).integers(2**31))
