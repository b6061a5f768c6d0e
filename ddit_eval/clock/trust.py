"""How far a clock can be trusted: what its rounds leave open, which blocks were disturbed, when it is bad."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ddit_eval.clock.raw import PROCESSOR, STAGE, Sample
from ddit_eval.schema.timing import Table
from ddit_eval.stats import Floats, Interval

ERRORS = 3.0  # standard errors: a table has many rows, and all its intervals should hold
FAR = 5.0  # deviations from the row's other blocks
LEAST = 0.01  # of a log ratio: no deviation is taken to be smaller
WIDE = 0.05  # half-width of the base against itself beyond which the clock is bad

Ratios = Mapping[int, Sequence[float]]  # log of reference / method: by prompt, one a round


def noise(ratios: Mapping[str, Ratios]) -> dict[str, float]:
    """By method, what the clock leaves open of its speed-up (as a log ratio): `ERRORS` standard errors of
    the mean over prompts of the medians over rounds.

    The error is that of the rounds of a prompt, so that it holds nothing of what prompts differ by; no row's
    is below the median of all rows, since a few rounds agree by chance. Of a single round only that median
    is known, by what the prompts of a row differ by: most rows run one schedule.
    """
    own = {name: _error([*of.values()]) for name, of in ratios.items()}
    common = float(np.median([*own.values()])) if own else 0.0
    several = any(len(same) > 1 for of in ratios.values() for same in of.values())
    return {name: ERRORS * (max(common, error) if several else common) for name, error in own.items()}


def _error(prompts: Sequence[Sequence[float]]) -> float:
    """The standard error of a row's value. Deviations are median distances of two, so that a stalled round
    decides nothing where its prompt has others."""
    several = [same for same in prompts if len(same) > 1]
    if not several:
        return _distance([*itertools.chain(*prompts)]) / 0.954 / math.sqrt(len(prompts))
    # Of normal samples: a median's standard error by their median distance, times the root of their number.
    errors = [(0.71 if len(same) == 2 else 1.1) * _distance(same) / math.sqrt(len(same)) for same in several]
    return math.sqrt(statistics.fmean(error**2 for error in errors) / len(errors))


def _distance(values: Sequence[float]) -> float:
    """The median distance of two; 0 of one."""
    return float(np.median([abs(a - b) for a, b in itertools.combinations(values, 2)] or [0.0]))


def widened(interval: Interval, log_ratio: float) -> Interval:
    """No narrower than that, to both sides of the value; one sample still has no interval."""
    low = min(interval.low, interval.value * math.exp(-log_ratio))
    high = max(interval.high, interval.value * math.exp(log_ratio))
    return interval if math.isnan(interval.low) else replace(interval, low=low, high=high)


def half_width(interval: Interval) -> float:
    """As a share of the value; nan of one sample."""
    return max(interval.high - interval.value, interval.value - interval.low) / interval.value


def leaves_one(interval: Interval) -> bool:
    return interval.low > 1 or interval.high < 1


def settled(table: Table, within: float) -> bool:
    """Whether more rounds would change little: every interval is as narrow as asked for, or wide since
    prompts differ, which no round mends."""
    if table.null and table.null.n < 2:
        return True  # no round gives one prompt an interval
    if why_bad(table, within) or (table.null and half_width(table.null) > within):
        return False
    return all(half_width(r.speedup) <= within or (r.noise or 0) <= within / 2 for r in table.rows)


def why_bad(table: Table, within: float) -> str | None:
    """Why the clock decides nothing, as a clause; None where it does. `within`: what was asked for, which the
    noise of no row may exceed."""
    if null := table.null:
        if null.n < 2:
            return "one prompt gives no interval (timing.prompts)"
        if leaves_one(null) or half_width(null) > WIDE:
            said = f"{null.value:.2f}x [{null.low:.2f}, {null.high:.2f}]"
            return f"the machine was disturbed: the base against itself came out at {said}"
    noisiest = max(table.rows, key=lambda row: row.noise or 0)
    if (noisiest.noise or 0) > within:
        what = f"{100 * (noisiest.noise or 0):.0f} % of the speed-up of {noisiest.method}"
        return (
            f"the machine was disturbed: its rounds leave {what} open, and {100 * within:g} % were asked for"
        )
    return None


def disturbed(samples: Sequence[Sample], stage: str = STAGE) -> list[tuple[int, int]]:
    """The blocks (prompt, round) with a sample far off its row's others, the worst first: in its ratio to the
    block, or by seconds in which the machine did something else (on a CPU)."""
    blocks = list(dict.fromkeys((s.prompt, s.round) for s in samples if not s.repeated))
    names = list(dict.fromkeys(s.method for s in samples if not s.repeated))
    if len(blocks) < 4:
        return []
    shape = len(names), len(blocks)
    wall, lost = np.full(shape, math.nan), np.full(shape, math.nan)
    for s in samples:
        if not s.repeated and stage in s.stages:
            place = names.index(s.method), blocks.index((s.prompt, s.round))
            wall[place] = math.log(s.stages[stage])
            if s.stages.get(PROCESSOR, 0) > 0:
                lost[place] = wall[place] - math.log(s.stages[PROCESSOR])
    far = np.fmax(np.abs(_scores(wall - np.nanmedian(wall, 0))), _scores(lost)).max(0)
    order = np.argsort(-far, kind="stable").tolist()
    return [blocks[i] for i in order if far[i] > FAR]


def _scores(values: Floats) -> Floats:
    """How many robust deviations each lies off its row (methods, blocks); nan counts as none."""
    if np.isnan(values).all():
        return np.zeros(values.shape)
    apart = values - np.nanmedian(values, 1, keepdims=True)
    spread = 1.4826 * np.nanmedian(np.abs(apart), 1, keepdims=True)
    return np.nan_to_num(apart / np.maximum(spread, LEAST))
