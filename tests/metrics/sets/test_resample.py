"""Intervals of distances, and the line to endless samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.metrics import sets
from ddit_eval.metrics.sets import frechet, resample
from tests.support.sets import MEASURES, gauss, ones

# Intervals.


@pytest.mark.parametrize("name", ["frechet", "kid"])
def test_bootstrap_spread_is_that_of_new_samples(name: str) -> None:
    """The interval's width agrees with the spread of the measure over sets drawn anew."""
    theirs = gauss(300, 3, 0)
    drawn = [MEASURES[name](gauss(150, 3, 100 + i, shift=0.5), theirs) for i in range(60)]
    anew = torch.cat([measure(ones(150)) for measure in drawn]).std()
    widths = [resample.bootstrap(measure, 150, resamples=100)[0] for measure in drawn[:5]]
    spread = np.mean([(i.high - i.low) / (2 * 1.96) for i in widths])
    assert spread == pytest.approx(float(anew), rel=0.3)
    assert all(i.low < i.value < i.high for i in widths)


def test_bootstrap_of_a_mean_is_the_usual_one() -> None:
    values = gauss(200, 1, 4)[:, 0]
    measure: resample.Measure = lambda w: (w @ values / w.sum(1))[:, None]  # noqa: E731
    (ours,) = resample.bootstrap(measure, 200, resamples=4000)
    usual = stats.mean(values.numpy())
    assert ours.value == pytest.approx(usual.value)
    assert (ours.low, ours.high) == pytest.approx((usual.low, usual.high), abs=0.02)


def test_the_note_tells_of_the_bias_that_the_interval_leaves_out() -> None:
    x, y = gauss(40, 20, 0), gauss(400, 20, 1)
    (interval,) = resample.bootstrap(sets.frechet_measure(x, sets.statistics(y)), 40, resamples=50)
    assert interval.note is not None
    assert "bias in n is not covered" in interval.note
    assert interval.low < interval.value < interval.high  # plain percentiles would lie above the value


def test_a_paired_interval_is_narrower() -> None:
    theirs = sets.statistics(gauss(500, 4, 0))
    x = gauss(200, 4, 1)
    one, other = (sets.frechet_measure(x + step, theirs) for step in (0.30, 0.32))
    (gap,) = resample.bootstrap(lambda weights: other(weights) - one(weights), 200, resamples=100)
    (alone,) = resample.bootstrap(one, 200, resamples=100)
    assert gap.low > 0
    assert gap.high - gap.low < 0.5 * (alone.high - alone.low)
    (same,) = resample.bootstrap(lambda weights: one(weights) - one(weights), 200, resamples=20)
    assert (same.value, same.low, same.high, same.note) == (0.0, 0.0, 0.0, "all resamples are equal")


def test_groups_are_drawn_together() -> None:
    weights = resample.draw_weights(6, 50, groups=["a", "b", "a", "c", "b", "a"])
    assert torch.equal(weights[:, 0], weights[:, 2])
    assert torch.equal(weights[:, 0], weights[:, 5])
    assert torch.equal(weights[:, 1], weights[:, 4])
    assert weights[:, [0, 1, 3]].sum(1).tolist() == [3.0] * 50
    with pytest.raises(DditError, match="at least 2"):
        resample.draw_weights(3, 5, groups=["a"] * 3)
    with pytest.raises(DditError, match="2 groups for 3 samples"):
        resample.draw_weights(3, 5, groups=["a", "b"])


def test_too_few_samples_for_a_bootstrap() -> None:
    # Of two samples, half the resamples hold one of them alone, which has no pairs.
    with pytest.raises(DditError, match="too few"):
        resample.bootstrap(sets.kid_measure(gauss(2, 3, 0), gauss(9, 3, 1)), 2, resamples=50)


def test_infinity_takes_the_bias_out() -> None:
    x, y = gauss(400, 10, 0, shift=0.3), gauss(20_000, 10, 1)
    truth = sets.frechet_distance(sets.statistics(gauss(20_000, 10, 2, shift=0.3)), sets.statistics(y))
    at_n = sets.frechet_distance(sets.statistics(x[:100]), sets.statistics(y))
    found = sets.frechet_infinity(x, sets.statistics(y))
    assert found.slope > 0  # fewer samples, greater distance
    assert abs(found.interval.value - truth) < abs(at_n - truth)
    assert found.interval.low < found.interval.value < found.interval.high
    assert found.sizes[0] == 40
    assert found.sizes[-1] == 400
    again = sets.frechet_infinity(x, sets.statistics(y))
    assert again == found
    few = sets.frechet_infinity(x[:15], sets.statistics(y))
    assert few.interval.note is not None
    assert "no straight line" in few.interval.note
    with pytest.raises(DditError, match="3 different subset sizes"):
        sets.frechet_infinity(x, sets.statistics(y), sizes=[100, 400])


def test_the_line_of_infinity() -> None:
    x = 1 / np.array([100.0, 200.0, 400.0])
    assert frechet._line(x, 7 + 30 * x, 0.95) == pytest.approx((7.0, 30.0, 0.0), abs=1e-6)
    intercept, slope, half = frechet._line(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 1.0]), 0.95)
    # By hand: slope 1/2, intercept 1/2; residual variance 3/2; error sqrt(3/2 (1/3 + 1/2)), t(1) = 12.706.
    assert (intercept, slope) == pytest.approx((0.5, 0.5))
    assert half == pytest.approx(12.706 * np.sqrt(1.5 * (1 / 3 + 1 / 2)), rel=1e-4)
