"""Bootstrap intervals of measures of a whole set, by weights instead of copies of the features.

A `Measure` takes weights (B, n), one row a resample and one column a sample of the set, and returns
(B, C): one row a resample, one column a value. Weights are counts: how often a sample was drawn.
Weights of one are the set as it is. The reference set is fixed: its own sampling is not covered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from ddit_eval.errors import DditError
from ddit_eval.stats import Interval

if TYPE_CHECKING:
    from torch import Tensor

Measure: TypeAlias = "Callable[[Tensor], Tensor]"

RESAMPLES = 200
LEVEL = 0.95  # of intervals


def draw_weights(n: int, resamples: int, seed: int = 0, groups: Sequence[Hashable] | None = None) -> Tensor:
    """Counts of a bootstrap over samples: float64 (resamples, n).

    `groups`: what is resampled, one name a sample (the prompt, where it has several seeds): the samples
    of a group are drawn together.
    """
    names = list(range(n)) if groups is None else list(groups)
    if len(names) != n:
        raise DditError(f"{len(names)} groups for {n} samples: name one group a sample")
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    if len(number) < 2:
        raise DditError(f"a bootstrap needs at least 2 samples or groups, not {len(number)}: add pictures")
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(number), np.full(len(number), 1 / len(number)), size=resamples)
    return torch.from_numpy(counts[:, [number[name] for name in names]].astype(np.float64))


def bootstrap(measure: Measure, n: int, *, resamples: int = RESAMPLES) -> list[Interval]:
    """Each column's value with the interval of its spread over resamples of the n samples.

    The quantiles are those of the resamples around *their* mean, moved to the value. A measure that is
    biased in n, as a Fréchet distance is, has its bias once more in every resample, so that plain
    percentiles would lie above the value, and reflected ones far below. What remains is the spread at
    this n; the bias is not covered, and `Interval.note` tells how large the bootstrap sees it.

    In a simulation (120 sets of 120 samples of 4 Gaussian features), 95 % intervals held the mean over new
    sets in 92 to 96 % of draws, those of coverage in 88 to 91 %. Where both sets are of one distribution,
    those of Fréchet distance and KID are too wide and always held it.
    """
    weights = draw_weights(n, resamples)
    return intervals(measure(torch.ones(1, n, dtype=torch.float64))[0], measure(weights), n)


def intervals(values: Tensor, resampled: Tensor, n: int) -> list[Interval]:
    """Intervals of columns: the values (C,) of the whole set and those of its resamples (B, C)."""
    if not bool(resampled.isfinite().all()):
        raise DditError(f"{n} samples are too few for a bootstrap of this measure: add pictures")
    shift = resampled.mean(0) - values
    deviations = resampled - resampled.mean(0)
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64, device=values.device)
    low, high = torch.quantile(deviations, tails, dim=0)
    return [
        Interval(float(v), float(v + a), float(v + b), n, 0, _note(float(s), float(b - a)))
        for v, a, b, s in zip(values, low, high, shift, strict=True)
    ]


def _note(shift: float, width: float) -> str | None:
    """Said where the bias that the bootstrap sees is more than a tenth of the interval's width."""
    if width == 0:
        return "all resamples are equal"
    if abs(shift) < 0.1 * width:
        return None
    return f"the bias in n is not covered by the interval; resamples show {shift:+.3g}"
