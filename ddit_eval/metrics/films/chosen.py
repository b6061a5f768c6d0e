"""Metrics of clips as `evaluate` takes them: values by column, one a clip. `get(name)` loads no weights.

VBench's dimensions, and the world's adherence in motion. Metrics of pictures are no part of this registry:
over a clip they are the mean over its frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ddit_eval.errors import DditError
from ddit_eval.metrics import films as video
from ddit_eval.metrics.films.motion_adherence import COLUMNS, motion_columns
from ddit_eval.metrics.metric import Column, Metric
from ddit_eval.metrics.pictures.adherence import MARGIN
from ddit_eval.metrics.pictures.reader_lpips import missing
from ddit_eval.metrics.weights import READER, shipped

if TYPE_CHECKING:
    from torch import Tensor

# clips (N, F, 3, H, W) in [0, 1] and their prompts -> one value a clip for each column
Measure: TypeAlias = "Callable[[Tensor, Sequence[str]], dict[str, list[float]]]"


@dataclass(frozen=True)
class ClipMetric:
    """A metric of clips; `about`: what a reader of the numbers must know, by column (JSON)."""

    name: str
    measure: Measure
    about: dict[str, dict[str, Any]]
    missing: Callable[[], str | None]

    def __call__(self, clips: Tensor, prompts: Sequence[str]) -> dict[str, list[float]]:
        if why := self.missing():
            raise DditError(why)
        return self.measure(clips, prompts)

    def describe(self) -> dict[str, dict[str, Any]]:
        return self.about


# Its description is made as that of any metric of the reader.
_MOTION = Metric(
    "motion-adherence",
    tuple(
        Column(name, "higher", 0.0, 1.0, role="adherence", rank=rank, margin=MARGIN)
        for rank, name in enumerate(COLUMNS, 1)
    ),
    "prompts",
    lambda clips, _, prompts: motion_columns(clips, prompts),
    source="objects read off each frame, and the way that each goes",
    network="world reader (shipped)",
    note="mean over the clips whose prompt asks; the reader's own errors are included",
    weights=shipped(READER),
    missing=missing,
)


def names() -> list[str]:
    """Names that `get` knows."""
    return [_MOTION.name, *video.names()]


def get(name: str) -> ClipMetric:
    """The metric of clips called `name`. Raises `DditError` for an unknown one."""
    if name == _MOTION.name:
        return ClipMetric(name, motion_columns, _MOTION.describe(), missing)
    if name not in video.names():
        raise DditError(f"unknown metric of clips {name!r}; there are {', '.join(names())}")
    metric = video.get(name)

    def measure(clips: Tensor, prompts: Sequence[str]) -> dict[str, list[float]]:
        return {name: metric.values([video.Video(clip) for clip in clips], prompts)}

    return ClipMetric(name, measure, {name: metric.describe()}, metric.missing)
