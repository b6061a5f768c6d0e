"""LAION's aesthetic score of a picture, 1 to 10, by the network of VBench's aesthetic quality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.metrics.checkpoints import AESTHETIC, CLIP_L14
from ddit_eval.metrics.metric import Column, Metric
from ddit_eval.metrics.pictures import clip_frames as clip
from ddit_eval.system.loading import loading

NETWORK = "CLIP ViT-L/14 (OpenAI) and the LAION linear head"


def linear_opinion(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LAION's linear head on normalised features: (T, D), (1, D), (1,) to (T,)."""
    return F.linear(F.normalize(features.float(), dim=1), weight.float(), bias.float())[:, 0]


@torch.no_grad()
def aesthetic_opinion(frames: Tensor) -> Tensor:
    """LAION's opinion of pictures, 1 to 10: (N, 3, H, W) in [0, 1] to (N,)."""
    head = AESTHETIC.load()
    features = clip.frame_features(clip.openai("ViT-L-14", CLIP_L14), frames)
    with loading(AESTHETIC.path(), "LAION's linear head"):
        return linear_opinion(features, head["weight"], head["bias"])


def missing() -> str | None:
    """What the score lacks here, or None."""
    return CLIP_L14.missing("aesthetic") or AESTHETIC.missing("aesthetic")


def _measure(pictures: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> dict[str, list[float]]:
    return {"aesthetic": aesthetic_opinion(pictures).tolist()}


METRIC = Metric(
    "aesthetic",
    (Column("aesthetic", "higher", None, None),),
    "pictures",
    _measure,
    source="LAION aesthetic predictor v1: a linear head on unit features, trained on scores of 1 to 10",
    network=NETWORK,
    note="opinions of photographs and paintings; of pictures of the captioned world it says little",
    weights=f"{CLIP_L14}, {AESTHETIC}",
    missing=missing,
)
