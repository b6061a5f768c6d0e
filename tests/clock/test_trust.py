"""Clocks that are simulated: steady, drifting, stalled once, disturbed in bursts."""

from __future__ import annotations

import csv
import json
import math
import statistics
from io import StringIO

import numpy as np
import pytest

from ddit_eval.clock import raw, timing, trust
from ddit_eval.clock.raw import NULL, Sample
from ddit_eval.clock.timing import Until
from ddit_eval.schema.timing import Table
from ddit_eval.stats import Interval

COSTS = {"base": 0.3, "twice": 0.15, "slower": 0.4}
SAME = {f"base-{i}": 0.3 for i in range(7)}
PROMPTS = range(6)


class Machine:
    """Runs take their cost, times noise; in bursts (mean seconds `on` and `off`) everything takes 1.8 times
    as long, while the processor's own seconds stay what they are. `stalls`: of which run, by how much."""

    def __init__(
        self,
        noise: float = 0.01,
        on: float = 0.0,
        off: float = 1.0,
        drift: float = 0.0,
        stalls: dict[int, float] | None = None,
        seed: int = 0,
    ):
        self.rng, self.noise, self.on, self.off, self.drift = (
            np.random.default_rng(seed),
            noise,
            on,
            off,
            drift,
        )
        self.now, self.runs, self.busy, self.stalls = 0.0, 0, False, stalls or {}
        self.change = float(self.rng.exponential(off)) if on else math.inf

    def run(self, cost: float) -> dict[str, float]:
        work = cost * float(self.rng.lognormal(0, self.noise)) * (1 + self.drift * self.runs)
        start, own = self.now, work
        while self.now + work * (slow := 1.8 if self.busy else 1.0) > self.change:
            work -= (self.change - self.now) / slow
            self.now, self.busy = self.change, not self.busy
            self.change += float(self.rng.exponential(self.on if self.busy else self.off))
        self.now += work * slow + self.stalls.get(self.runs, 0.0)
        self.runs += 1
        return {"denoise": self.now - start, "processor": own}

    def measure(
        self, costs: dict[str, float], rounds: int = 2, seed: int = 0, **until: float
    ) -> tuple[list[Sample], Table]:
        def runner(cost: float) -> timing.Runner[int]:
            return lambda prompt, _: self.run(cost * (1 + prompt / 4))

        runners = {name: runner(cost) for name, cost in costs.items()}
        stop = Until(clock=lambda: self.now, **until)  # type: ignore[arg-type]
        reference = next(iter(costs))
        samples = timing.run_blocks(
            runners, PROMPTS, rounds, seed, reference=reference, until=stop, warm_up=0
        )
        return samples, timing.summarise(samples, reference)


def rounds_of(samples: list[Sample]) -> int:
    return 1 + max(s.round for s in samples)


@pytest.mark.parametrize("drift", [0.0, 0.003])
def test_a_steady_machine_is_done_after_the_first_rounds(drift: float) -> None:
    samples, table = Machine(noise=0.005, drift=drift).measure(COSTS)
    assert rounds_of(samples) == 2
    assert trust.why_bad(table, 0.03) is None
    for row, true in zip(table.rows, (1.0, 2.0, 0.75), strict=True):
        assert row.speedup.low <= true <= row.speedup.high
        assert trust.half_width(row.speedup) <= 0.03
        assert row.prompts == row.speedup.n or row.method == "base"
    assert table.null is not None
    assert trust.half_width(table.null) <= 0.03


def test_a_noisy_machine_takes_more_rounds_and_reaches_what_was_asked_for() -> None:
    samples, table = Machine(noise=0.03).measure(COSTS)
    assert 2 < rounds_of(samples) < 10
    assert trust.why_bad(table, 0.03) is None
    assert all(trust.half_width(row.speedup) <= 0.03 for row in table.rows)


def test_rounds_end_where_they_are_capped() -> None:
    samples, table = Machine(noise=0.015).measure(COSTS, most=4, within=0.01)
    assert rounds_of(samples) == 4
    assert "of the speed-up of" in (trust.why_bad(table, 0.01) or "")
    few, _ = Machine(noise=0.06).measure(COSTS, minutes=0.5)  # a round takes 11 seconds
    assert rounds_of(few) == 2


def test_a_stall_of_one_sample_is_run_again_and_kept_as_it_was() -> None:
    samples, table = Machine(noise=0.005, stalls={17: 2.0}).measure(COSTS)
    repeated = [s for s in samples if s.repeated]
    assert len(repeated) == 4  # the whole block
    assert max(s.stages["denoise"] for s in repeated) > 2
    assert max(s.stages["denoise"] for s in samples if not s.repeated) < 1.2
    assert len(samples) == 4 * (2 * len(PROMPTS) + 1)
    assert table.rows[0].runs == 2 * len(PROMPTS)
    assert trust.why_bad(table, 0.03) is None
    assert abs(table.rows[1].speedup.value - 2) < 0.02


def test_seconds_that_the_processor_did_not_get_make_a_sample_suspect() -> None:
    blocks = [
        Sample(m, p, 0, 0, {"denoise": 1.5 if p == 3 else 1.0, "processor": 1.0})
        for p in range(6)
        for m in ("base", NULL, "fast")
    ]
    assert trust.disturbed(blocks) == [(3, 0)]  # though its ratios are those of the others


def test_no_more_than_a_share_of_the_blocks_is_run_again() -> None:
    stalls = dict.fromkeys(range(1, 200, 9), 3.0)
    samples, _ = Machine(noise=0.002, stalls=stalls).measure(COSTS, most=2)
    blocks = len(samples) // 4
    assert 1 <= sum(s.repeated for s in samples) / 4 <= timing.REPEATED * blocks


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("cost", "on", "off"), [(0.04, 0.3, 1.2), (0.3, 0.5, 2.0), (0.3, 2.0, 2.0)])
def test_under_bursts_rows_that_are_the_base_come_out_as_one_or_nothing_is_said(
    cost: float, on: float, off: float, seed: int
) -> None:
    machine = Machine(on=on, off=off, seed=seed)
    _, table = machine.measure(dict.fromkeys(SAME, cost), seed=seed, within=0.025, most=8)
    if trust.why_bad(table, 0.025) is None:
        for interval in [table.null, *(row.speedup for row in table.rows)]:
            assert interval is not None
            assert 0.95 <= interval.low <= 1 <= interval.high <= 1.05


def test_runs_shorter_than_a_burst_are_measured_in_spite_of_it() -> None:
    _, table = Machine(on=0.3, off=2.0).measure(dict.fromkeys(SAME, 0.04))
    assert trust.why_bad(table, 0.03) is None  # both of a pair are in it


def test_a_row_whose_prompts_differ_is_wide_and_no_round_mends_that() -> None:
    samples = [
        Sample(m, p, r, 0, {"denoise": s})
        for p in PROMPTS
        for r in (0, 1)
        for m, s in (("base", 1.0), (NULL, 1.0), ("dynamic", 1 / (1 + p)))
    ]
    table = timing.summarise(samples, "base")
    assert trust.half_width(table.rows[1].speedup) > 0.2
    assert table.rows[1].noise == 0
    assert trust.settled(table, 0.03)
    assert trust.why_bad(table, 0.03) is None


@pytest.mark.parametrize(
    ("null", "says"),
    [
        (Interval(1.02, 1.01, 1.03, 6), "itself came out at 1.02x"),
        (Interval(1.0, 0.94, 1.04, 6), "itself came out at 1.00x [0.94, 1.04]"),
        (Interval(1.0, math.nan, math.nan, 1), "one prompt"),
        (Interval(1.0, 0.97, 1.03, 6), None),
        (None, None),
    ],
)
def test_why_a_clock_is_bad(null: Interval | None, says: str | None) -> None:
    samples = [Sample("base", p, 0, 0, {"denoise": 1.0}) for p in PROMPTS]
    table = timing.summarise(samples, "base").model_copy(update={"null": null})
    assert (trust.why_bad(table, 0.03) or "None").count(says or "None") == 1


def test_every_speed_up_follows_from_the_raw_times() -> None:
    samples, table = Machine(noise=0.03, stalls={9: 1.0}).measure(COSTS, rounds=3)
    times: dict[str, dict[str, dict[str, float]]] = {}
    for line in csv.DictReader(StringIO(raw.to_csv(samples))):
        if line["repeated"] == "0":
            of_prompt = times.setdefault(line["method"], {}).setdefault(line["prompt"], {})
            of_prompt[line["round"]] = float(line["denoise"])
    for row in table.rows:
        medians = [
            statistics.median(times["base"][prompt][turn] / seconds for turn, seconds in rounds.items())
            for prompt, rounds in times[row.method].items()
        ]
        if len(next(iter(times["base"].values()))) % 2:  # of an even number the median is taken of logarithms
            assert row.speedup.value == pytest.approx(statistics.geometric_mean(medians), rel=1e-12)
    assert any(s.repeated for s in samples)
    json.dumps(table.plain(), allow_nan=False)
