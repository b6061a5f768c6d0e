"""What a film metric is: one number a film, and what has to be said beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ddit_eval.errors import DditError
from ddit_eval.metrics.checkpoints import Weights
from ddit_eval.metrics.films.frames import Film
from ddit_eval.metrics.metric import Column, Columns, Role, check_samples
from ddit_eval.metrics.pictures.aesthetic import NETWORK as AESTHETIC_NETWORK

if TYPE_CHECKING:
    from torch import Tensor

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
    "aesthetic_quality": AESTHETIC_NETWORK,
    "imaging_quality": "MUSIQ (SPAQ)",
    "overall_consistency": "ViCLIP (InternVid-10M-FLT)",
}


@dataclass(frozen=True)
class FilmMetric:
    """A metric of single films; higher is better in all of them, and values are raw: VBench's scale is not
    applied.

    `value_of`: a film and its prompt to its value. `least`: frames that it needs; `checkpoints`: weights
    that it looks for; `files`: what else it needs, as text; `lacks()`: what else it lacks here; `margin`: as
    of a `Column`.
    """

    name: str
    value_of: Callable[[Film, str], float]
    source: str
    network: str | None
    low: float = 0.0
    high: float = 1.0
    needs: Literal["prompts", "pictures"] = "pictures"
    least: int = 2  # frames
    note: str | None = None
    checkpoints: tuple[Weights, ...] = ()
    files: str | None = None
    lacks: Callable[[], str | None] = lambda: None
    margin: float | None = None

    of: ClassVar[Literal["films"]] = "films"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its one column: a score where it has a margin."""
        role: Role = "description" if self.margin is None else "score"
        return (Column(self.name, "higher", self.low, self.high, role=role, margin=self.margin),)

    @property
    def weights(self) -> str | None:
        """The files that it needs, in words."""
        return ", ".join(map(str, self.checkpoints)) or self.files

    def missing(self) -> str | None:
        """None when the metric can run here, else what is missing and where it belongs."""
        lacking = (one.missing(self.name) for one in self.checkpoints)
        return next((why for why in lacking if why), None) or self.lacks()

    def value(self, film: Film, prompt: str = "") -> float:
        """The value of one film. Raises `DditError` where something is missing or the film too short."""
        if why := self.missing():
            raise DditError(why)
        if self.needs == "prompts" and not prompt.strip():
            raise DditError(f"{self.name} compares a film with its prompt, and none was given")
        if len(film.frames) < self.least:
            raise DditError(f"{self.name} needs {self.least} frames, and the film has {len(film.frames)}")
        value = self.value_of(film, prompt)
        if not math.isfinite(value):
            raise DditError(f"{self.name} is {value} for this film: its network gave no finite features")
        return value

    def measure(self, films: Tensor, reference: Tensor | None = None, prompts: Sequence[str] = ()) -> Columns:
        """One value a film: (N, F, 3, H, W) in [0, 1]."""
        texts = prompts if self.needs == "prompts" else [""] * len(films)
        pairs = zip(films, texts, strict=True)
        return {self.name: [self.value(Film(frames), text) for frames, text in pairs]}

    def __call__(
        self, films: Tensor, reference: Tensor | None = None, prompts: Sequence[str] = ()
    ) -> Columns:
        """As a `Metric`'s. The rate of the films is not known, and all their frames count."""
        if why := self.missing():
            raise DditError(why)
        check_samples(self.name, self.of, self.needs, films, reference, prompts)
        return self.measure(films, reference, prompts)

    def describe(self) -> dict[str, dict[str, Any]]:
        """What a reader of the numbers must know, by column name (JSON)."""
        about = {
            "network": self.network,
            "weights": {one.file: one.found() for one in self.checkpoints},
            "files": self.files,
            "n_note": self.note,
            "source": self.source,
        }
        return {column.name: {**column.describe(), **about} for column in self.columns}


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
