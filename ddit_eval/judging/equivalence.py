"""Which methods keep the quality: the loss is shown to be within a margin, not just not shown to be there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ddit_eval import stats
from ddit_eval.judging.results import Json, Results, coarse_share

ALPHA = 0.05
# The loss that still counts as none, from each metric's own scale and alike for all methods: one object in
# twenty; one hundredth of a cosine (CLIP is 100 times the cosine); one twentieth of SSIM's upper half; one
# twentieth of the standard deviation to which ImageReward is scaled; one hundredth of VBench's dimensions,
# which are cosines or shares of 1.
ACCURACY, CLIP, SSIM, REWARD, VBENCH = 0.05, 1.0, 0.05, 0.05, 0.01
# How much moves and how it flickers are no qualities of their own: a still clip would win.
VBENCH_QUALITY = (
    "subject_consistency", "background_consistency", "motion_smoothness", "overall_consistency",
    "aesthetic_quality", "imaging_quality",
)  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """One method on one metric: the equivalence test, its one-sided p and the difference's two-sided p,
    both adjusted by Holm over all methods and metrics of the same table."""

    method: str
    metric: str
    test: stats.Equivalence
    p_kept: float  # of: the loss is below the margin
    p_lost: float  # of: the difference is zero

    @property
    def verdict(self) -> str:
        """After Holm's adjustment: "kept", "lost" (a loss is shown that may exceed the margin) or "open"."""
        if self.test.non_inferior and self.p_kept < ALPHA:
            return "kept"
        return "lost" if self.p_lost < ALPHA and self.test.loss.value > 0 else "open"


def margin(metric: str) -> float | None:
    """The margin of a metric; None where no margin makes sense (a PSNR's is infinite at the base)."""
    if metric == "ssim":
        return SSIM
    if metric == "image-reward":
        return REWARD
    if metric == "clip" or metric.startswith("clip-"):
        return CLIP
    if _vbench(metric):
        return VBENCH
    adherence = metric in ("adherence", "object-frames") or metric.endswith("-accuracy")
    return ACCURACY if adherence else None


def _vbench(metric: str) -> bool:
    """Whether it is one of `VBENCH_QUALITY`, or its stand-in, which is named with a suffix."""
    return metric.startswith(VBENCH_QUALITY)


def judged_metrics(results: Results) -> list[str]:
    """What a verdict of "no loss" needs: prompt adherence, CLIP, ImageReward and of clips VBench's
    dimensions, as far as measured."""
    known = [m for m in results.quality["metrics"] if margin(m) is not None]
    adherence = [m for m in results.deciding() if m in known and m != "ssim"]
    scores = [m for m in known if m.startswith("clip") or m == "image-reward" or _vbench(m)]
    return adherence + [m for m in scores if m not in adherence]


def accelerated(results: Results) -> list[Json]:
    """The rows that cost less than the base."""
    return [r for r in results.rows if results.family(r) == "fewer steps" or coarse_share(r) > 0]


def keep(results: Results, metrics: Sequence[str] | None = None) -> list[Kept]:
    """Every accelerated method on every metric (by default the judged ones and SSIM) against the base,
    adjusted for their number."""
    names = metrics if metrics is not None else [*judged_metrics(results), *_ssim(results)]
    base = results.samples.get(results.quality["reference"], {})
    found = []
    for metric in names:
        within = margin(metric)
        for row in accelerated(results):
            ours = results.samples.get(row["method"], {}).get(metric)
            if within is None or ours is None or metric not in base or len(ours) != len(base[metric]):
                continue
            lower = results.direction(metric) == "lower"
            test = stats.equivalence(ours, base[metric], within, "lower" if lower else "higher")
            loss = ours - base[metric] if lower else base[metric] - ours
            p = (stats.p_value(loss, within, "less"), stats.p_value(loss))
            found.append(Kept(row["method"], metric, test, *p))
    kept, lost = (stats.holm([getattr(k, name) for k in found]) for name in ("p_kept", "p_lost"))
    return [replace(k, p_kept=a, p_lost=b) for k, a, b in zip(found, kept, lost, strict=True)]


def _ssim(results: Results) -> list[str]:
    return ["ssim"] if "ssim" in results.quality["metrics"] else []


def fastest_kept(results: Results, found: Sequence[Kept], family: str) -> tuple[str, stats.Interval] | None:
    """The fastest method of a family that is faster than the base (by its interval) and keeps every judged
    metric; None where none does."""
    needed = set(judged_metrics(results))
    fast: list[tuple[str, stats.Interval]] = []
    for row in accelerated(results):
        kept = {k.metric for k in found if k.method == row["method"] and k.verdict == "kept"}
        speed = results.speed(row)
        faster = speed is not None and speed.low > 1 and math.isfinite(speed.value)
        if needed and needed <= kept and faster and results.family(row) == family:
            assert speed is not None
            fast.append((row["method"], speed))
    return max(fast, key=lambda pair: pair[1].value, default=None)
