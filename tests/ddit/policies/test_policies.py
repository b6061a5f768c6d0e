"""Policies are pure: each test hands them what a step can see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddit_eval.ddit import policies
from ddit_eval.ddit.policies import (
    Base,
    Budget,
    Calibrated,
    CoarseFirst,
    Explicit,
    FineFirst,
    Fixed,
    Mixed,
    Policy,
    Random,
    Skip,
    Static,
    StepView,
    Threshold,
    check,
    choices,
    parse_policy,
    searchable,
)
from ddit_eval.ddit.policies.calibration import Calibration, CurvePoint, Run, StepTable
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError

Signal = Callable[[int, list[StepTrace]], dict[int, float]]


def run(policy: Policy, total: int, signal: Signal | None = None, seed: int | None = None) -> list[StepTrace]:
    """Drive a policy through a run whose signals come from `signal(index, past)`."""
    past: list[StepTrace] = []
    for index in range(total):
        known = signal is not None and policy.order and index >= policy.order
        values = signal(index, past) if signal and known else None
        scale = policy.decide(StepView(index, total, values, past, seed))
        past.append(StepTrace(index, 1000.0 - index, scale, values, scale and 64 // scale**2, 64))
    return past


def scales(trace: list[StepTrace]) -> list[int]:
    return [p.scale for p in trace]


def kicked(index: int, past: list[StepTrace]) -> dict[int, float]:
    """MINI's finding in small: a coarse step inflates the next three third differences."""
    value = 2.0 if any(p.scale > 1 for p in past[-3:]) else 0.5
    return {2: value, 4: value}


def test_static_policies() -> None:
    assert scales(run(Base(), 3)) == [1, 1, 1]
    assert scales(run(Fixed(2), 3)) == [2, 2, 2]
    assert scales(run(CoarseFirst(2), 4)) == [2, 2, 1, 1]
    assert scales(run(FineFirst(3, 4), 4)) == [1, 1, 1, 4]
    assert scales(run(Explicit([1, 4, 2]), 3)) == [1, 4, 2]


def test_regular_plans() -> None:
    assert scales(run(Skip(every=1), 4)) == [1] * 4
    assert scales(run(Skip(every=3), 7)) == [1, 0, 0, 1, 0, 0, 1]
    assert scales(run(Skip(every=3, first=2, last=2), 9)) == [1, 1, 0, 0, 1, 0, 0, 1, 1]
    assert scales(run(Mixed(every=2, coarse=3, scale=4), 7)) == [4, 4, 4, 1, 0, 1, 0]
    assert scales(run(Mixed(every=3, coarse=1, first=2, last=1, between=4), 8)) == [2, 1, 1, 4, 4, 1, 4, 1]
    assert scales(run(Mixed(every=9, coarse=9, last=1), 4)) == [2, 2, 2, 1]
    assert scales(run(Explicit([1, 0, 4]), 3)) == [1, 0, 4]
    assert [choices(p) for p in (Skip(every=1), Skip(every=2), Explicit([1, 0]))] == [{1}, {0, 1}, {0, 1}]
    assert choices(Mixed(every=2, coarse=3, between=4)) == {1, 2, 4}
    assert choices(Mixed(every=2)) == {0, 1}


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"kind": "skip"}, "every"),
        ({"kind": "skip", "every": 0}, "every"),
        ({"kind": "skip", "every": 2, "first": 0}, "first"),
        ({"kind": "skip", "every": 2, "last": -1}, "last"),
        ({"kind": "skip", "every": 2, "forecast": 2}, "forecast"),
        ({"kind": "skip", "every": 2, "gain": 0.5}, "add forecast: 1"),
        ({"kind": "skip", "every": 2, "forecast": 1, "gain": 0.0}, "gain"),
        ({"kind": "mixed", "every": 2, "scale": 1}, "scale"),
        ({"kind": "mixed", "every": 2, "between": 1}, "would make every step fine"),
        ({"kind": "mixed", "every": 2, "between": 2, "forecast": 1}, "of skipped steps, and there are none"),
        ({"kind": "explicit", "scales": [1, 2], "forecast": 1}, "of skipped steps, and there are none"),
        ({"kind": "explicit", "scales": [1, -1]}, "scales"),
        ({"kind": "random", "mix": {"0": 1, "1": 1}}, "mix"),
        ({"kind": "threshold", "tau": 1.0, "scales": [0, 2]}, "scales"),
        ({"kind": "budget", "scale": 0}, "scale"),
    ],
)
def test_plans_that_mean_nothing_are_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(DditError, match=word):
        parse_policy(values)


def test_a_mixed_trial_has_a_coarse_step() -> None:
    trial = {"every": 2, "first": 1, "last": 0, "scale": 4, "forecast": 1, "gain": 0.5}
    plan = Mixed.from_trial(trial | {"head": 0.0, "between": 0}, 20, lambda order: 1.0)
    assert (plan.coarse, plan.scale, plan.forecast, plan.gain) == (1, 4, 1, 0.5)
    plan = Mixed.from_trial(trial | {"head": 0.3, "between": 2}, 20, lambda order: 1.0)
    assert (plan.coarse, plan.between, plan.forecast, plan.gain) == (6, 2, 0, 1.0)
    kept = {"every": 3, "first": 2, "last": 1, "forecast": 0}
    assert Skip.from_trial(kept, 20, lambda order: 1.0) == Skip(every=3, first=2, last=1)


def test_explicit_names_both_lengths() -> None:
    with pytest.raises(DditError, match=r"lists 2 scales but the run has 3 steps"):
        run(Explicit([1, 2]), 3)


@given(
    weights=st.dictionaries(st.integers(1, 8), st.integers(1, 9), min_size=1),
    total=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_random_keeps_the_exact_mix(weights: dict[int, int], total: int, seed: int) -> None:
    got = Counter(scales(run(Random(weights, seed=seed), total)))
    assert sum(got.values()) == total
    for scale, weight in weights.items():
        assert abs(got[scale] - weight / sum(weights.values()) * total) < 1


def test_random_depends_on_both_seeds() -> None:
    policy = Random({1: 10, 2: 10})
    assert scales(run(policy, 20, seed=1)) == scales(run(policy, 20, seed=1))
    assert scales(run(policy, 20, seed=1)) != scales(run(policy, 20, seed=2))
    assert scales(run(policy, 20)) != scales(run(Random({1: 10, 2: 10}, seed=1), 20))


def test_threshold_takes_the_coarsest_scale_below_tau() -> None:
    def signal(index: int, past: list[StepTrace]) -> dict[int, float]:
        return {4: {3: 0.1, 4: 0.9, 5: 0.9}[index], 2: {3: 0.1, 4: 0.2, 5: 0.9}[index]}

    assert scales(run(Threshold(tau=0.5), 6, signal)) == [1, 1, 1, 4, 2, 1]
    assert scales(run(Threshold(tau=0.5, warmup_scale=4), 6, signal))[:3] == [4, 4, 4]
    assert scales(run(Threshold(tau=0.5, final_fine=2), 6, signal)) == [1, 1, 1, 4, 1, 1]
    assert scales(run(Threshold(tau=0.5, warmup_steps=5), 6, signal)) == [1] * 6


def test_the_bare_rule_has_a_limit_cycle_and_each_remedy_breaks_it() -> None:
    bare = scales(run(Threshold(tau=1.0, scales=(2,)), 16, kicked))
    assert bare == [1, 1, 1, 2] * 4
    wide = scales(run(Threshold(tau=1.0, scales=(2,), hysteresis=3.0), 16, kicked))
    assert wide == [1] * 3 + [2] * 13
    held = scales(run(Threshold(tau=1.0, scales=(2,), dwell=4), 16, kicked))
    assert held == [1] * 3 + [2] * 4 + [1] * 4 + [2] * 4 + [1]
    fine = scales(run(Threshold(tau=1.0, scales=(2,), measure="fine", max_run=5), 16, kicked))
    assert fine == [1] * 3 + [2] * 5 + [1] * 3 + [2] * 5


def test_max_run_ends_a_coarse_run() -> None:
    def calm(index: int, past: list[StepTrace]) -> dict[int, float]:
        return {2: 0.0, 4: 0.0}

    got = scales(run(Threshold(tau=1.0, order=1, max_run=2), 8, calm))
    assert got == [1, 4, 4, 1, 4, 4, 1, 4]


@given(
    share=st.floats(0, 1),
    total=st.integers(4, 30),
    final=st.integers(0, 3),
    values=st.lists(st.floats(0, 1), min_size=30, max_size=30),
)
def test_budget_is_spent_exactly(share: float, total: int, final: int, values: list[float]) -> None:
    policy = Budget(share, order=1, final_fine=final)
    got = scales(run(policy, total, lambda i, past: {2: values[i]}))
    assert got.count(2) == min(round(share * total), total - 1 - final)
    assert got[0] == 1
    assert 2 not in got[total - final :]


def test_budget_prefers_low_signals() -> None:
    got = scales(run(Budget(0.5, order=1), 20, lambda i, past: {2: float(i % 2)}))
    coarse = [i for i, s in enumerate(got) if s == 2]
    assert sum(i % 2 == 0 for i in coarse) > len(coarse) / 2


def test_verdict_names_tau_and_the_range() -> None:
    def signal(index: int, past: list[StepTrace]) -> dict[int, float]:
        return {2: 0.25, 4: 0.75}

    never, always, some = Threshold(tau=0.1), Threshold(tau=1.0), Threshold(tau=1.0, max_run=1)
    assert never.verdict([run(never, 6, signal)]) == (
        "tau = 0.1 never fired (signals between 0.25 and 0.75): every measured step ran fine"
    )
    assert "always fired" in str(always.verdict([run(always, 6, signal)]))
    assert some.verdict([run(some, 8, signal)]) is None
    assert "no step had a signal" in str(never.verdict([run(never, 3, signal)]))
    assert Fixed(2).verdict([run(Fixed(2), 3)]) is None


def calibration(steps: int = 8, order: int = 2, busy: float = 4.0) -> Calibration:
    """Harm halves from step to step; above a signal of 1 it is `busy` times as large."""

    def tables(most: float) -> tuple[StepTable, ...]:
        rows = []
        for t in range(steps):
            calm = most * 0.5**t
            bins = (calm, busy * calm) if t >= order else ((1 + busy) / 2 * calm,)
            edges = (1.0,) if t >= order else ()
            rows.append(StepTable(edges=edges, harm=bins, marginal=(1 + busy) / 2 * calm))
        return tuple(rows)

    points = tuple(
        CurvePoint(price=p, harm=h, cost=c)
        for p, h, c in ((0, 0, 1), (1e-3, 1e-4, 0.8), (1e-2, 1e-3, 0.5), (1, 1e-1, 0.2))
    )
    run = Run(steps=steps, tables={2: tables(1e-2), 4: tables(3e-2)}, curve=points)
    return Calibration(order=order, cost={2: 0.45, 4: 0.2}, runs=(run,))


def test_calibrated_takes_the_scale_of_least_harm_and_cost() -> None:
    policy = Calibrated(calibration(), price=1e-3)
    calm = scales(run(policy, 8, lambda i, past: {2: 0.5, 4: 0.5}))
    busy = scales(run(policy, 8, lambda i, past: {2: 2.0, 4: 2.0}))
    assert calm == sorted(calm)  # harm falls along the run: fine first
    assert sum(s > 1 for s in calm) > sum(s > 1 for s in busy) > 0
    assert scales(run(Calibrated(calibration(), price=0.0), 8)) == [1] * 8
    assert scales(run(Calibrated(calibration(), price=1e9), 8)) == [4] * 8


@given(
    index=st.integers(0, 7),
    values=st.none() | st.floats(0, 5),
    coarse=st.lists(st.sampled_from([1, 2, 4]), min_size=7, max_size=7),
    knobs=st.tuples(st.floats(0, 0.2), st.floats(0, 0.2)),
)
@settings(deadline=None)
def test_calibrated_is_pure_and_a_looser_knob_is_never_finer(
    index: int, values: float | None, coarse: list[int], knobs: tuple[float, float]
) -> None:
    table = calibration()
    past = [StepTrace(i, 0.0, coarse[i], {2: 0.5, 4: 2.0} if i > 1 else None, 1, 1) for i in range(index)]
    signals = None if values is None else {2: values, 4: values}
    view = StepView(index, 8, signals, past)
    tight, loose = (Calibrated(table, harm=h) for h in sorted(knobs))
    assert tight.decide(view) == tight.decide(view) <= loose.decide(view)
    rank = table.last_rank(index, 8, signals, past)
    harm = {1: 0.0, **table.expected(index, 8, rank)}
    assert harm[tight.decide(view)] <= harm[loose.decide(view)]
    dear, cheap = (
        Calibrated(table, cost=max(c, 1e-3)) for c in sorted(1 - 5 * h for h in sorted(knobs))[::-1]
    )
    assert dear.decide(view) <= cheap.decide(view)


def test_calibrated_reads_clean_signals_only() -> None:
    table = calibration()
    calm, kick = {2: 0.5, 4: 0.5}, {2: 9.0, 4: 9.0}

    def trace(*rows: tuple[int, dict[int, float] | None]) -> list[StepTrace]:
        return [StepTrace(i, 0.0, s, v, 1, 1) for i, (s, v) in enumerate(rows)]

    assert table.last_rank(1, 8, None, trace((1, None))) is None
    assert table.last_rank(2, 8, calm, trace((1, None), (1, None))) == {2: 0, 4: 0}
    assert table.last_rank(2, 8, kick, trace((1, None), (1, None))) == {2: 1, 4: 1}
    # Step 2 was coarse: what steps 3 and 4 see is its kick, so the rank of step 2 is kept.
    past = trace((1, None), (1, None), (2, calm))
    assert table.last_rank(3, 8, kick, past) == {2: 0, 4: 0}
    past = trace((1, None), (1, None), (2, calm), (1, kick))
    assert table.last_rank(4, 8, kick, past) == {2: 0, 4: 0}
    past = trace((1, None), (1, None), (2, calm), (1, kick), (1, kick))
    assert table.last_rank(5, 8, kick, past) == {2: 1, 4: 1}
    # Coarse from the start: no signal was ever clean, so the mean over signals counts.
    assert table.last_rank(2, 8, kick, trace((2, None), (1, None))) is None
    assert table.expected(3, 8, None) == {2: table.runs[0].tables[2][3].marginal,
                                          4: table.runs[0].tables[4][3].marginal}  # fmt: skip


def test_calibrated_has_no_limit_cycle() -> None:
    policy = Calibrated(calibration(), price=1e-3)
    got = scales(run(policy, 8, kicked))
    assert got == sorted(got)
    assert got[-1] > 1


def test_calibrated_fits_other_numbers_of_steps() -> None:
    table = calibration()
    assert [table.run_of(16).row(i, 16) for i in (0, 1, 2, 15)] == [0, 0, 1, 7]
    assert [table.run_of(4).row(i, 4) for i in range(4)] == [1, 3, 5, 7]
    # Twice as many steps, a quarter of the second difference: the same rank.
    assert table.rank(14, 16, {2: 0.3, 4: 0.2}) == {2: 1, 4: 0}


def test_calibrated_is_told_apart_by_its_table() -> None:
    one, other = Calibrated(calibration(), psnr=30), Calibrated(calibration(busy=5.0), psnr=30)
    assert one.digest != other.digest
    assert one == Calibrated(calibration(), psnr=30)
    assert parse_policy(one.model_dump(mode="json")) == one
    assert one.price_at(8) == pytest.approx(Calibrated(calibration(), harm=1e-3).price_at(8))
    assert choices(one) == {1, 2, 4}
    assert "psnr = 30 always fired" in str(one.verdict([run(Fixed(2), 3)]))
    assert one.verdict([run(Fixed(1), 3)]) == "psnr = 30 never fired: every step ran fine"


def test_calibrated_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text(calibration().model_dump_json())
    policy = parse_policy({"kind": "calibrated", "calibration": str(tmp_path), "psnr": 30})
    assert policy == Calibrated.from_pretrained(tmp_path, psnr=30)
    dumped = policy.model_dump(mode="json")
    assert parse_policy(dumped) == policy
    (tmp_path / "calibration.json").write_text(calibration(busy=6.0).model_dump_json())
    with pytest.raises(DditError, match=r"the calibration is \w+ by now"):
        parse_policy(dumped)
    assert Calibrated.from_pretrained(tmp_path, psnr=30).digest != dumped["digest"]


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({}, "give one knob of psnr, harm, cost, price.*got none"),
        ({"psnr": 30, "cost": 0.5}, "got psnr and cost"),
        ({"cost": 1.5}, "less than or equal to 1"),
    ],
)
def test_calibrated_takes_one_knob(knobs: dict[str, float], words: str) -> None:
    with pytest.raises(DditError, match=words):
        Calibrated(calibration(), **knobs)


def test_round_trip_and_choices() -> None:
    for policy in (Base(), Fixed(3), Explicit([1, 2]), Random({1: 1, 4: 3}), Threshold(0.1), Budget()):
        assert parse_policy(policy.model_dump(mode="json")) == policy
    assert parse_policy({"kind": "random", "mix": {"1": 0.5, "2": 0.5}}) == Random({1: 0.5, 2: 0.5})
    assert choices(Threshold(0.1, warmup_scale=8)) == {1, 2, 4, 8}
    assert choices(Explicit([2, 2])) == {1, 2}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "fixed", "scale": 0}, "got 0"),
        ({"kind": "fixed", "scale": 2.5}, "got 2.5"),
        ({"kind": "threshold", "tau": -1}, "tau: Input should be greater than 0"),
        ({"kind": "threshold", "tau": 1, "rho": 1.5}, "got 1.5"),
        ({"kind": "threshold", "tau": 1, "scales": [1, 2]}, "greater than or equal to 2"),
        ({"kind": "threshold", "tau": 1, "tua": 1}, "tua"),
        ({"kind": "random", "mix": {"1": 0}}, "gives no scale any weight"),
        ({"kind": "treshold"}, "'threshold'"),
    ],
)
def test_bad_input_is_named(data: dict[str, object], words: str) -> None:
    with pytest.raises(DditError, match=words):
        parse_policy(data)


def test_too_many_positional_values() -> None:
    with pytest.raises(DditError, match="takes 1 values"):
        Fixed(2, 3)


class EveryOther(Static):
    """A policy as another package would add it: every other step coarse."""

    kind: Literal["every-other"] = "every-other"
    scales: tuple[int, ...] = (2,)

    def decide(self, view: StepView) -> int:
        return self.scales[0] if view.index % 2 else 1


def test_a_policy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(group: str, needs: tuple[str, ...], *more: Any) -> dict[str, Any]:
        assert group == "ddit_eval.policies"
        assert not [name for name in needs if not hasattr(EveryOther, name)]
        return {"every-other": EveryOther}

    monkeypatch.setattr("ddit_eval.ddit.policies.plugins", installed)
    policy = parse_policy({"kind": "every-other", "scales": [4]})
    assert scales(run(policy, 4)) == [1, 4, 1, 4]
    assert parse_policy(policy.model_dump(mode="json")) == policy
    assert (policy.family, policy.control, policy.per_sample) == ("static coarse", None, False)
    with pytest.raises(DditError, match="'every-other' is no rule that a study can search; there are base"):
        searchable("every-other")


@pytest.mark.parametrize(
    ("name", "made", "says"),
    [
        ("every-other", EveryOther, ""),
        ("alternate", EveryOther, "its kind is 'every-other'"),
        ("base2", Base, "its kind is 'base'"),
        ("every-other", EveryOther(), "the policy's class, not an object"),
    ],
)
def test_an_entry_point_is_named_by_the_kind(name: str, made: Any, says: str) -> None:
    found = policies._wrong(name, made)
    assert says in found
    assert bool(says) == bool(found)


def test_what_a_policy_lacks_is_named() -> None:
    class Bare:
        kind = "bare"

        def decide(self, view: StepView) -> int:
            return 1

    missing: Any = Bare()
    with pytest.raises(DditError, match=r"the policy Bare lacks .*order, rho, scales.*Static"):
        check(missing)
