"""Intervals over prompts: bootstrap means, paired differences, ratios of times, equivalence.

The prompt is the unit that is resampled: pictures and schedules of one prompt are alike, so several
seeds or rounds of a prompt are averaged first. Intervals are expanded percentile bootstraps
(Hesterberg 2015, "What Teachers Should Know About the Bootstrap", The American Statistician 69(4)):
percentile intervals whose tails are widened so that, for few samples, the length agrees with
Student's t; the plain percentile interval is too short for the 8 to 32 prompts of a quick run.

Three values need care, and nothing is hidden:

* ``nan`` means *not asked for* (a prompt without a relation has no relation accuracy). Such samples
  are left out and `Interval.n` counts the rest. A measure that failed must raise, not return nan.
* ``inf`` is a result (PSNR of identical pictures). The interval is that of the finite samples and
  `Interval.infinite` counts the others; when every sample is infinite, so is the interval.
* One sample has no interval: its ends are nan, so that it decides nothing. Samples all alike give one
  without width; `Interval.note` says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BeforeValidator, PlainSerializer
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from ddit_eval.errors import DditError

Floats = NDArray[np.float64]
Direction = Literal["higher", "lower"]

RESAMPLES = 10_000
ALPHA = 0.05  # below which a p-value, adjusted by Holm, decides
POWER = 0.8  # the chance that a planned test shows what is so
CAP = 100.0  # dB, for an infinite PSNR where a number is needed; 8-bit pictures that differ stay below 90
_CHUNK = 1 << 22  # random indices held at a time


def number_to_json(value: float) -> float | str | None:
    """A float as valid JSON: inf is "inf", -inf is "-inf", nan is null."""
    if math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def number_from_json(value: float | str | None) -> float:
    """The inverse of `number_to_json`; raises ValueError for what it does not write."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not (isinstance(value, int | float) or value in ("inf", "-inf")):
        raise ValueError(f'{value!r} is not a number, "inf", "-inf" or null')
    try:
        return float(value)
    except OverflowError:
        raise ValueError("the number is too large") from None


# A float as result files hold it.
Number = Annotated[float, BeforeValidator(number_from_json), PlainSerializer(number_to_json)]


@dataclass(frozen=True)
class Interval:
    """A value with its interval. `n`: samples used; `infinite`: samples that were +-inf."""

    value: Number
    low: Number
    high: Number
    n: int = 0
    infinite: int = 0
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """`value`, `low`, `high` (an infinity as the string "inf", an absent value as null) and `n`;
        `infinite` and `note` only where there is something to say."""
        out: dict[str, Any] = {k: number_to_json(getattr(self, k)) for k in ("value", "low", "high")}
        out["n"] = self.n
        if self.infinite:
            out["infinite"] = self.infinite
        if self.note:
            out["note"] = self.note
        return out

    def scaled(self, factor: float, shift: float = 0.0) -> Interval:
        """`factor * x + shift` of value and ends; `factor` is positive."""
        ends = [factor * x + shift for x in (self.value, self.low, self.high)]
        return replace(self, value=ends[0], low=ends[1], high=ends[2])

    def __str__(self) -> str:
        tail = f" ({self.infinite} infinite)" if self.infinite else ""
        alone = self.n and math.isnan(self.low)
        ends = ", n = 1" if alone else f" [{self.low:.4g}, {self.high:.4g}]"
        return f"{self.value:.4g}{ends}{tail}"


@dataclass(frozen=True)
class Equivalence:
    """Whether a loss stays within a margin. `loss` is positive where the method is worse and its
    interval is at level 1 - 2 `ALPHA` (90 %), as two one-sided tests need."""

    loss: Interval
    margin: float
    non_inferior: bool  # the loss is below the margin
    equivalent: bool  # the loss and the gain are both below the margin

    def to_json(self) -> dict[str, Any]:
        return {
            "loss": self.loss.to_json(),
            "margin": self.margin,
            "non_inferior": self.non_inferior,
            "equivalent": self.equivalent,
        }


def mean(values: ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of one value a prompt, with its bootstrap interval."""
    sample = _vector(values)
    sample = sample[~np.isnan(sample)]
    if not sample.size:
        return Interval(math.nan, math.nan, math.nan, note="no sample asks for this")
    finite = sample[np.isfinite(sample)]
    infinite = sample.size - finite.size
    if not finite.size:
        value = float(sample.sum())  # of both signs: nan
        return Interval(value, value, value, sample.size, infinite, "every sample is infinite")
    note = f"mean of the {finite.size} finite samples; {infinite} infinite" if infinite else None
    centre = float(finite.mean())
    if np.ptp(finite) == 0:
        why = "one sample: no interval" if finite.size == 1 else "all samples are equal"
        note = f"{note}; {why}" if note else why
        end = math.nan if finite.size == 1 else float(finite[0])
        return Interval(float(finite[0]), end, end, sample.size, infinite, note)
    tail = _expanded_tail(finite.size, level)
    low, high = np.quantile(_resampled_means(finite, resamples, seed), [tail, 1 - tail])
    return Interval(centre, float(low), float(high), sample.size, infinite, note)


def paired_difference(
    values: ArrayLike, reference: ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """The mean of `values - reference`, prompt by prompt. Two equal infinities differ by 0."""
    ours, theirs = _pair(values, reference)
    with np.errstate(invalid="ignore"):
        difference = np.where(ours == theirs, 0.0, ours - theirs)
    return mean(difference, level=level, resamples=resamples)


def geometric_ratio(numerator: ArrayLike, denominator: ArrayLike, *, seed: int = 0) -> Interval:
    """Geometric mean of paired ratios, bootstrapped over prompts.

    Both are (prompts,) or (prompts, rounds), positive; rounds of a prompt are averaged in log space,
    so that the value of `numerator / denominator` is exactly one over that of the reverse.
    """
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if above.shape != below.shape or above.ndim not in (1, 2) or not above.size:
        raise DditError(f"paired ratios need equal shapes (prompts[, rounds]): {above.shape}, {below.shape}")
    if not (np.isfinite(above).all() and np.isfinite(below).all() and min(above.min(), below.min()) > 0):
        raise DditError("paired ratios need positive, finite values (seconds, tokens or FLOPs)")
    logs = (np.log(above) - np.log(below)).reshape(len(above), -1).mean(1)
    inner = mean(logs, seed=seed)
    return Interval(math.exp(inner.value), math.exp(inner.low), math.exp(inner.high), inner.n, 0, inner.note)


def equivalence(
    values: ArrayLike,
    reference: ArrayLike,
    margin: float,
    direction: Direction = "higher",
    *,
    resamples: int = RESAMPLES,
) -> Equivalence:
    """Two one-sided tests (Schuirmann 1987) by bootstrap interval: is the loss within the margin?

    `direction` says which way the measure is better. A degenerate or empty interval decides nothing
    unless there are at least two samples.
    """
    if not margin > 0 or not math.isfinite(margin):
        raise DditError(f"the margin must be a positive number, not {margin}")
    ours, theirs = _pair(values, reference)
    better, worse = (ours, theirs) if direction == "lower" else (theirs, ours)
    loss = paired_difference(better, worse, level=1 - 2 * ALPHA, resamples=resamples)
    # Infinite differences are no part of the interval, so they forbid a verdict of "no loss".
    decidable = loss.n > 1 and loss.infinite == 0
    below, above = loss.high < margin, loss.low > -margin
    return Equivalence(loss, margin, decidable and below, decidable and below and above)


def p_value(
    values: ArrayLike,
    null: float = 0.0,
    alternative: Literal["two-sided", "less", "greater"] = "two-sided",
    *,
    resamples: int = RESAMPLES,
) -> float:
    """The chance of a mean as far from `null`: the interval of `mean` turned round.

    p < 1 - level where that interval leaves `null` out; where no resampled mean lies beyond `null`, the tail
    is a normal one of the resampled means' width. `values`: one a prompt; `alternative`: where the mean is
    if not at `null`. nan with fewer than two samples, 1 where infinite ones leave the mean undecided.
    """
    sample = _vector(values)
    sample = sample[~np.isnan(sample)]
    if sample.size < 2:
        return math.nan
    if not np.isfinite(sample).all():
        return 1.0
    means = _resampled_means(sample, resamples, 0)
    n = sample.size
    width = float(means.std()) or abs(float(sample[0]) - null) / 4  # all alike: beyond chance, not certain
    far = float(ndtr(-abs(float(sample.mean()) - null) / width)) if width else 1.0
    least = min(1 / (resamples + 1), far)
    below = _unexpanded(max(least, float(np.mean(means <= null))), n)  # p of "greater"
    above = _unexpanded(max(least, float(np.mean(means >= null))), n)  # p of "less"
    one_sided = {"greater": below, "less": above, "two-sided": 2 * min(below, above)}
    return min(1.0, one_sided[alternative])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979, Scandinavian Journal of Statistics 6(2)): each p, times the number
    of hypotheses not yet rejected, never below a smaller one's. nan (not tested) stays nan and is not
    counted."""
    tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    so_far = 0.0
    for rank, (p, i) in enumerate(tested):
        if not 0 <= p <= 1:
            raise DditError(f"a p-value lies in 0..1, not {p}")
        so_far = max(so_far, min(1.0, p * (len(tested) - rank)))
        adjusted[i] = so_far
    return adjusted


def power_margin(
    sd: float, n: int, *, alpha: float = ALPHA, power: float = POWER, two_sided: bool = False
) -> float:
    """The smallest margin that `n` paired differences of this standard deviation show with that `power`,
    where there is no difference at all: (t(1 - alpha) + t(power)) sd / sqrt(n), Student's t with n - 1
    degrees of freedom (Chow, Shao and Wang 2008, section 3.1). `alpha`: one-sided; `two_sided`: gain and loss
    both within the margin. nan for fewer than two.
    """
    if n < 2 or not math.isfinite(sd):
        return math.nan
    beta = (1 - power) / (2 if two_sided else 1)
    return float((stdtrit(n - 1, 1 - alpha) + stdtrit(n - 1, 1 - beta)) * sd / math.sqrt(n))


def prompts_needed(
    sd: float, margin: float, *, alpha: float = ALPHA, power: float = POWER, two_sided: bool = False
) -> int:
    """The inverse of `power_margin`: how many prompts show that margin."""
    beta = (1 - power) / (2 if two_sided else 1)
    n = max(2, math.ceil(((ndtri(1 - alpha) + ndtri(1 - beta)) * sd / margin) ** 2))  # by normal quantiles
    while power_margin(sd, n, alpha=alpha, power=power, two_sided=two_sided) > margin:
        n += 1
    return n


def normal_p(interval: Interval, null: float, alternative: Literal["two-sided", "less", "greater"]) -> float:
    """As `p_value`, where all that is left of the samples is their 95 % interval: by a normal one of its
    width."""
    width = (interval.high - interval.low) / (2 * float(ndtri(0.975)))
    below = float(ndtr((interval.value - null) / max(width, 1e-300)))
    above = 1 - below
    return {"less": below, "greater": above, "two-sided": 2 * min(below, above)}[alternative]


def note_of_many(count: int, level: float = 0.95) -> str | None:
    """What has to be said beside `count` intervals that were computed each on its own; None for one."""
    if count < 2:
        return None
    return (
        f"{count} intervals of {level:.0%} each, not corrected for their number: by chance alone about "
        f"{(1 - level) * count:.1f} of them miss their value"
    )


def _vector(values: ArrayLike) -> Floats:
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1:
        raise DditError(f"one value a sample is needed, a vector; got shape {sample.shape}")
    return sample


def _pair(values: ArrayLike, reference: ArrayLike) -> tuple[Floats, Floats]:
    ours, theirs = _vector(values), _vector(reference)
    if len(ours) != len(theirs):
        raise DditError(f"paired samples need the same prompts: {len(ours)} values against {len(theirs)}")
    return ours, theirs


def _expanded_tail(n: int, level: float) -> float:
    """The quantile whose percentile interval has the length of Student's t (Hesterberg 2015)."""
    return float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + level) / 2)))


def _unexpanded(share: float, n: int) -> float:
    """The inverse of `_expanded_tail`: from a share of resampled means to Student's one-sided p."""
    if share >= 1:
        return 1.0
    return float(stdtr(n - 1, ndtri(share) / math.sqrt(n / (n - 1))))


def _resampled_means(sample: Floats, resamples: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // sample.size)
    parts = [
        sample[rng.integers(sample.size, size=(min(rows, resamples - start), sample.size))].mean(1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(parts)
