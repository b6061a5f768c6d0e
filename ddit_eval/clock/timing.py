"""Wall-clock comparisons that a disturbed machine cannot fake: blocks, paired ratios, a null row.

One process and one loaded pipeline; methods are switches. A block is one prompt with one noise seed:
every method runs in it once, in an order drawn for the block, and the reference once more (the A/A null
row). Slow drifts of the machine fall on all methods alike and cancel in the ratios of a block; a block with
a sample far off is run again, and rounds go on until the intervals are as narrow as asked for. The statistic
is the geometric mean over prompts of the median ratio over rounds, bootstrapped over prompts, because
schedules depend on them; `clock.trust` says what it is worth.

Nothing here knows of pipelines: `ddit_eval.clock.stopwatch` has runners for them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import psutil

from ddit_eval import stats
from ddit_eval.clock import trust
from ddit_eval.clock.raw import NULL, STAGE, Sample
from ddit_eval.errors import DditError
from ddit_eval.schema.timing import Row, Seconds, Table
from ddit_eval.stats import Interval
from ddit_eval.system.progress import Progress, quiet

P = TypeVar("P")
# (prompt, noise seed) -> seconds, or seconds by stage ("denoise", "end_to_end", ...)
Runner = Callable[[P, int], "float | Mapping[str, float]"]

REPEATED = 0.25  # of the blocks at most are run again


@dataclass(frozen=True)
class Until:
    """When to stop after the first rounds: when the half-width of every interval is `within` (a share of its
    value), after `most` rounds, or where what comes next would end later than `minutes` after the start."""

    within: float = 0.03
    most: int = 10
    minutes: float | None = None
    clock: Callable[[], float] = time.monotonic


def run_blocks(
    runners: Mapping[str, Runner[P]],
    prompts: Sequence[P],
    rounds: int = 3,
    seed: int = 0,
    *,
    reference: str | None = None,
    until: Until | None = None,
    warm_up: int = 1,
    warmed: Callable[[], None] = lambda: None,
    progress: Progress = quiet,
) -> list[Sample]:
    """Run every method on every prompt, `rounds` times, interleaved; the samples in the order of running.

    `reference` names the runner that is run twice in a block, the second time as `NULL`. With `until`,
    disturbed blocks are run again, once each, and rounds are added. Each runner is first run `warm_up` times
    untimed on the first prompt; then `warmed` is called, once. Noise seeds depend on `seed`, prompt and round
    alone, so that all methods of a block start from the same noise.
    """
    if not runners or not prompts or rounds < 1:
        raise DditError(f"nothing to time: {len(runners)} methods, {len(prompts)} prompts, {rounds} rounds")
    if reference is not None and reference not in runners:
        raise DditError(f"the reference {reference!r} is not among the methods: {', '.join(runners)}")
    for _ in range(warm_up):
        for name in runners:
            runners[name](prompts[0], _noise_seed(seed, 0, 0))
    warmed()
    blocks = _Blocks(runners, prompts, seed, reference, until or Until(most=rounds), progress)
    for turn in range(rounds):
        blocks.round(turn, rounds)
    if until is not None and reference is not None:
        blocks.repeat()
        turn = rounds
        while blocks.goes_on(turn, reference):
            blocks.round(turn, turn + 1)
            blocks.repeat()
            turn += 1
    progress(len(blocks.samples), len(blocks.samples), "done")
    return blocks.samples


class _Blocks:
    """The blocks that were run so far."""

    def __init__(
        self,
        runners: Mapping[str, Runner[P]],
        prompts: Sequence[P],
        seed: int,
        reference: str | None,
        until: Until,
        progress: Progress,
    ):
        self.entries = dict(runners) | ({NULL: runners[reference]} if reference is not None else {})
        self.prompts, self.seed, self.until, self.progress = prompts, seed, until, progress
        self.rng = np.random.default_rng(seed)
        self.start = until.clock()
        self.samples: list[Sample] = []
        self.again: set[tuple[int, int]] = set()

    def round(self, turn: int, rounds: int) -> None:
        """Every prompt once, in an order of its own; `rounds`: of how many, for the progress."""
        total = (rounds * len(self.prompts) + len(self.again)) * len(self.entries)
        for index in self.rng.permutation(len(self.prompts)).tolist():
            self.block(index, turn, total)

    def block(self, index: int, turn: int, total: int) -> None:
        """Every method once, in an order drawn for the block."""
        names = list(self.entries)
        for position, which in enumerate(self.rng.permutation(len(names)).tolist()):
            name = names[which]
            self.progress(len(self.samples), total, name)
            took = self.entries[name](self.prompts[index], _noise_seed(self.seed, index, turn))
            stages = {STAGE: float(took)} if isinstance(took, int | float) else dict(took)
            load = psutil.getloadavg()[0]
            self.samples.append(Sample(name, index, turn, position, stages, load))

    def repeat(self) -> None:
        """Run blocks that were disturbed again, the worst first, as far as that may be."""
        for place in trust.disturbed(self.samples):
            count = len(self.samples) // len(self.entries)
            if place in self.again or len(self.again) + 1 > REPEATED * count or not self._in_time(1):
                continue
            self.again.add(place)
            self.samples = [
                replace(s, repeated=True) if (s.prompt, s.round) == place else s for s in self.samples
            ]
            self.block(*place, total=len(self.samples) + len(self.entries))

    def goes_on(self, turn: int, reference: str) -> bool:
        """Whether another round is allowed, and of use."""
        if turn >= self.until.most or not self._in_time(len(self.prompts)):
            return False
        return not trust.settled(summarise(self.samples, reference), self.until.within)

    def _in_time(self, blocks: int) -> bool:
        """Whether so many more blocks would end in time, if they take as long as those before."""
        spent, done = self.until.clock() - self.start, len(self.samples) // len(self.entries)
        return self.until.minutes is None or spent * (1 + blocks / done) <= 60 * self.until.minutes


def ratios(
    samples: Iterable[Sample], method: str, reference: str, stage: str = STAGE
) -> dict[int, list[float]]:
    """log of reference / method by prompt, one a round that both have; without what was repeated."""
    times: dict[str, dict[tuple[int, int], float]] = {method: {}, reference: {}}
    for s in samples:
        if s.method in times and stage in s.stages and not s.repeated:
            times[s.method][s.prompt, s.round] = s.stages[stage]
    if missing := [name for name, of in times.items() if not of]:
        raise DditError(f"no {stage} times of {', '.join(missing)}")
    found: dict[int, list[float]] = {}
    for prompt, turn in sorted(times[method].keys() & times[reference].keys()):
        log_ratio = math.log(times[reference][prompt, turn] / times[method][prompt, turn])
        found.setdefault(prompt, []).append(log_ratio)
    return found


def speedup(
    samples: Iterable[Sample], method: str, reference: str, stage: str = STAGE, *, seed: int = 0
) -> Interval:
    """Geometric mean over prompts of the median over rounds of reference / method, with its 95 % interval
    over prompts."""
    logs = [np.median(same) for same in ratios(samples, method, reference, stage).values()]
    return stats.geometric_ratio(np.exp(logs), np.ones(len(logs)), seed=seed)


def summarise(samples: Sequence[Sample], reference: str, stage: str = STAGE) -> Table:
    """The methods against `reference`, which comes first, by the time of `stage`. No interval of a speed-up
    is narrower than the noise of its row."""
    samples = [s for s in samples if not s.repeated]
    names = list(dict.fromkeys(s.method for s in samples))
    noise = trust.noise({n: ratios(samples, n, reference, stage) for n in names if n != reference})
    rows = []
    for name in sorted((n for n in names if n != NULL), key=lambda m: m != reference):
        own = [s for s in samples if s.method == name]
        times = [s.stages[stage] for s in own if stage in s.stages]
        seen = list(dict.fromkeys(key for s in own for key in s.stages))
        open_ = noise.get(name, 0.0)
        speedups = {
            key: trust.widened(speedup(samples, name, reference, key), open_)
            for key in (stage, "end_to_end")
            if key in seen
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
                noise=open_,
            )
        )
    null = trust.widened(speedup(samples, NULL, reference, stage), noise[NULL]) if NULL in names else None
    return Table(rows=tuple(rows), stage=stage, null=null)


def _noise_seed(seed: int, prompt: int, turn: int) -> int:
    return int(np.random.default_rng([seed, prompt, turn]).integers(2**31))
