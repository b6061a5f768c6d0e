"""What a video metric is: one number a video, and what has to be said beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import Column, Role

if TYPE_CHECKING:
    from ddit_eval.metrics.films.frames import Video
    from ddit_eval.metrics.films.weights import Weights

VBENCH = "VBench (Huang et al., CVPR 2024, arXiv 2311.17982)"

# The loss that counts as none: one hundredth of a dimension, which is a cosine or a share of 1. How much
# moves and how it flickers are no qualities of their own, and have none: a still film would win.
MARGIN = 0.01

# What VBench measures each dimension with. Only a metric of the same network bears the dimension's name.
NETWORKS: dict[str, str | None] = {
    "temporal_flickering": None,
    "motion_smoothness": "AMT-S",
    "dynamic_degree": "RAFT (things)",
    "subject_consistency": "DINO ViT-B/16",
    "background_consistency": "CLIP ViT-B/32 (OpenAI)",
    "aesthetic_quality": "CLIP ViT-L/14 (OpenAI) and the LAION linear head",
    "imaging_quality": "MUSIQ (SPAQ)",
    "overall_consistency": "ViCLIP (InternVid-10M-FLT)",
}

# (video, prompt) -> the raw value
Measure: TypeAlias = "Callable[[Video, str], float]"


def _nothing() -> str | None:
    return None


@dataclass(frozen=True)
class VideoMetric:
    """A metric of videos; higher is better in all of them, and values are raw: `score` normalises.

    `least`: frames that it needs; `weights`: files that it looks for; `files`: what else it needs, as text;
    `lacks()`: what else it lacks here; `margin`: as of a `Column`.
    """

    name: str
    measure: Measure
    source: str
    network: str | None
    low: float = 0.0
    high: float = 1.0
    needs_prompt: bool = False
    least: int = 2  # frames
    note: str | None = None
    weights: tuple[Weights, ...] = ()
    files: str | None = None
    lacks: Callable[[], str | None] = _nothing
    margin: float | None = None

    direction: ClassVar[Literal["higher"]] = "higher"

    @property
    def column(self) -> Column:
        """Its one column: a score where it has a margin."""
        role: Role = "description" if self.margin is None else "score"
        return Column(self.name, self.direction, self.low, self.high, role=role, margin=self.margin)

    def missing(self) -> str | None:
        """None when the metric can run here, else what is missing and where it belongs."""
        lacking = (weights.missing(self.name) for weights in self.weights)
        return next((why for why in lacking if why), None) or self.lacks()

    def __call__(self, video: Video, prompt: str = "") -> float:
        """The value of one video. Raises `DditError` where something is missing or the video too short."""
        if why := self.missing():
            raise DditError(why)
        if self.needs_prompt and not prompt.strip():
            raise DditError(f"{self.name} compares a video with its prompt, and none was given")
        if len(video.frames) < self.least:
            raise DditError(f"{self.name} needs {self.least} frames, and the video has {len(video.frames)}")
        value = self.measure(video, prompt)
        if not math.isfinite(value):
            raise DditError(f"{self.name} is {value} for this video: its network gave no finite features")
        return value

    def values(self, videos: Sequence[Video], prompts: Sequence[str] = ()) -> list[float]:
        """One value a video, for `ddit_eval.stats.mean`. Sizes and frames must agree, as VBench's do."""
        if prompts and len(prompts) != len(videos):
            raise DditError(f"{self.name} needs one prompt a video: {len(prompts)} for {len(videos)}")
        shapes = sorted({tuple(v.frames.shape) for v in videos})
        if len(shapes) > 1:
            raise DditError(
                f"{self.name}: videos of one comparison must have one shape (T, 3, H, W), not {shapes[0]} "
                f"and {shapes[1]}; resize or cut them"
            )
        return [self(v, p) for v, p in zip(videos, prompts or [""] * len(videos), strict=True)]

    def describe(self) -> dict[str, Any]:
        """What a reader of the numbers must know (JSON)."""
        return {
            **self.column.describe(),
            "network": self.network,
            "weights": {one.file: one.found() for one in self.weights},
            "files": self.files,
            "n_note": self.note,
            "source": self.source,
        }


def name_of(dimension: str, network: str, label: str | None = None) -> str:
    """The dimension's own name if `network` is VBench's for it, else the name with `label` behind it.

    >>> name_of("motion_smoothness", "AMT-S")
    'motion_smoothness'
    >>> name_of("motion_smoothness", "RIFE 4.6", "rife")
    'motion_smoothness-rife'
    """
    if dimension not in NETWORKS:
        raise DditError(f"{dimension!r} is no dimension measured here; there are {', '.join(NETWORKS)}")
    if network == NETWORKS[dimension]:
        return dimension
    if not label:
        raise DditError(
            f"{dimension} bears that name only with {NETWORKS[dimension]}; for {network!r} give a label"
        )
    return f"{dimension}-{label}"
