from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter
from scipy.stats import t

from ddit_eval import stats
from ddit_eval.errors import DditError

inf, nan = math.inf, math.nan
samples = arrays(np.float64, st.integers(2, 12), elements=st.floats(-1e3, 1e3, width=32))


def test_agrees_with_students_t_on_many_normal_samples() -> None:
    sample = np.random.default_rng(0).normal(3.0, 2.0, 400)
    got = stats.mean(sample)
    half = t.ppf(0.975, 399) * sample.std(ddof=1) / 20
    assert got.value == pytest.approx(sample.mean())
    assert got.low == pytest.approx(sample.mean() - half, abs=0.02)
    assert got.high == pytest.approx(sample.mean() + half, abs=0.02)


@pytest.mark.parametrize(("draw", "true", "least"), [("normal", 0.0, 0.92), ("exponential", 1.0, 0.87)])
def test_coverage_with_as_few_prompts_as_a_quick_run_has(draw: str, true: float, least: float) -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(300):
        got = stats.mean(getattr(rng, draw)(size=8), resamples=2000, seed=trial)
        hits += got.low <= true <= got.high
    assert least <= hits / 300 <= 0.985


def test_the_plain_percentile_interval_would_be_too_short() -> None:
    sample = np.random.default_rng(2).normal(size=8)
    got = stats.mean(sample)
    low, high = np.quantile(stats._resampled_means(sample, 10_000, 0), [0.025, 0.975])
    assert got.low < low < high < got.high


@settings(max_examples=40, deadline=None)
@given(samples, st.floats(-100, 100), st.floats(0.5, 4))
def test_interval_holds_the_mean_and_follows_shift_and_scale(
    sample: np.ndarray, shift: float, scale: float
) -> None:
    one = stats.mean(sample, resamples=500)
    other = stats.mean(sample * scale + shift, resamples=500)
    assert one.low - 1e-9 <= one.value <= one.high + 1e-9
    for key in ("value", "low", "high"):
        assert getattr(other, key) == pytest.approx(getattr(one, key) * scale + shift, rel=1e-6, abs=1e-3)


def test_same_seed_same_interval_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = np.random.default_rng(3).normal(size=16)
    whole = stats.mean(sample, seed=5)
    assert whole == stats.mean(sample, seed=5)
    monkeypatch.setattr(stats, "_CHUNK", 16 * 100)
    assert whole == stats.mean(sample, seed=5)


def test_one_sample_and_constant_samples_say_so() -> None:
    one = stats.mean([4.0])
    assert (one.value, one.n, str(one)) == (4.0, 1, "4, n = 1")
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert one.note is not None
    assert "one sample" in one.note
    same = stats.mean([0.1] * 3)
    assert (same.value, same.low, same.high) == (0.1, 0.1, 0.1)
    assert same.note is not None
    assert "equal" in same.note


def test_infinities_are_results() -> None:
    some = stats.mean([30.0, inf, 32.0])
    assert (some.value, some.n, some.infinite) == (31.0, 3, 1)
    every = stats.mean([inf, inf])
    assert (every.value, every.low, every.high, every.infinite) == (inf, inf, inf, 2)
    text = json.dumps(every.to_json(), allow_nan=False)
    assert json.loads(text)["value"] == "inf"
    assert TypeAdapter(stats.Interval).validate_json(text) == every


def test_what_is_not_asked_for_is_left_out() -> None:
    got = stats.mean([1.0, nan, 0.0, nan])
    assert (got.value, got.n) == (0.5, 2)
    none = stats.mean([nan, nan])
    assert none.n == 0
    assert none.to_json()["value"] is None


def test_paired_difference_beats_unpaired_spread_and_equal_infinities_cancel() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(0, 10, 50)
    got = stats.paired_difference(base + 0.5 + rng.normal(0, 0.1, 50), base)
    assert got.low > 0.4
    assert got.high < 0.6
    assert stats.paired_difference([inf, inf], [inf, inf]).value == 0.0
    assert stats.paired_difference([30.0, 31.0], [inf, inf]).value == -inf


def test_geometric_ratio_recovers_a_known_ratio_and_inverts() -> None:
    rng = np.random.default_rng(6)
    slow = rng.lognormal(0, 1.0, (20, 5))  # prompts and rounds differ widely; the ratio does not
    fast = slow / (2.0 * rng.lognormal(0, 0.02, slow.shape))
    got, back = stats.geometric_ratio(slow, fast), stats.geometric_ratio(fast, slow)
    assert got.low < 2.0 < got.high
    assert got.high - got.low < 0.05
    assert got.value * back.value == pytest.approx(1.0)
    assert got.n == 20  # prompts, not prompts x rounds


def test_rounds_of_a_prompt_are_one_unit() -> None:
    ratio = np.repeat([[1.0], [4.0]], 50, axis=1)
    many = stats.geometric_ratio(ratio, np.ones_like(ratio))
    few = stats.geometric_ratio([1.0, 4.0], [1.0, 1.0])
    assert many.value == pytest.approx(2.0)
    assert (many.low, many.high) == pytest.approx((few.low, few.high))


@pytest.mark.parametrize(
    ("shift", "direction", "non_inferior", "equivalent"),
    [
        (0.0, "higher", True, True),
        (-1.0, "higher", False, False),
        (1.0, "higher", True, False),
        (1.0, "lower", False, False),
        (-1.0, "lower", True, False),
    ],
)
def test_equivalence(shift: float, direction: stats.Direction, non_inferior: bool, equivalent: bool) -> None:
    rng = np.random.default_rng(7)
    base = rng.normal(0, 5, 40)
    got = stats.equivalence(base + shift + rng.normal(0, 0.2, 40), base, 0.5, direction)
    assert (got.non_inferior, got.equivalent) == (non_inferior, equivalent)
    json.dumps(got.to_json(), allow_nan=False)


def test_equivalence_is_not_claimed_from_one_sample_or_beside_infinite_losses() -> None:
    assert not stats.equivalence([1.0], [1.0], 0.5).non_inferior
    assert not stats.equivalence([1.0, 1.0, 30.0], [1.0, 1.0, inf], 0.5).non_inferior


def test_equivalence_seldom_passes_at_the_margin() -> None:
    rng = np.random.default_rng(8)
    passed = sum(
        stats.equivalence(rng.normal(-1.0, 1.0, 12), np.zeros(12), 1.0, resamples=1000).non_inferior
        for _ in range(300)
    )
    assert passed / 300 <= 0.09


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6, 0.9])
def test_a_p_value_is_the_interval_turned_round(shift: float) -> None:
    sample = np.random.default_rng(4).normal(shift, 1.0, 12)
    p = stats.p_value(sample)
    for level in (0.8, 0.9, 0.95, 0.99):
        got = stats.mean(sample, level=level)
        assert (p < 1 - level) == (got.low > 0 or got.high < 0)


def test_one_sided_p_values_are_those_of_equivalence() -> None:
    rng = np.random.default_rng(5)
    loss = rng.normal(0.1, 1.0, 20)
    got = stats.equivalence(-loss, np.zeros(20), 0.6)
    assert (stats.p_value(loss, 0.6, "less") < 0.05) == got.non_inferior
    assert stats.p_value(loss, 0.6, "less") + stats.p_value(loss, 0.6, "greater") == pytest.approx(
        1, abs=0.01
    )


def test_p_values_are_uniform_where_nothing_is_there() -> None:
    rng = np.random.default_rng(6)
    p = [stats.p_value(rng.normal(size=10), resamples=1000) for _ in range(300)]
    assert 0.02 <= np.mean(np.asarray(p) < 0.05) <= 0.09


def test_clear_differences_go_below_the_resolution_of_the_resamples() -> None:
    sample = np.random.default_rng(7).normal(5.0, 1.0, 32)
    assert 0 < stats.p_value(sample) < 1e-6


def test_p_values_of_what_cannot_be_tested() -> None:
    assert math.isnan(stats.p_value([1.0]))
    assert stats.p_value([1.0, inf]) == 1.0
    assert stats.p_value([0.0, 0.0, 0.0]) == 1.0
    assert 0 < stats.p_value([0.5] * 8) < 0.01


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, nan]) == pytest.approx([0.03, 0.06, 0.06, nan], nan_ok=True)
    assert stats.holm([0.5, 0.9]) == [1.0, 1.0]
    assert stats.holm([]) == []
    with pytest.raises(DditError, match="p-value lies in"):
        stats.holm([1.5])


def test_many_intervals_say_how_many_miss() -> None:
    assert stats.note_of_many(1) is None
    assert "40 intervals" in str(stats.note_of_many(40))
    assert "about 2.0 of them" in str(stats.note_of_many(40))


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.mean([[1.0, 2.0]]),
        lambda: stats.paired_difference([1.0], [1.0, 2.0]),
        lambda: stats.geometric_ratio([1.0], [0.0]),
        lambda: stats.geometric_ratio([1.0, 2.0], [1.0]),
        lambda: stats.equivalence([1.0], [1.0], 0.0),
    ],
)
def test_bad_input_is_refused(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DditError):
        call()


@pytest.mark.parametrize(("alpha", "two_sided"), [(0.05, False), (0.05, True), (0.002, False)])
@pytest.mark.parametrize("n", [12, 40])
def test_power_is_what_simulated_experiments_have(n: int, alpha: float, two_sided: bool) -> None:
    """The share of experiments without a difference whose Student's test shows the margin."""
    runs, sd = 4000, 2.0
    margin = stats.power_margin(sd, n, alpha=alpha, two_sided=two_sided)
    samples = np.random.default_rng(n).normal(0, sd, (runs, n))
    width = t.ppf(1 - alpha, n - 1) * samples.std(1, ddof=1) / np.sqrt(n)
    mean = np.abs(samples.mean(1)) if two_sided else samples.mean(1)
    assert np.mean(mean + width < margin) == pytest.approx(stats.POWER, abs=0.06)


def test_prompts_needed_is_the_inverse_of_the_margin_that_they_show() -> None:
    for sd, margin in ((0.2, 0.05), (6.0, 1.0), (0.01, 0.05)):
        n = stats.prompts_needed(sd, margin)
        assert stats.power_margin(sd, n) <= margin
        assert n == 2 or stats.power_margin(sd, n - 1) > margin
    assert stats.prompts_needed(0.0, 0.05) == 2
    assert np.isnan(stats.power_margin(1.0, 1))
    interval = stats.Interval(1.0, 0.02, 1.98)
    assert stats.normal_p(interval, 0.0, "two-sided") == pytest.approx(0.0455, abs=1e-3)
    assert stats.normal_p(interval, 2.0, "less") == pytest.approx(0.0228, abs=1e-3)
    assert stats.normal_p(stats.Interval(0.0, 0.0, 0.0), 1.0, "less") == 0.0
