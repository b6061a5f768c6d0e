"""Policies are pure: each test hands them what a step can see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddit_eval.errors import DditError
from ddit_eval.policies import (
    Base,
    Budget,
    CoarseFirst,
    Explicit,
    FineFirst,
    Fixed,
    Policy,
    Random,
    StepView,
    Threshold,
    choices,
    parse_policy,
    verdict,
)
from ddit_eval.trace import StepTrace

Signal = Callable[[int, list[StepTrace]], dict[int, float]]


def run(policy: Policy, total: int, signal: Signal | None = None, seed: int | None = None) -> list[StepTrace]:
    """Drive a policy through a run whose signals come from `signal(index, past)`."""
    past: list[StepTrace] = []
    for index in range(total):
        known = signal is not None and policy.order and index >= policy.order
        values = signal(index, past) if signal and known else None
        scale = policy.decide(StepView(index, total, values, past, seed))
        past.append(StepTrace(index, 1000.0 - index, scale, values, 64 // scale**2, 64))
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
    assert verdict(never, [run(never, 6, signal)]) == (
        "tau = 0.1 never fired (signals between 0.25 and 0.75): every measured step ran fine"
    )
    assert "always fired" in str(verdict(always, [run(always, 6, signal)]))
    assert verdict(some, [run(some, 8, signal)]) is None
    assert "no step had a signal" in str(verdict(never, [run(never, 3, signal)]))
    assert verdict(Fixed(2), [run(Fixed(2), 3)]) is None


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
