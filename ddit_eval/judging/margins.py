"""The loss that still counts as none: the metrics' own margins, others by name, or some of one's own.

`own`: what stands on each metric's column. `strict`: half of that. `mlperf`: as MLPerf Inference asks, of
text to image a Fréchet distance within 2 % and a CLIP score within 0.2 % of the base's, gain and loss alike,
and of video at least 99 % of the base's in VBench's dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ddit_eval.errors import DditError
from ddit_eval.schema.quality import Column, Quality
from ddit_eval.stats import Floats

Margins = str | Mapping[str, float]

NAMES = {"own": "", "strict": "half the usual margins: ", "mlperf": "the margins of MLPerf: "}
FRECHET, CLIP, VBENCH = 0.02, 0.002, 0.01  # shares of the base's


@dataclass(frozen=True)
class Margin:
    """`size`: in the metric's unit; `share`: of the base's mean, where it is said so. `two_sided`: a gain
    may not exceed it either."""

    size: float
    share: float | None = None
    two_sided: bool = False

    def __str__(self) -> str:
        amount = f"{self.size:g}" if self.share is None else f"{100 * self.share:g} %"
        return f"±{amount}" if self.two_sided else amount


def margin_of(margins: Margins, metric: str, column: Column, base: Floats | None) -> Margin | None:
    """That of a metric with a value for each prompt; None where it has none. `base`: its values there."""
    if margins == "mlperf":
        clip, asked = metric.split("-")[0] == "clip", () if base is None else base[~np.isnan(base)]
        share = CLIP if clip else VBENCH if column.source.startswith("VBench") else 0.0
        return (
            _of_share(share, float(np.mean(asked)), clip) if column.role == "score" and len(asked) else None
        )
    size = margins.get(metric, column.margin) if isinstance(margins, Mapping) else column.margin
    if size is None:
        return None
    return Margin(size / 2 if margins == "strict" else size)


def margin_of_set(margins: Margins, metric: str, base: float) -> Margin | None:
    """That of a distance of whole sets, whose value for the base is `base`."""
    frechet = metric.split("-")[0] == "frechet" and "infinity" not in metric
    if isinstance(margins, Mapping):
        return Margin(margins[metric]) if metric in margins else None
    return _of_share(FRECHET, base, two_sided=True) if margins == "mlperf" and frechet else None


def _of_share(share: float, base: float, two_sided: bool) -> Margin | None:
    size = share * abs(base)
    return Margin(size, share, two_sided) if 0 < size < math.inf else None


def check_margins(margins: Margins, quality: Quality) -> None:
    """Refuse a margin of a metric that was not measured; raises `DditError` that names those which were."""
    known = [*quality.metrics, *dict.fromkeys(row.metric for row in quality.sets)]
    for metric in margins if isinstance(margins, Mapping) else ():
        if metric not in known:
            raise DditError(f"margins: {metric!r} was not measured; there are {', '.join(known)}")


def set_column(quality: Quality, metric: str) -> Column:
    """What a reader must know of a distance of whole sets, as of a metric."""
    row = next(row for row in quality.sets if row.metric == metric)
    return Column(
        direction=row.direction, range=(None, None), network=row.network, source=row.source,
        title=metric.replace("-", " "), unit="", digits=3, role="score", rank=0, margin=None,
    )  # fmt: skip
