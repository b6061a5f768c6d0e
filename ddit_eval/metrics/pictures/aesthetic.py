"""LAION's aesthetic score of a picture, 1 to 10, by the network of VBench's aesthetic quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddit_eval.metrics.films.metric import NETWORKS
from ddit_eval.metrics.films.weights import AESTHETIC, CLIP_L14
from ddit_eval.metrics.metric import Column, Metric

if TYPE_CHECKING:
    from torch import Tensor


def missing() -> str | None:
    """What the score lacks here, or None."""
    return CLIP_L14.missing("aesthetic") or AESTHETIC.missing("aesthetic")


def _measure(pictures: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> dict[str, list[float]]:
    from ddit_eval.metrics.films.quality import aesthetic_opinion

    return {"aesthetic": aesthetic_opinion(pictures).tolist()}


METRIC = Metric(
    "aesthetic",
    (Column("aesthetic", "higher", None, None),),
    "pictures",
    _measure,
    source="LAION aesthetic predictor v1: a linear head on unit features, trained on scores of 1 to 10",
    network=NETWORKS["aesthetic_quality"],
    note="opinions of photographs and paintings; of pictures of the captioned world it says little",
    weights=f"{CLIP_L14}, {AESTHETIC}",
    missing=missing,
)
