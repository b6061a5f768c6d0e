"""`clip`: the CLIP score of whatever network the user names, through two variables of the environment.

    export DDIT_CLIP_CHECKPOINT=FOLDER                      # open_clip_config.json and weights
    export DDIT_CLIP_CHECKPOINT=FILE DDIT_CLIP_ARCHITECTURE=ViT-B-32/openai

In Python, `ddit_eval.metrics.pictures.clip_score.clip_metric(checkpoint, architecture)` is the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import Column, Metric
from ddit_eval.metrics.pictures.clip_score import MARGIN, SOURCE, clip_metric

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT, ARCHITECTURE = "DDIT_CLIP_CHECKPOINT", "DDIT_CLIP_ARCHITECTURE"
_WEIGHTS = f"what {CHECKPOINT} names (ViT-B-32/openai: 0.6 GB, no published hash)"
_UNNAMED = (
    f"clip: no network is named; set {CHECKPOINT} to the folder or weights file of an open_clip model "
    f"(and {ARCHITECTURE} for a file; ViT-B-32/openai is 0.6 GB, no published hash), "
    "or measure `clip-world`, the small CLIP that ships"
)


def chosen(environment: Mapping[str, str]) -> Metric:
    """The metric `clip` for these variables; without them it says what to set."""
    if checkpoint := environment.get(CHECKPOINT):
        return clip_metric(checkpoint, environment.get(ARCHITECTURE) or None)
    column = Column("clip", "higher", -100.0, 100.0, role="score", margin=MARGIN)
    return Metric(
        "clip", (column,), "prompts", _refuse, source=SOURCE, weights=_WEIGHTS, missing=lambda: _UNNAMED
    )


def _refuse(pictures: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> dict[str, list[float]]:
    raise DditError(_UNNAMED)


METRIC = chosen(os.environ)
